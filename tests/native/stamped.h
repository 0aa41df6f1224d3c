/* Ranges whose pages have stamps that tell a version, and what the threads of a schedule do with them. */
#ifndef STAMPED_H
#define STAMPED_H

#include "stops.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* each program does some of this */

/* ---- ranges with stamps ----------------------------------------------------------------------------------------------------------- */

static size_t pages; /* of each range */

static unsigned char stamp(size_t page, int version) { return (unsigned char)(1 + page % 97 + 97 * (version % 2)); }

static void fill(struct range *range, int version) {
    for (size_t i = 0; i < pages; i++) memset(range->base + i * os_page_size, stamp(i, version), os_page_size);
}

static struct range *open_filled(void) {
    struct range *range;
    CHECK(!range_open(pages * os_page_size, false, true, "schedule", &range));
    CHECK(!range_pin(range, true));
    fill(range, 0);
    range_unpin(range, true);
    CHECK(range->marked && !range->refusal);
    return range;
}

static void lose(struct range *range, size_t page, size_t count) {
    size_t bytes;
    CHECK(!range_purge(range, page * os_page_size, count * os_page_size, &bytes));
    CHECK(bytes == count * os_page_size);
}

static bool page_lost(struct range *range, size_t page) { return range_any_lost(range, page * os_page_size, os_page_size); }

static bool page_holds(struct range *range, size_t page, unsigned char value) {
    const char *data = range->base + page * os_page_size;
    for (size_t i = 0; i < os_page_size; i++)
        if ((unsigned char)data[i] != value) return false;
    return true;
}

static bool same(struct range *range, size_t page, int version) { return page_holds(range, page, stamp(page, version)); }

/* Nothing is lost, every page has this version, and that stays so while the range is held and reclaim does its worst. */
static void check_whole(struct range *range, int version) {
    CHECK(!range_pin(range, false));
    CHECK(!range_any_lost(range, 0, range->nbytes));
    os_pageout(range->base, range->mapped);
    os_pageout(range->base, range->mapped);
    for (size_t i = 0; i < pages; i++) CHECK(same(range, i, version));
    CHECK(!range_any_lost(range, 0, range->nbytes));
    range_unpin(range, false);
    CHECK(range_is_valid(range));
}

static void rebuild(struct range *range, int version) {
    CHECK(!range_pin(range, true));
    fill(range, version);
    range_forgive(range, 0, range->nbytes);
    range_unpin(range, true);
}

static void end_and_close(struct range *range) {
    CHECK(range_is_valid(range));
    CHECK(!atomic_load(&range->traps) && !atomic_load(&range->peeks));
    atomic_fetch_add(&range->users, 1);
    CHECK(!range_close(range));
}

/* ---- what the threads do ---------------------------------------------------------------------------------------------------------- */

static enum peek_verdict begin(struct peek *peek, struct range *range) {
    enum peek_verdict verdict = range_peek_begin(peek, range, 0, range->nbytes);
    return verdict == PEEK_UNSURE ? range_peek_begin_carefully(peek, range, 0, range->nbytes) : verdict;
}

static enum peek_verdict end(struct peek *peek) {
    enum peek_verdict verdict = range_peek_end(peek);
    return verdict == PEEK_UNSURE ? range_peek_end_carefully(peek) : verdict;
}

static unsigned char touch(struct range *range, size_t page) {
    return ((const volatile unsigned char *)range->base)[page * os_page_size];
}

static void peek_at_page(struct task *task) {
    task->verdict = begin(&task->peek, task->range);
    CHECK(task->verdict == PEEK_WHOLE);
    task->seen = touch(task->range, task->page);
    task->verdict = end(&task->peek);
}

static void touch_page(struct task *task) { task->seen = touch(task->range, task->page); }

static void read_all(struct task *task) {
    char *copy = malloc(task->range->nbytes);
    task->err = range_read(task->range, 0, task->range->nbytes, copy);
    free(copy);
}

static void hold_for_writing(struct task *task) { task->err = range_pin(task->range, true); }

static void let_writing_end(struct task *task) { range_unpin(task->range, true); }

static void repair_raw(struct task *task) {
    task->err = range_repair((uintptr_t)task->range->base + task->page * os_page_size, true);
}

static void close_it(struct task *task) {
    atomic_fetch_add(&task->range->users, 1);
    task->err = range_close(task->range);
}

static void end_peek(struct task *task) { task->verdict = end(&task->peek); }

static void pin(struct task *task) {
    task->err = range_pin(task->range, false);
    task->lost = page_lost(task->range, task->page);
    range_unpin(task->range, false);
}

static void pin_and_rebuild(struct task *task) {
    task->err = range_pin(task->range, true);
    task->lost = page_lost(task->range, task->page);
    fill(task->range, 1);
    range_forgive(task->range, 0, task->range->nbytes);
    range_unpin(task->range, true);
}

static void fork_now(struct task *task) {
    task->child = fork();
    if (task->child) return;
    alarm(200);
    struct range *range = task->range;
    CHECK(range_is_valid(range));
    CHECK(!atomic_load(&range->traps));
    CHECK(!range_pin(range, false)); /* waits for nobody */
    for (size_t i = 0; i < pages; i++) CHECK(page_lost(range, i) ? page_holds(range, i, 0) : same(range, i, 0));
    CHECK(page_lost(range, task->page) == task->lost);
    range_unpin(range, false);
    rebuild(range, 1);
    check_whole(range, 1);
    _exit(0);
}

static void check_child(struct task *task) {
    int status;
    CHECK(waitpid(task->child, &status, 0) == task->child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- main ------------------------------------------------------------------------------------------------------------------------- */

struct schedule {
    const char *name;
    void (*run)(void);
};
#define SCHEDULE(name) {#name, name}

static int run_schedule(const struct schedule *schedules, size_t known, int count, char **arguments) {
    if (count < 3) {
        for (size_t i = 0; i < known; i++) puts(schedules[i].name);
        return 0;
    }
    alarm(250);
    pages = (size_t)atoi(arguments[2]);
    running = arguments[1];
    if (range_init(OS_TIER_USERFAULTFD) || range_tier != OS_TIER_USERFAULTFD) return 3;
    watch_init();
    trap_ensure();
    for (size_t i = 0; i < known; i++)
        if (!strcmp(schedules[i].name, running)) {
            schedules[i].run();
            return 0;
        }
    fprintf(stderr, "no schedule %s\n", running);
    return 2;
}

#endif
