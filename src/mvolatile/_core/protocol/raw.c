#include "protocol/raw.h"

#include <errno.h>

#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

static void data_seen(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    extents_add(&raw_range.data, start, end);
}

static int find_data(uintptr_t start, uintptr_t end) {
    if (os_can_scan()) return os_scan(OS_DATA, start, end, data_seen, NULL);
    extents_add(&raw_range.data, start, end);
    return 0;
}

typedef int part_call(char *base, size_t len);

/* Of all marked parts of [start, end), until one fails. */
static int each_marked(uintptr_t start, uintptr_t end, part_call *call) {
    struct extent part;
    int err = 0;
    for (uintptr_t at = start; !err && extents_next(&raw_marked, at, end, &part); at = part.end)
        err = call((char *)part.start, part.end - part.start);
    return err;
}

static int hold(char *base, size_t len) {
    uintptr_t start = (uintptr_t)base;
    bool any;
    int err = atomic_load(&raw_repaired) ? loss_find_missing(&raw_range, start, start + len, true, &any) : 0;
    return err ? err : hold_part(&raw_range, start, start + len);
}

/* What cannot be watched again is not volatile again either: it stays held, and the next call forgets that it was marked. */
static int mark_as_before(char *base, size_t len) {
    if (range_tier != OS_TIER_USERFAULTFD || !os_watch(base, len)) (void)os_free_lazily(base, len);
    return 0;
}

/* mremap() lets a mapping grow where it is, and its new part is watched as the rest. */
static int unwatch_what_grew(uintptr_t start, uintptr_t end) {
    struct extent part;
    int err = 0;
    for (uintptr_t at = start; !err && raw_next_unmarked(at, end, &part); at = part.end)
        if (os_is_watched((char *)part.start)) err = os_unwatch((char *)part.start, part.end - part.start);
    return err;
}

/* Whether khugepaged might make a huge page there: of what is lined up, and all of it marked. */
static bool may_be_huge(uintptr_t start, uintptr_t end) {
    for (uintptr_t at = start & ~(os_huge_size - 1), next; at < end; at = next) {
        next = at + os_huge_size;
        if ((at >= start || extents_cover(&raw_marked, at, start)) && (next <= end || extents_cover(&raw_marked, end, next))) return true;
    }
    return false;
}

static void allow_huge_pages(uintptr_t start, uintptr_t end) {
    struct extent part;
    for (uintptr_t at = start; os_huge_by_default && extents_next(&raw_marked, at, end, &part); at = part.end)
        if (may_be_huge(part.start, part.end)) (void)os_huge((char *)part.start, part.end - part.start, true);
}

/* The end of a watch can be refused: it may split a mapping, and there are vm.max_map_count at most. The bad schedule where that is not told: the
 * memory is the caller's again, to free and to write to, and traps. So first all is held, then the watch ends, and where either fails all is
 * volatile again. What was found lost stays recorded. */
static int unmark(uintptr_t start, uintptr_t end) {
    int err = each_marked(start, end, hold);
    if (!err && range_tier == OS_TIER_USERFAULTFD) {
        err = each_marked(start, end, os_unwatch);
        if (!err) err = unwatch_what_grew(start, end);
    }
    if (err) {
        trap_note_mark();
        (void)each_marked(start, end, mark_as_before);
        return err;
    }
    allow_huge_pages(start, end);
    extents_sub(&raw_marked, start, end);
    extents_sub(&raw_range.data, start, end);
    return 0;
}

/* Holes of what is not marked were never written. Where the watch is there already, the memory has grown; see unwatch_what_grew(). */
static int give_zero_pages(uintptr_t start, uintptr_t end) {
    int err = os_populate_read((char *)start, end - start);
    if (err != EFAULT || (err = os_watch((char *)start, end - start))) return err;
    for (size_t at = start, done; at < end; at += done) {
        err = os_zero((char *)at, end - at, &done);
        if (err && err != EEXIST) return err;
        if (err) done += os_page_size;
    }
    return os_populate_read((char *)start, end - start); /* EFAULT: guard pages (MADV_GUARD_INSTALL), which no unmark could hold */
}

