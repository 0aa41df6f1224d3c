/* Bad schedules, forced: a thread is stopped between two steps of the core, at a call to the system layer, while another one does what must
 * not go wrong just then. The arguments that these schedules try are in range.h.
 *
 * usage: schedules            prints the names
 *        schedules NAME       exits 0, or 1 and says where it went wrong, or 3 where userfaultfd is not to be had */
#include "stamped.h"

/* 1: the trap has mapped a zero page and not noted it; a pin finds the page present. */
static void repair_then_pin_then_note(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *mapped = stop_at(READER, ZERO, AFTER);
    struct task reader = {.page = 2}, other = {.page = 2};
    start(&reader, READER, range, peek_at_page);
    until_there(mapped);
    start(&other, OTHER, range, pin);
    CHECK(waits(&other));
    let_go(mapped);
    join(&other);
    join(&reader);
    CHECK(!other.err && other.lost);
    CHECK(reader.seen == 0 && reader.verdict == PEEK_LOST);
    CHECK(page_lost(range, 2) && !page_lost(range, 1) && !page_lost(range, 3));
    rebuild(range, 1);
    check_whole(range, 1);
    end_and_close(range);
}

/* 1, the other way: the trap has not mapped anything yet; a pin settles the loss and a rebuild fills the page. */
static void pin_while_a_trap_waits(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *missing = stop_at(READER, ZERO, BEFORE);
    struct task reader = {.page = 2}, other = {.page = 2};
    start(&reader, READER, range, peek_at_page);
    until_there(missing);
    start(&other, OTHER, range, pin_and_rebuild);
    CHECK(waits(&other));
    let_go(missing);
    join(&other);
    join(&reader);
    CHECK(!other.err && other.lost);
    CHECK(reader.verdict != PEEK_WHOLE);
    check_whole(range, 1);
    end_and_close(range);
}

/* 1 and 2: the loss is known and the page missing; a hold has found nothing else amiss and no trap under way, and is about to settle. A trap
 * maps the page first, and notes it when a writer has long filled it: whole data would be called lost. */
static void late_note(void) {
    struct range *range = open_filled();
    struct task reader = {.page = 2}, other = {.page = 2};
    struct stop *trapped = stop_at(READER, ZERO, AFTER), *settling;
    CHECK(begin(&reader.peek, range) == PEEK_WHOLE); /* before the loss is known, so it need not ask for the lock */
    lose(range, 2, 1);
    CHECK(!range_survey(range) && page_lost(range, 2));
    settling = stop_at(OTHER, range->small ? ZERO : UNWATCH, BEFORE);
    start(&other, OTHER, range, pin_and_rebuild);
    until_there(settling);
    start(&reader, READER, range, touch_page);
    until_there(trapped);
    let_go(settling);
    CHECK(waits(&other));
    let_go(trapped);
    join(&other);
    join(&reader);
    CHECK(!other.err && other.lost);
    CHECK(end(&reader.peek) != PEEK_WHOLE);
    CHECK(!atomic_load(&range->notes));
    CHECK(!range_survey(range));
    check_whole(range, 1);
    end_and_close(range);
}

/* A trap fills a page, populate makes a real page of it before its note is folded, and a partial hold marks it again: it is lost, real and
 * volatile. */
static struct range *open_with_a_real_page_lost(size_t page) {
    struct range *range = open_filled();
    lose(range, page, 1);
    struct stop *mapped = stop_at(READER, ZERO, AFTER), *populated = stop_at(OTHER, POPULATE, AFTER);
    struct task reader = {.page = page}, other = {.page = page};
    start(&reader, READER, range, peek_at_page);
    until_there(mapped);
    start(&other, OTHER, range, read_all);
    until_there(populated);
    let_go(mapped);
    let_go(populated);
    join(&other);
    join(&reader);
    CHECK(other.err == EFAULT && reader.verdict == PEEK_LOST && page_lost(range, page));
    return range;
}

/* The next pin must hold it like any other, and outside of any peek: a missing page would kill. */
static void pin_and_touch_with_lost(struct range *range, size_t page) {
    CHECK(!range_pin(range, false));
    for (int i = 0; i < 4; i++) os_pageout(range->base, range->mapped);
    CHECK(page_holds(range, page, 0));
    for (size_t i = 0; i < pages; i++) CHECK(i == page || same(range, i, 0));
    range_unpin(range, false);
    rebuild(range, 1);
    check_whole(range, 1);
    end_and_close(range);
}

