#include "protocol/raw.h"

#include <errno.h>

#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

/* The protocol of hold.c over a range that begins at address 0: its `data` and `lost` are sets of addresses. */
static struct range raw = {.nbytes = SIZE_MAX, .small = true, .watched = true, .foreign = true, .lock = PTHREAD_MUTEX_INITIALIZER};
static struct extents marked;
static _Atomic bool repaired; /* a trap has filled a page here, so a zero page may stand for a purged one */

void raw_lock(void) { pthread_mutex_lock(&raw.lock); }
void raw_unlock(void) { pthread_mutex_unlock(&raw.lock); }

static void set_up(void) {
    if (raw.data.items) return;
    extents_init(&raw.data);
    extents_init(&raw.lost);
    extents_init(&marked);
}

static void data_seen(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    extents_add(&raw.data, start, end);
}

static int find_data(uintptr_t start, uintptr_t end) {
    if (os_can_scan()) return os_scan(OS_DATA, start, end, data_seen, NULL);
    extents_add(&raw.data, start, end);
    return 0;
}

/* The first part of [start, end) that is not marked. */
static bool next_unmarked(uintptr_t start, uintptr_t end, struct extent *out) {
    struct extent part;
    while (start < end) {
        if (!extents_next(&marked, start, end, &part)) part.start = part.end = end;
        if (part.start > start) {
            *out = (struct extent){start, part.start};
            return true;
        }
        start = part.end;
    }
    return false;
}

typedef int part_call(char *base, size_t len);

/* Of all marked parts of [start, end), until one fails. */
static int each_marked(uintptr_t start, uintptr_t end, part_call *call) {
    struct extent part;
    int err = 0;
    for (uintptr_t at = start; !err && extents_next(&marked, at, end, &part); at = part.end)
        err = call((char *)part.start, part.end - part.start);
    return err;
}

static int hold(char *base, size_t len) {
    uintptr_t start = (uintptr_t)base;
    bool any;
    int err = atomic_load(&repaired) ? loss_find_missing(&raw, start, start + len, true, &any) : 0;
    return err ? err : hold_part(&raw, start, start + len);
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
    for (uintptr_t at = start; !err && next_unmarked(at, end, &part); at = part.end)
        if (os_is_watched((char *)part.start)) err = os_unwatch((char *)part.start, part.end - part.start);
    return err;
}

/* Whether khugepaged might make a huge page there: of what is lined up, and all of it marked. */
static bool may_be_huge(uintptr_t start, uintptr_t end) {
    for (uintptr_t at = start & ~(os_huge_size - 1), next; at < end; at = next) {
        next = at + os_huge_size;
        if ((at >= start || extents_cover(&marked, at, start)) && (next <= end || extents_cover(&marked, end, next))) return true;
    }
    return false;
}

static void allow_huge_pages(uintptr_t start, uintptr_t end) {
    struct extent part;
    for (uintptr_t at = start; os_huge_by_default && extents_next(&marked, at, end, &part); at = part.end)
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
    extents_sub(&marked, start, end);
    extents_sub(&raw.data, start, end);
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
        for (uintptr_t at = start; !err && next_unmarked(at, end, &part); at = part.end) err = give_zero_pages(part.start, part.end);
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
    extents_sub(&marked, part.start, part.end);
    extents_sub(&raw.data, part.start, part.end);
}

static int mark_or_nothing(uintptr_t start, uintptr_t end) {
    struct extents fresh;
    struct extent part;
    bool lazy;
    extents_init(&fresh);
    for (uintptr_t at = start; next_unmarked(at, end, &part); at = part.end) extents_add(&fresh, part.start, part.end);
    int err = mark_all(start, end, &lazy);
    extents_add(&marked, start, end);
    trap_note_mark();
    for (uintptr_t at = start; err && extents_next(&fresh, at, end, &part); at = part.end) undo_mark(part, lazy);
    extents_clear(&fresh);
    return err;
}

/* What is not watched any more is not the memory that was marked, but some that was mapped at its address since. (Where nothing is watched
 * nobody can tell, and pages missing there count as purged.) */
static void forget(uintptr_t start, uintptr_t end) {
    extents_sub(&marked, start, end);
    extents_sub(&raw.data, start, end);
    extents_sub(&raw.lost, start, end);
}

static void forget_if_mapped_anew(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    if (range_tier != OS_TIER_USERFAULTFD || !extents_overlap(&marked, start, end) || os_is_watched((char *)start)) return;
    forget(start, end);
}

