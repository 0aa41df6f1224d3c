/* Pins; and the small reads and writes, each under a short hold of its own. */
#include <errno.h>
#include <string.h>

#include "protocol/giveback.h"
#include "protocol/linger.h"
#include "protocol/parts.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

static void begin_writing(struct range *range) {
    uint64_t thread = os_thread_id();
    atomic_store(&range->writer, range->writers++ && atomic_load(&range->writer) != thread ? 0 : thread);
    atomic_store(&range->writing, range->writers);
    atomic_fetch_add(&range->changes, 1);
}

static void end_writing(struct range *range) {
    atomic_fetch_add(&range->changes, 1);
    if (!--range->writers) atomic_store(&range->writer, 0);
    atomic_store(&range->writing, range->writers);
}

/* Through the gate, as whoever takes the lock: a fork at this moment would copy it held, and the child wait for it for ever. */
bool range_pin_is_quick(struct range *range) {
    if (!gate_try_to_enter()) return false;
    bool quick = false;
    if (!pthread_mutex_trylock(&range->lock)) {
        quick = range->pins || range->lingers;
        pthread_mutex_unlock(&range->lock);
    }
    gate_leave();
    return quick;
}

int range_pin(struct range *range, bool write) {
    unsigned watch = watch_renewals;
    if (range->marked) watch_check();
    int err;
    do {
        range_enter(range);
        err = 0;
        if (write || range_tier == OS_TIER_FAULTCOUNT) giveback_charge_whole(range); /* in that tier to hold is to fill */
        if (!range->pins && range->marked && !(err = hold_all(range))) range->marked = false;
        if (!err) {
            range->pins++;
            if (write) begin_writing(range);
        }
        range_leave(range);
    } while (err && watch_renewed(&watch));
    return err;
}

void range_unpin(struct range *range, bool write) {
    unsigned watch = watch_renewals;
    range_enter(range);
    if (write) end_writing(range);
    int err = --range->pins || linger_after_use(range) ? 0 : mark(range);
    range_leave(range);
    if (!err || !watch_renewed(&watch)) return;
    range_enter(range);
    if (!range->pins && !range->marked && !range->lingers) mark(range);
    range_leave(range);
}

/* The pages under a few bytes. A part of a huge page cannot be marked without splitting it, so there the unit is the huge page. */
static struct extent pages_under(struct range *range, size_t offset, size_t n) {
    size_t unit = range->huge ? os_huge_size : os_page_size;
    size_t start = offset & ~(unit - 1), end = (offset + n + unit - 1) & ~(unit - 1);
    return (struct extent){start, end < range->mapped ? end : range->mapped};
}

/* Make them safe to touch, whoever pins; `again`: mark them afterwards. Not what a pin that failed left unwatched: it is held, all of it, and
 * marked alone it would go unseen. The next mark watches it first. */
static int hold_pages(struct range *range, struct extent pages, bool *again) {
    bool held = !range->pins && range->marked;
    *again = held && (range->watched || range_tier != OS_TIER_USERFAULTFD);
    return held ? hold_part(range, pages.start, pages.end) : 0;
}

static void release_pages(struct range *range, struct extent pages) {
    trap_note_mark();
    range->refusal = os_free_lazily(at_offset(range, pages.start), pages.end - pages.start);
}

int range_read(struct range *range, size_t offset, size_t n, void *to) {
    struct extent pages = pages_under(range, offset, n);
    unsigned watch = watch_renewals;
    int err;
    do {
        range_enter(range);
        bool again = false, foreign = range->writers && atomic_load(&range->writer) != os_thread_id();
        err = foreign ? EAGAIN : hold_pages(range, pages, &again);
        if (!err) {
            if (extents_overlap(&range->lost, offset, offset + n))
                err = EFAULT;
            else
                memmove(to, at_offset(range, offset), n); /* `to` may be a view of the same memory */
            if (again) release_pages(range, pages);
        }
        range_leave(range);
    } while (err && watch_renewed(&watch));
    return err;
}

static int try_write(struct range *range, struct extent pages, size_t offset, size_t n, const void *from) {
    bool again;
    range_enter(range);
    if (!extents_cover(&range->data, page_down(offset), page_up(offset + n))) {
        size_t counted = atomic_load(&range->counted) + page_up(offset + n) - page_down(offset);
        giveback_charge(range, counted < range->mapped ? counted : range->mapped);
    }
    int err = hold_pages(range, pages, &again);
    if (!err) {
        begin_writing(range);
        memmove(at_offset(range, offset), from, n);
        extents_sub(&range->lost, offset, offset + n);
        atomic_store(&range->lossy, range->lost.count > 0);
        end_writing(range);
        extents_add(&range->data, page_down(offset), page_up(offset + n));
        if (again)
            release_pages(range, pages);
        else if (!range->pins)
            mark(range);
    }
    range_leave(range);
    return err;
}

int range_write(struct range *range, size_t offset, size_t n, const void *from) {
    if (!n) return 0; /* its page holds no data by it, and must not count as lost one day */
    struct extent pages = pages_under(range, offset, n);
    unsigned watch = watch_renewals;
    int err;
    do err = try_write(range, pages, offset, n, from);
    while (err && watch_renewed(&watch));
    return err;
}