/* Holes of unmarked parts get the zero page, which is never purged. Holes of marked parts are purged pages. Pages
 * written since an earlier mark are data now, and volatile again. `*lazy`: some may be volatile by now. */
static int mark_all(uintptr_t start, uintptr_t end, bool *lazy) {
    struct extent part;
    int err = find_data(start, end);
    if (range_tier == OS_TIER_USERFAULTFD) {
        for (uintptr_t at = start; !err && raw_next_unmarked(at, end, &part); at = part.end) err = give_zero_pages(part.start, part.end);
        if (!err) err = os_watch((char *)start, end - start);
        if (!err && may_be_huge(start, end)) (void)os_huge((char *)start, end - start, false); /* see forbid_collapse() */
    } else if (!err) {
        err = os_huge((char *)start, end - start, false);
    }
    *lazy = !err;
    return err ? err : os_free_lazily((char *)start, end - start);
}

/* What cannot be held any more, stays marked: or its losses would go unseen. */
static void undo_mark(struct extent part, bool lazy) {
    if (lazy && hold((char *)part.start, part.end - part.start)) return;
    if (range_tier == OS_TIER_USERFAULTFD) (void)os_unwatch((char *)part.start, part.end - part.start);
    extents_sub(&raw_marked, part.start, part.end);
    extents_sub(&raw_range.data, part.start, part.end);
}

static int mark_or_nothing(uintptr_t start, uintptr_t end) {
    struct extents fresh;
    struct extent part;
    bool lazy;
    extents_init(&fresh);
    for (uintptr_t at = start; raw_next_unmarked(at, end, &part); at = part.end) extents_add(&fresh, part.start, part.end);
    int err = mark_all(start, end, &lazy);
    extents_add(&raw_marked, start, end);
    trap_note_mark();
    for (uintptr_t at = start; err && extents_next(&fresh, at, end, &part); at = part.end) undo_mark(part, lazy);
    extents_clear(&fresh);
    return err;
}

static int change(uintptr_t start, uintptr_t end, long mode, int *purged) {
    gate_enter();
    raw_lock();
    raw_set_up();
    int err = os_check_anonymous(start, end, raw_forget_if_mapped_anew, NULL);
    if (!err && mode == MVOLATILE_VOLATILE) raw_forget_behind(end);
    if (!err && range_tier != OS_TIER_UNSUPPORTED) err = mode == MVOLATILE_VOLATILE ? mark_or_nothing(start, end) : unmark(start, end);
    if (!err && mode == MVOLATILE_NONVOLATILE) {
        *purged = extents_overlap(&raw_range.lost, start, end);
        extents_sub(&raw_range.lost, start, end);
    }
    raw_unlock();
    gate_leave();
    return err;
}

int raw_mvolatile(uintptr_t start, size_t length, long mode, long flags, int *purged) {
    uintptr_t end = start + length;
    *purged = 0;
    if ((start | length) & (os_page_size - 1) || end < start || flags) return EINVAL;
    if (mode != MVOLATILE_VOLATILE && mode != MVOLATILE_NONVOLATILE) return EINVAL;
    if (!length) return 0;
    if (pool_owns(start, end)) return EINVAL; /* a VolatileMemory's; it has its own pins */
    if (mode == MVOLATILE_NONVOLATILE) watch_check(); /* a mark watches, and so finds out */
    int err;
    unsigned watch = watch_renewals;
    do err = change(start, end, mode, purged);
    while (err && watch_renewed(&watch));
    return err;
}

size_t raw_volatile_bytes(void) {
    gate_enter(); /* who watches again shuts it, and takes no lock */
    raw_lock();
    raw_set_up();
    size_t bytes = extents_bytes(&raw_marked);
    raw_unlock();
    gate_leave();
    return bytes;
}