/* Of one marked part; false where the kernel does not say, and it stays marked. `watching`: what is not watched is forgotten, too. */
static bool forget_unmapped(struct os_walk *walk, struct extent part, bool watching) {
    for (uintptr_t from = part.start, start, end; from < part.end; from = end) {
        int err = os_walk_to(walk, from);
        if (err && err != ENOMEM) return false;
        start = end = part.end;
        if (!err && walk->found.start < end) {
            start = walk->found.start > from ? walk->found.start : from;
            if (walk->found.end < end) end = walk->found.end;
        }
        if (start > from) forget(from, start);
        if (start >= end) continue;
        if (watching)
            forget_if_mapped_anew(NULL, start, end);
        else if (!walk->found.usable)
            forget(start, end);
    }
    return true;
}

static void forget_what_is_gone(bool watching) {
    struct extent part;
    struct os_walk walk;
    if (!marked.count || os_walk_begin(&walk)) return;
    for (uintptr_t at = 0; extents_next(&marked, at, UINTPTR_MAX, &part); at = part.end)
        if (!forget_unmapped(&walk, part, watching)) break;
    os_walk_end(&walk);
}

void raw_before_fork(void) { forget_what_is_gone(true); }

/* Behind what is being marked nothing is mapped, and so nothing is marked. The bad schedule: the memory grows to there, watched as the rest, and its
 * new part is taken for what was marked there once, and is gone. */
static void forget_behind(uintptr_t end) {
    struct extent part;
    struct os_walk walk;
    if (!extents_next(&marked, end, UINTPTR_MAX, &part) || os_is_mapped((char *)end, os_page_size) || os_walk_begin(&walk)) return;
    int err = os_walk_to(&walk, end);
    if (err == ENOMEM) walk.found.start = UINTPTR_MAX;
    if ((!err || err == ENOMEM) && walk.found.start > end) forget(end, walk.found.start);
    os_walk_end(&walk);
}

static int change(uintptr_t start, uintptr_t end, long mode, int *purged) {
    gate_enter();
    raw_lock();
    set_up();
    int err = os_check_anonymous(start, end, forget_if_mapped_anew, NULL);
    if (!err && mode == MVOLATILE_VOLATILE) forget_behind(end);
    if (!err && range_tier != OS_TIER_UNSUPPORTED) err = mode == MVOLATILE_VOLATILE ? mark_or_nothing(start, end) : unmark(start, end);
    if (!err && mode == MVOLATILE_NONVOLATILE) {
        *purged = extents_overlap(&raw.lost, start, end);
        extents_sub(&raw.lost, start, end);
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
    set_up();
    size_t bytes = extents_bytes(&marked);
    raw_unlock();
    gate_leave();
    return bytes;
}

bool raw_repair(uintptr_t address) {
    size_t done;
    int err = os_zero((char *)(address & ~(os_page_size - 1)), os_page_size, &done);
    if (done) atomic_store(&repaired, true);
    return !err || err == EEXIST;
}

bool raw_covers(uintptr_t address) { return os_watching() && os_is_watched((char *)(address & ~(os_page_size - 1))); }

bool raw_watch_again(bool touched) {
    struct extent part;
    if (touched) forget_what_is_gone(false); /* which cannot be watched; what was mapped there anew cannot be told from what was marked */
    for (uintptr_t at = 0; extents_next(&marked, at, UINTPTR_MAX, &part); at = part.end) {
        fill_never_written(&raw, part.start, part.end);
        if (os_watch_again((char *)part.start, part.end - part.start)) return false;
        if (touched) loss_take_stock(&raw, part.start, part.end);
    }
    return true;
}

void raw_do_without_watch(void) {
    struct extent part;
    for (uintptr_t at = 0; extents_next(&marked, at, UINTPTR_MAX, &part); at = part.end) {
        loss_take_stock(&raw, part.start, part.end);
        loss_fill_unwatched(&raw, part.start, part.end);
        (void)os_huge((char *)part.start, part.end - part.start, false);
    }
    if (range_tier == OS_TIER_UNSUPPORTED) extents_sub(&marked, 0, UINTPTR_MAX); /* as of ranges: what was volatile is lost */
}

static void forget_part(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    forget(start, end);
}

void raw_forget_unmapped(void) {
    struct extent part;
    for (uintptr_t at = 0; extents_next(&marked, at, UINTPTR_MAX, &part); at = part.end)
        os_each_unmapped((char *)part.start, part.end - part.start, false, forget_part, NULL);
}