static void a_real_page_among_the_lost(void) { pin_and_touch_with_lost(open_with_a_real_page_lost(2), 2); }

/* And it is purged while the pin settles the loss: after whatever comes before the scan for real pages, or after that scan. */
static struct range *settling;
static void purge_page_2(void) { os_reclaim_all(settling->base + 2 * os_page_size, os_page_size); }

static void a_real_page_purged_in_settling(void) {
    for (int after = 0; after < 2; after++) {
        settling = open_with_a_real_page_lost(2);
        *(after ? &once_scanned : &before_a_scan) = purge_page_2;
        pin_and_touch_with_lost(settling, 2);
        CHECK(!before_a_scan && !once_scanned);
    }
}

/* 2: a second peek reads a page that an earlier one's repair has filled: no trap comes. */
static void second_peek_reads_repaired_zeros(void) {
    struct range *range = open_filled();
    struct peek first, second, third;
    CHECK(begin(&first, range) == PEEK_WHOLE && begin(&second, range) == PEEK_WHOLE);
    lose(range, 2, 1);
    CHECK(touch(range, 2) == 0 && touch(range, 2) == 0);
    CHECK(range_peek_begin(&third, range, 0, range->nbytes) == PEEK_UNSURE);
    CHECK(range_peek_begin_carefully(&third, range, 0, os_page_size) == PEEK_WHOLE); /* its window is whole */
    CHECK(end(&second) == PEEK_LOST);
    CHECK(end(&first) == PEEK_LOST);
    CHECK(end(&third) == PEEK_WHOLE);
    CHECK(begin(&third, range) == PEEK_LOST);
    rebuild(range, 1);
    check_whole(range, 1);
    end_and_close(range);
}

/* 2, in the middle of the trap: the zero page is mapped, the note not made, and another peek reads the zeros and ends. */
static void peek_ends_between_repair_and_note(void) {
    struct range *range = open_filled();
    struct task reader = {.page = 2}, other = {.page = 2};
    CHECK(begin(&other.peek, range) == PEEK_WHOLE);
    lose(range, 2, 1);
    struct stop *mapped = stop_at(READER, ZERO, AFTER);
    start(&reader, READER, range, peek_at_page);
    until_there(mapped);
    CHECK(touch(range, 2) == 0);
    start(&other, OTHER, range, end_peek);
    CHECK(waits(&other));
    let_go(mapped);
    join(&other);
    join(&reader);
    CHECK(other.verdict == PEEK_LOST && reader.verdict == PEEK_LOST);
    end_and_close(range);
}

/* 3: a page is lost and rebuilt inside a peek: nothing is missing at its end. */
static void lost_and_rebuilt_inside_a_peek(void) {
    struct range *range = open_filled();
    struct peek peek;
    struct task other = {.page = pages - 1};
    CHECK(begin(&peek, range) == PEEK_WHOLE);
    CHECK(touch(range, 0) == stamp(0, 0));
    lose(range, 1, pages - 1);
    start(&other, OTHER, range, pin_and_rebuild);
    join(&other);
    CHECK(other.lost);
    CHECK(touch(range, pages - 1) == stamp(pages - 1, 1));
    CHECK(end(&peek) == PEEK_OVERWRITTEN);
    check_whole(range, 1);
    end_and_close(range);
}

/* 4: a writer comes and goes inside a peek, or is there when it begins or ends. */
static void written_inside_a_peek(void) {
    struct range *range = open_filled();
    struct peek peek;
    struct task other = {.page = 0};
    CHECK(begin(&peek, range) == PEEK_WHOLE);
    start(&other, OTHER, range, pin_and_rebuild);
    join(&other);
    CHECK(!other.lost && end(&peek) == PEEK_OVERWRITTEN);

    CHECK(begin(&peek, range) == PEEK_WHOLE);
    start(&other, OTHER, range, hold_for_writing);
    join(&other);
    CHECK(end(&peek) == PEEK_OVERWRITTEN);
    CHECK(begin(&peek, range) == PEEK_OVERWRITTEN);
    start(&other, OTHER, range, let_writing_end);
    join(&other);
    CHECK(begin(&peek, range) == PEEK_WHOLE && end(&peek) == PEEK_WHOLE);

    char text[16] = "written";
    CHECK(begin(&peek, range) == PEEK_WHOLE);
    CHECK(!range_write(range, 0, sizeof text, text));
    CHECK(end(&peek) == PEEK_OVERWRITTEN);

    CHECK(!range_pin(range, true)); /* the writer itself may look */
    CHECK(begin(&peek, range) == PEEK_WHOLE && end(&peek) == PEEK_WHOLE);
    range_unpin(range, true);
    end_and_close(range);
}

