/* Bad schedules of a program that closes the core's userfaultfd, as daemons do, while other threads go on: forced, as those of schedules.c.
 *
 * close() frees the number at once, and lets go of the memory at its end: a thread may stand in between. Here a copy of the descriptor stands
 * for that thread: while it is open, the kernel answers EBUSY to whoever wants to watch, and what is missing traps for nobody to repair.
 *
 * usage: as of schedules */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "protocol/raw.h"
#include "stamped.h"

#ifndef UFFD_USER_MODE_ONLY /* headers before 5.11 */
#define UFFD_USER_MODE_ONLY 1
#endif

static int userfaultfd_number(void) {
    char path[64], target[64];
    for (int fd = 3; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (strstr(target, "[userfaultfd]")) return fd;
    }
    return -1;
}

static void close_it_all(void) { CHECK(!close(userfaultfd_number())); }

/* Answers what the thread in the middle of close() has still to do. */
static int close_half(void) {
    int ours = userfaultfd_number(), copy = fcntl(ours, F_DUPFD_CLOEXEC, 1000);
    CHECK(copy >= 0 && !close(ours));
    return copy;
}

/* Where faults are counted, one of a sanitizer's in the middle may have others counted as lost. */
static bool lost_alone(struct range *range, size_t page) {
    for (size_t i = 0; i < pages; i++)
        if (i != page && range_tier == OS_TIER_USERFAULTFD && page_lost(range, i)) return false;
    return page_lost(range, page);
}

static void pin_and_check(struct range *range) {
    CHECK(!range_pin(range, false));
    for (size_t i = 0; i < pages; i++) CHECK(page_lost(range, i) ? page_holds(range, i, 0) : same(range, i, 0));
    range_unpin(range, false);
}

static void pin_and_touch(struct task *task) {
    pin_and_check(task->range);
    CHECK(lost_alone(task->range, task->page));
}

static void check_that_it_goes_on(struct range *range) {
    rebuild(range, 1);
    check_whole(range, 1);
    lose(range, 3, 1);
    struct task reader = {.page = 3};
    start(&reader, READER, range, peek_at_page);
    join(&reader);
    CHECK(reader.verdict == PEEK_LOST);
    CHECK(!range_pin(range, false));
    CHECK(lost_alone(range, 3));
    range_unpin(range, false);
    end_and_close(range);
}

static struct range *open_with_a_known_loss(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    CHECK(!range_survey(range) && page_lost(range, 2));
    return range;
}

/* It is watched again by the same means, as soon as the other is through. */
static void pin_while_the_other_closes(void) {
    struct range *range = open_with_a_known_loss();
    int copy = close_half();
    struct task other = {.page = 2};
    start(&other, OTHER, range, pin_and_touch);
    CHECK(waits(&other));
    close(copy);
    join(&other);
    CHECK(range_tier == OS_TIER_USERFAULTFD);
    check_that_it_goes_on(range);
}

/* It cannot be watched again: what is lost must not trap under a pin, now that nobody would repair it. */
static void fall_back_while_the_other_closes(void) {
    struct range *range = open_with_a_known_loss();
    int copy = close_half();
    atomic_store(&refuse_to_watch_again, ENOMEM);
    struct task other = {.page = 2};
    start(&other, OTHER, range, pin_and_touch);
    CHECK(waits(&other));
    close(copy);
    join(&other);
    CHECK(range_tier == OS_TIER_FAULTCOUNT);
    rebuild(range, 1);
    lose(range, 3, 1);
    CHECK(!range_pin(range, false));
    CHECK(page_lost(range, 3));
    range_unpin(range, false);
    end_and_close(range);
}

/* A peek meets a lost page, and there is no descriptor to repair it by. */
static void peek_while_the_other_closes(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct task reader = {.page = 2};
    CHECK(begin(&reader.peek, range) == PEEK_WHOLE);
    int copy = close_half();
    start(&reader, READER, range, touch_page);
    CHECK(waits(&reader));
    close(copy);
    join(&reader);
    CHECK(!reader.seen && end(&reader.peek) == PEEK_LOST);
    check_that_it_goes_on(range);
}

