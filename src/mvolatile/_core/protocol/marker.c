/* The marker: a thread that makes volatile, off the hot path, what lingers (linger.h). */
#include "protocol/marker.h"

#include <signal.h>

#include "platform/apart.h"
#include "protocol/linger.h"
#include "protocol/parts.h"
#include "protocol/spare.h"
#include "protocol/trap.h"

#define ALL INT64_MAX

/* What was not used since then. `touching`: see mark_stored(). The bad schedules, under the range's lock: somebody has pinned it by now, and would lose it
 * under the pin; it was closed, and its memory is another's, who pins it. */
static void mark_unused(int64_t since, bool touching) {
    struct range *range;
    for (size_t left = linger_count_ranges(); left && (range = linger_next()); left--) {
        pthread_mutex_lock(&range->lock);
        if (range->lingers && range->pins) linger_no_more(range); /* whoever lets it go decides anew */
        else if (range->lingers && atomic_load(&range->used) <= since) (void)mark_stored(range, touching); /* a refusal is told at its next use */
        pthread_mutex_unlock(&range->lock);
    }
    spare_mark(since);
}

void marker_give_up(void) {
    bool catches = trap_catches();
    gate_enter();
    mark_unused(ALL, catches);
    gate_leave();
}

void marker_before_fork(void) { mark_unused(ALL, false); }

/* In this thread all signals are blocked. A page that goes between its mark and its touch would kill it: SIGBUS is let in for that long. */
static void mark_some(bool all) {
    uint64_t every = UINT64_MAX, but_one = ~((uint64_t)1 << (SIGBUS - 1));
    os_set_mask(but_one, &every);
    mark_unused(all ? ALL : os_now() - LINGER_PERIOD, trap_catches());
    os_set_mask(every, &but_one);
}

static void run(void *unused) {
    (void)unused;
    for (bool over = false; !over;) {
        bool all = linger_nap();
        gate_enter();
        mark_some(all);
        bool rests = linger_rests();
        gate_leave();
        if (!rests) continue;
        linger_sleep();
        gate_enter();
        over = linger_is_over();
        gate_leave();
    }
}

void marker_init(void) { linger_worked_by(run); }