/* 5: populate fails half way, and more is purged between the scan and the next try. */
static struct range *half_way;
static int populate_half(char *base, size_t len) {
    size_t half = len / 2 / os_page_size * os_page_size;
    int err = os_populate_write(base, half); /* these are dirty now, and safe */
    CHECK(!err);
    os_reclaim_all(base + half + os_page_size, os_page_size);
    CHECK(os_populate_write(base + half + os_page_size, os_page_size) == EFAULT);
    return EFAULT;
}
static void purge_the_last(void) { os_reclaim_all(half_way->base + (pages - 1) * os_page_size, os_page_size); }

static void populate_fails_half_way(void) {
    struct range *range = half_way = open_filled();
    populate_instead = populate_half;
    once_scanned = purge_the_last;
    uint64_t generation = range->generation;
    CHECK(!range_pin(range, false));
    CHECK(!populate_instead && !once_scanned);
    size_t gone = pages / 2 + 1;
    for (size_t i = 0; i < pages; i++) CHECK(page_lost(range, i) == (i == gone || i == pages - 1));
    for (size_t i = 0; i < pages; i++) CHECK(page_lost(range, i) ? page_holds(range, i, 0) : same(range, i, 0));
    CHECK(range->generation > generation);
    range_unpin(range, false);
    rebuild(range, 1);
    check_whole(range, 1);
    end_and_close(range);
}

/* 6: fork between a populate and its report. */
static void fork_after_populate(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *populated = stop_at(OTHER, POPULATE, AFTER);
    struct task other = {.page = 2}, forker = {.page = 2, .lost = true};
    start(&other, OTHER, range, pin);
    until_there(populated);
    start(&forker, THIRD, range, fork_now);
    CHECK(waits(&forker));
    let_go(populated);
    join(&other);
    join(&forker);
    CHECK(other.lost);
    check_child(&forker);
    rebuild(range, 1);
    check_whole(range, 1);
    end_and_close(range);
}

/* 6: fork between a trap's zero page and its note: the child would read zeros and never know. */
static void fork_inside_a_trap(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *mapped = stop_at(READER, ZERO, AFTER);
    struct task reader = {.page = 2}, forker = {.page = 2, .lost = true};
    start(&reader, READER, range, peek_at_page);
    until_there(mapped);
    start(&forker, THIRD, range, fork_now);
    CHECK(waits(&forker));
    let_go(mapped);
    join(&reader);
    join(&forker);
    CHECK(reader.verdict == PEEK_LOST);
    check_child(&forker);
    end_and_close(range);
}

/* 6: fork while another thread is inside a peek, which the child does not have; and a trap that comes while the fork is on its way. */
static struct range *forked;
static struct task late_reader;
static bool trap_during_fork;
static void during_fork(void) { /* every gate is shut by now */
    if (!trap_during_fork) return;
    start(&late_reader, READER, forked, touch_page); /* in the peek that is open; opening one would wait for its own lock */
    CHECK(waits(&late_reader));
}

static void trap_while_the_gate_is_shut(void) {
    struct range *range = forked = open_filled();
    lose(range, 2, 1);
    struct peek ours;
    CHECK(begin(&ours, range) == PEEK_WHOLE);
    trap_during_fork = true;
    late_reader.page = 2;
    struct task forker = {.page = 2, .lost = true};
    start(&forker, THIRD, range, fork_now);
    join(&forker);
    join(&late_reader);
    CHECK(late_reader.seen == 0);
    check_child(&forker);
    CHECK(end(&ours) == PEEK_LOST);
    end_and_close(range);
}

/* 8: a range is closed while a trap on it is at work; its address is used again at once. */
static void close_inside_a_trap(void) {
    struct range *neighbour = open_filled(), *range = open_filled(); /* the arena stays */
    lose(range, 2, 1);
    char *address = range->base;
    struct stop *missing = stop_at(READER, ZERO, BEFORE);
    struct task reader = {.page = 2}, other = {.page = 2};
    start(&reader, READER, range, repair_raw);
    until_there(missing);
    start(&other, OTHER, range, close_it);
    CHECK(waits(&other));
    let_go(missing);
    join(&reader);
    join(&other);
    CHECK(!other.err);
    CHECK(!range_repair((uintptr_t)address + 2 * os_page_size, true)); /* nobody lives there */
    struct range *next;
    CHECK(!range_open(pages * os_page_size, false, true, "next", &next));
    CHECK(!atomic_load(&next->notes) && !range_survey(next) && !range_any_lost(next, 0, next->nbytes));
    CHECK(next->small ? next->base == address : true);
    CHECK(!range_pin(next, true));
    for (size_t i = 0; i < pages; i++) CHECK(page_holds(next, i, 0));
    fill(next, 1);
    range_unpin(next, true);
    check_whole(next, 1);
    end_and_close(next);
    end_and_close(neighbour);
}

