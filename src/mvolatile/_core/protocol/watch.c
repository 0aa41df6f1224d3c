#include "protocol/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "protocol/linger.h"
#include "protocol/marker.h"
#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/raw.h"
#include "protocol/spare.h"

_Atomic unsigned watch_renewals;

/* ---- who wants Python's lock ------------------------------------------------------------------------------------------------------ */

void (*watch_quiet)(void), (*watch_loud)(bool in_child);
static OF_EACH_THREAD bool is_quiet;

/* Before the gate is shut: who is waited for may be in front of it. */
static void be_quiet(void) {
    if (is_quiet || !watch_quiet) return;
    is_quiet = true;
    watch_quiet();
}

static void be_loud(bool in_child) {
    if (!is_quiet) return;
    is_quiet = false;
    watch_loud(in_child);
}

static void loud_in_parent(void) { be_loud(false); }

static void loud_in_child(void) {
    fork_depth++;
    be_loud(true);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------------------- */

/* The parent stands still: no operation between populating pages and recording what was lost, no trap between its zero page and its note,
 * no peek half listed. So the child, which has one thread and would wait for ever for locks that others held, finds every lock free and every
 * range whole. */
static void before_fork(void) {
    be_quiet();
    range_shut_gate();
    range_shut_out_traps();
    (void)spare_give_back(); /* nobody of a child would watch it, or may have its bytes */
    marker_before_fork();
    pool_lock();
    raw_lock();
    raw_before_fork();
    peek_lock_all();
    gate_forks++;
    range_before_wipe();
}

static void let_go(bool in_child) {
    peek_unlock_all();
    raw_unlock();
    pool_unlock();
    range_open_gate(in_child);
}

/* Everything is watched again, or all go on in a lower tier. The bad schedules:
 *   - another thread closes what has just been opened, before it watches. Then nothing has changed, and the next check finds out;
 *   - a trap that ends the watch closes what has just been opened, or has its word for it taken back: traps are shut out meanwhile;
 *   - a peek that has read zeros ends before it is known what is lost: os_watch_ended stays until it is. */
static void watch_again(bool in_child) {
    enum os_tier was = range_tier;
    range_tier = os_open_again(was, in_child);
    if (range_tier == OS_TIER_USERFAULTFD && !(range_watch_again(!in_child) && raw_watch_again(!in_child))) {
        if (!os_watching()) return;
        range_tier = os_without_watch();
    }
    if (range_tier != was) {
        range_do_without_watch();
        raw_do_without_watch();
    }
    atomic_store(&os_watch_ended, false); /* what was lost meanwhile has moved `changes` */
}

/* What was purged in the parent is missing here too, and nothing of the child has run yet that could have filled it. */
static void in_child(void) {
    range_map_again();
    raw_forget_unmapped();
    watch_again(true);
    range_after_wipe();
    range_forget_other_threads();
    linger_in_child();
    let_go(true);
}

static void in_parent(void) { let_go(false); }

void watch_count_forks(void) {
    static bool counted;
    if (!counted) pthread_atfork(be_quiet, loud_in_parent, loud_in_child);
    counted = true;
}

/* The count first: handlers run in the order they came in a child. */
void watch_init(void) {
    watch_count_forks();
    pthread_atfork(before_fork, in_parent, in_child);
    marker_init();
}

bool watch_renew(void) {
    if (range_tier != OS_TIER_USERFAULTFD || os_watching()) return false;
    range_shut_gate();
    range_shut_out_traps();
    (void)spare_give_back(); /* it is nobody's, so nobody would watch it again */
    if (range_tier == OS_TIER_USERFAULTFD && !os_watching()) watch_again(false);
    atomic_fetch_add(&watch_renewals, 1);
    range_open_gate(false);
    return true;
}

bool watch_renewed(unsigned *seen) {
    bool renewed = watch_renew() || atomic_load(&watch_renewals) != *seen;
    *seen = atomic_load(&watch_renewals);
    return renewed;
}

void watch_check(void) {
    if (range_tier == OS_TIER_USERFAULTFD && !os_watch_is_open()) (void)watch_renew();
}