/* What has just been opened is closed before it watches everything: that is no reason to do without for ever. */
static void closed_again_at_once(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    close_it_all();
    before_watching_again = close_it_all;
    watch_check();
    CHECK(!before_watching_again && range_tier == OS_TIER_USERFAULTFD);
    struct task here = {.page = 2, .range = range};
    pin_and_touch(&here);
    check_that_it_goes_on(range);
}

/* The number is that of one which another thread has created and not yet shaken hands with: to ask whether it is ours must not do that. */
static void asked_while_another_opens(void) {
    struct range *range = open_filled();
    int number = userfaultfd_number();
    close_it_all();
    int created = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    CHECK(created == number && !os_watching());
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
    CHECK(!ioctl(created, UFFDIO_API, &api));
    close(created);
    check_that_it_goes_on(range);
}

/* A pin has held the data and is about to settle what is lost, and cannot. It watches anew and tries again; and a large range, which it has left
 * held and not watched, is not taken for volatile meanwhile. */
static void closed_inside_a_pin(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *settling = stop_at(OTHER, range->small ? ZERO : UNWATCH, BEFORE);
    struct task other = {0};
    start(&other, OTHER, range, hold_for_writing);
    until_there(settling);
    close_it_all();
    let_go(settling);
    join(&other);
    CHECK(!other.err); /* it has watched anew, and tried again */
    CHECK(range_is_valid(range));
    for (int i = 0; i < 4; i++) os_pageout(range->base, range->mapped); /* os_reclaim_all() would mark it */
    range_unpin(range, true);
    pin_and_check(range);
    CHECK(lost_alone(range, 2));
    check_that_it_goes_on(range);
}

/* Another thread has watched anew before the pin that failed asks whether there is a watch. There is, and it failed even so: it tries again. */
static void watched_again_by_another(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct stop *settling = stop_at(OTHER, range->small ? ZERO : UNWATCH, BEFORE), *asking = stop_at(OTHER, WATCHING, BEFORE);
    struct task other = {0};
    start(&other, OTHER, range, hold_for_writing);
    until_there(settling);
    close_it_all();
    let_go(settling);
    until_there(asking);
    watch_check();
    CHECK(os_watching());
    let_go(asking);
    join(&other);
    CHECK(!other.err && range_is_valid(range));
    range_unpin(range, true);
    pin_and_check(range);
    check_that_it_goes_on(range);
}