/* 8: a peek keeps its range from being closed under it. */
static void close_inside_a_peek(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *missing = stop_at(READER, ZERO, BEFORE);
    struct task reader = {.page = 2};
    start(&reader, READER, range, peek_at_page);
    until_there(missing);
    atomic_fetch_add(&range->users, 1);
    CHECK(range_close(range) == EBUSY);
    atomic_fetch_sub(&range->users, 1);
    let_go(missing);
    join(&reader);
    CHECK(reader.verdict == PEEK_LOST && reader.seen == 0);
    end_and_close(range);
}

/* 9: pooled memory goes to a new owner: no old bytes, no old loss. */
static void new_owner(void) {
    struct range *neighbour = open_filled();
    for (int round = 0; round < 3; round++) {
        struct range *range = open_filled();
        char *address = range->base;
        struct peek peek;
        CHECK(begin(&peek, range) == PEEK_WHOLE);
        lose(range, 1, 2);
        if (round) CHECK(touch(range, 1) == 0); /* noted, not folded */
        if (round == 2) CHECK(!range_survey(range));
        CHECK(end(&peek) == (round ? PEEK_LOST : PEEK_WHOLE));
        end_and_close(range);
        struct range *next;
        CHECK(!range_open(pages * os_page_size, false, true, "next", &next));
        CHECK(next->small ? next->base == address : true);
        CHECK(!atomic_load(&next->lossy) && !atomic_load(&next->notes) && !next->generation);
        CHECK(begin(&peek, next) == PEEK_WHOLE);
        for (size_t i = 0; i < pages; i++) CHECK(page_holds(next, i, 0));
        CHECK(end(&peek) == PEEK_WHOLE);
        CHECK(!range_pin(next, true));
        CHECK(!range_any_lost(next, 0, next->nbytes));
        range_unpin(next, true);
        size_t bytes;
        CHECK(!range_purge(next, 0, next->nbytes, &bytes) && !bytes); /* never written: nothing to purge */
        CHECK(!range_survey(next) && !range_any_lost(next, 0, next->nbytes));
        end_and_close(next);
    }
    end_and_close(neighbour);
}

/* ---- stores ----------------------------------------------------------------------------------------------------------------------- */

/* The parts end within pages, as those of a pickle do. */
static struct range *open_stored(int version) {
    struct range *range;
    size_t len = pages * os_page_size, cut = len / 3 + 5;
    char *bytes = malloc(len);
    for (size_t i = 0; i < pages; i++) memset(bytes + i * os_page_size, stamp(i, version), os_page_size);
    struct part parts[] = {{bytes, 0}, {bytes, cut}, {bytes + cut, 7}, {bytes + cut + 7, len - cut - 7}};
    CHECK(!range_open_stored(parts, 4, true, RANGE_DUMP, "stored", &range));
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
    SCHEDULE(repair_then_pin_then_note),
    SCHEDULE(pin_while_a_trap_waits),
    SCHEDULE(late_note),
    SCHEDULE(a_real_page_among_the_lost),
    SCHEDULE(a_real_page_purged_in_settling),
    SCHEDULE(second_peek_reads_repaired_zeros),
    SCHEDULE(peek_ends_between_repair_and_note),
    SCHEDULE(lost_and_rebuilt_inside_a_peek),
    SCHEDULE(written_inside_a_peek),
    SCHEDULE(populate_fails_half_way),
    SCHEDULE(fork_after_populate),
    SCHEDULE(fork_inside_a_trap),
    SCHEDULE(trap_while_the_gate_is_shut),
    SCHEDULE(close_inside_a_trap),
    SCHEDULE(close_inside_a_peek),
    SCHEDULE(new_owner),
    SCHEDULE(stored_while_reclaim_works),
    SCHEDULE(kept_while_a_peek_lives),
    SCHEDULE(kept_over_a_fork),
};

int main(int count, char **arguments) {
    pthread_atfork(during_fork, NULL, NULL); /* runs after the core's own, which is registered later */
    return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments);
}
