/* Bad schedules of stores in memory that another value had, forced as those of schedules.c.
 *
 * usage: as of schedules */
#include "protocol/linger.h"
#include "stamped.h"

/* The parts end within pages, as those of a pickle do. */
static struct range *open_any(int version) {
    struct range *range;
    size_t len = pages * os_page_size, cut = len / 3 + 5;
    char *bytes = malloc(len);
    for (size_t i = 0; i < pages; i++) memset(bytes + i * os_page_size, stamp(i, version), os_page_size);
    struct part parts[] = {{bytes, 0}, {bytes, cut}, {bytes + cut, 7}, {bytes + cut + 7, len - cut - 7}};
    CHECK(!range_open_stored(parts, 4, true, RANGE_DUMP, "stored", false, &range));
    free(bytes);
    return range;
}

static struct range *open_stored(int version) {
    struct range *range = open_any(version);
    CHECK(range->marked && !range->refusal);
    return range;
}

static void close_and_keep(struct range *range) {
    CHECK(range_is_valid(range));
    atomic_fetch_add(&range->users, 1);
    CHECK(!range_close_and_keep(range));
}

static char *kept;
static void purge_some_kept(void) { os_reclaim_all(kept + 3 * os_page_size, 2 * os_page_size); }
static void purge_all_kept(void) { os_reclaim_all(kept, pages * os_page_size); }

/* What is kept is purged before the store looks, and again between its look and its copy. */
static void stored_while_reclaim_works(void) {
    struct range *range = open_stored(0);
    for (int round = 1; round < 5; round++) {
        check_whole(range, round - 1);
        kept = range->base;
        close_and_keep(range);
        if (round > 1) purge_some_kept();
        if (round != 2) once_scanned = round == 4 ? purge_all_kept : purge_some_kept;
        range = open_stored(round);
        CHECK(range->base == kept && !once_scanned);
        CHECK(!range->generation && !range_any_lost(range, 0, range->nbytes));
    }
    check_whole(range, 4);
    lose(range, 2, 1);
    CHECK(!range_survey(range) && page_lost(range, 2) && !page_lost(range, 3));
    end_and_close(range);
}

/* A peek of the old value is open: its memory is not handed on. A shorter value in kept memory: what it does not reach is gone. */
static void kept_while_a_peek_lives(void) {
    struct range *range = open_stored(0);
    struct peek peek;
    CHECK(begin(&peek, range) == PEEK_WHOLE);
    atomic_fetch_add(&range->users, 1);
    CHECK(range_close_and_keep(range) == EBUSY);
    atomic_fetch_sub(&range->users, 1);
    struct range *next = open_stored(1);
    CHECK(next->base != range->base);
    CHECK(same(range, 1, 0) && end(&peek) == PEEK_WHOLE);
    end_and_close(next);
    close_and_keep(range);
    CHECK(range_give_back_kept() && !range_give_back_kept());
}

/* Of what is kept a child has nothing, and what it would need its parent's watch for. */
static void kept_over_a_fork(void) {
    struct range *range = open_stored(0);
    kept = range->base;
    close_and_keep(range);
    pid_t child = fork();
    CHECK(child >= 0);
    CHECK(!range_give_back_kept());
    range = open_stored(1);
    check_whole(range, 1);
    if (!child) _exit(0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && !status);
    end_and_close(range);
}

static void nobody_marks(void *unused) { (void)unused; }

/* A thread that has the signal blocked gets memory that lingered, of which nothing can go. It is marked there and then, and goes at once: to read it, so
 * that it is young, would kill. Memory that is marked is for others. */
static void stored_with_the_signal_blocked(void) {
    linger_worked_by(nobody_marks);
    linger_allow((size_t)1 << 30);
    close_and_keep(open_any(0)); /* a large one is watched from its first mark on */
    struct range *range = open_any(0);
    CHECK(range->lingers);
    kept = range->base;
    close_and_keep(range);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGBUS);
    CHECK(!pthread_sigmask(SIG_BLOCK, &mask, NULL));
    linger_allow(0);
    once_freed = purge_some_kept;
    range = open_stored(1);
    CHECK(range->base == kept && !once_freed);
    CHECK(!range_survey(range) && page_lost(range, 3) && page_lost(range, 4) && !page_lost(range, 2) && !page_lost(range, 5));
    close_and_keep(range);
    struct range *next = open_stored(2);
    CHECK(next->base != kept);
    end_and_close(next);
    CHECK(!pthread_sigmask(SIG_UNBLOCK, &mask, NULL));
    range = open_stored(3);
    CHECK(range->base == kept);
    end_and_close(range);
}

/* ---- main ------------------------------------------------------------------------------------------------------------------------- */

static const struct schedule schedules[] = {
    SCHEDULE(stored_while_reclaim_works),
    SCHEDULE(kept_while_a_peek_lives),
    SCHEDULE(kept_over_a_fork),
    SCHEDULE(stored_with_the_signal_blocked),
};

int main(int count, char **arguments) { return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments); }