/* Raw memory is purged, and read while nothing watches. The zeros that this reads are a loss to be reported all the same. */
static void raw_memory_read_meanwhile(void) {
    size_t len = pages * os_page_size;
    int purged;
    char *area = mmap(NULL, 3 * len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    memset(area, 7, 2 * len);
    CHECK(!raw_mvolatile((uintptr_t)area, 3 * len, MVOLATILE_VOLATILE, 0, &purged));
    munmap(area + len + os_page_size, os_page_size); /* marked memory may go at any time, and must not be in the way */
    os_reclaim_all(area, len);
    close_it_all();
    CHECK(!((const volatile char *)area)[os_page_size]);
    watch_check();
    CHECK(range_tier == OS_TIER_USERFAULTFD);
    CHECK(!raw_mvolatile((uintptr_t)area + 2 * len, len, MVOLATILE_NONVOLATILE, 0, &purged) && !purged); /* never written */
    CHECK(!raw_mvolatile((uintptr_t)area + len, os_page_size, MVOLATILE_NONVOLATILE, 0, &purged) && !purged && area[len] == 7);
    CHECK(!raw_mvolatile((uintptr_t)area + os_page_size, os_page_size, MVOLATILE_NONVOLATILE, 0, &purged) && purged);
    munmap(area, 3 * len);
}

/* ---- main ------------------------------------------------------------------------------------------------------------------------- */

/* Of the calling thread alone. */
static void refuse_ioctl(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void touch_in_a_sandbox(struct task *task) {
    CHECK(begin(&task->peek, task->range) == PEEK_WHOLE);
    refuse_ioctl();
    task->seen = touch(task->range, task->page); /* the trap cannot fill it, and ends the watch */
}

/* A thread puts itself into a sandbox that refuses ioctl(2), and touches what is lost inside a peek. The trap ends the watch, for all: what another
 * thread's peek reads of another range from then on is zeros, with no trap and no note to tell. */
static void sandboxed_inside_a_peek(void) {
    struct range *range = open_filled(), *other = open_filled();
    struct peek mine;
    CHECK(begin(&mine, other) == PEEK_WHOLE);
    lose(range, 2, 1);
    lose(other, 3, 1);
    struct task reader = {.page = 2};
    struct stop *ending = stop_at(READER, FILL_UNWATCHED, AFTER);
    start(&reader, READER, range, touch_in_a_sandbox);
    until_there(ending);
    CHECK(touch(other, 3) == 0);
    CHECK(range_peek_end(&mine) == PEEK_UNSURE);
    let_go(ending);
    join(&reader);
    CHECK(range_peek_end_carefully(&mine) == PEEK_LOST && lost_alone(other, 3));
    CHECK(end(&reader.peek) == PEEK_LOST && reader.seen == 0);
    check_that_it_goes_on(other);
    CHECK(lost_alone(range, 2));
    end_and_close(range);
}

static void check_the_watch(struct task *task) {
    (void)task;
    watch_check();
}

static struct peek between;
static enum peek_verdict seen_between;

static void end_a_peek_between(void) { seen_between = range_peek_end(&between); }

/* The same, and the other peek ends when the descriptor is there again, and it is not known yet what was lost meanwhile. */
static void ends_before_the_stock_is_taken(void) {
    struct range *range = open_filled(), *other = open_filled();
    CHECK(begin(&between, other) == PEEK_WHOLE);
    lose(range, 2, 1);
    lose(other, 3, 1);
    struct task reader = {.page = 2};
    start(&reader, READER, range, touch_in_a_sandbox);
    join(&reader);
    CHECK(!reader.seen && touch(other, 3) == 0);
    before_watching_again = end_a_peek_between;
    watch_check();
    CHECK(!before_watching_again && range_tier == OS_TIER_USERFAULTFD && seen_between == PEEK_UNSURE);
    CHECK(range_peek_end_carefully(&between) == PEEK_LOST && lost_alone(other, 3));
    CHECK(end(&reader.peek) == PEEK_LOST && lost_alone(range, 2));
    check_that_it_goes_on(other);
    end_and_close(range);
}

/* A trap that ends the watch has told so, and has not closed the descriptor yet. Who watches again waits for it: or the new one would be closed. */
static void watched_again_inside_a_trap(void) {
    struct range *range = open_filled();
    lose(range, 2, 1);
    struct task reader = {.page = 2}, other = {0};
    struct stop *ending = stop_at(READER, FILL_UNWATCHED, AFTER);
    start(&reader, READER, range, touch_in_a_sandbox);
    until_there(ending);
    start(&other, OTHER, range, check_the_watch);
    CHECK(waits(&other));
    let_go(ending);
    join(&reader);
    join(&other);
    CHECK(range_tier == OS_TIER_USERFAULTFD && end(&reader.peek) == PEEK_LOST && lost_alone(range, 2));
    check_that_it_goes_on(range);
}

static const struct schedule schedules[] = {
    SCHEDULE(pin_while_the_other_closes),
    SCHEDULE(fall_back_while_the_other_closes),
    SCHEDULE(peek_while_the_other_closes),
    SCHEDULE(closed_again_at_once),
    SCHEDULE(asked_while_another_opens),
    SCHEDULE(closed_inside_a_pin),
    SCHEDULE(watched_again_by_another),
    SCHEDULE(raw_memory_read_meanwhile),
    SCHEDULE(sandboxed_inside_a_peek),
    SCHEDULE(ends_before_the_stock_is_taken),
    SCHEDULE(watched_again_inside_a_trap),
};

int main(int count, char **arguments) { return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments); }
