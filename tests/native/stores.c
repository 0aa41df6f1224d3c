/* Bad schedules of stores in memory that another value had, forced as those of schedules.c.
 *
 * usage: as of schedules */
#include "stamped.h"

/* The parts end within pages, as those of a pickle do. */
static struct range *open_stored(int version) {
    struct range *range;
    size_t len = pages * os_page_size, cut = len / 3 + 5;
    char *bytes = malloc(len);
    for (size_t i = 0; i < pages; i++) memset(bytes + i * os_page_size, stamp(i, version), os_page_size);
    struct part parts[] = {{bytes, 0}, {bytes, cut}, {bytes + cut, 7}, {bytes + cut + 7, len - cut - 7}};
    CHECK(!range_open_stored(parts, 4, true, RANGE_DUMP, "stored", false, &range));
    free(bytes);
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

/* ---- main ------------------------------------------------------------------------------------------------------------------------- */

static const struct schedule schedules[] = {
    SCHEDULE(stored_while_reclaim_works),
    SCHEDULE(kept_while_a_peek_lives),
    SCHEDULE(kept_over_a_fork),
};

int main(int count, char **arguments) { return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments); }
