#include "raw.h"

#include <errno.h>

#include "pool.h"
#include "range_parts.h"
#include "trap.h"
#include "watch.h"

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
    if (!os_probed()->pagemap) return os_scan(OS_DATA, start, end, data_seen, NULL);
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

static int unmark(uintptr_t start, uintptr_t end) {
    struct extent part;
    int err = 0;
    bool any;
    for (uintptr_t at = start; !err && extents_next(&marked, at, end, &part); at = part.end) {
        if (atomic_load(&repaired)) err = loss_find_missing(&raw, part.start, part.end, true, &any);
        if (!err) err = hold_part(&raw, part.start, part.end);
    }
    if (err) return err; /* still marked; pages held by now are safe, and what was found lost stays recorded */
    if (range_tier == OS_TIER_USERFAULTFD)
        for (uintptr_t at = start; extents_next(&marked, at, end, &part); at = part.end)
            os_unwatch((char *)part.start, part.end - part.start);
    extents_sub(&marked, start, end);
    extents_sub(&raw.data, start, end);
    return 0;
}

/* Holes of unmarked parts were never written: they get the zero page, which is never purged. Holes of marked parts are purged pages. Pages
 * written since an earlier mark are data now, and volatile again. */
static int mark_all(uintptr_t start, uintptr_t end) {
    struct extent part;
    int err = find_data(start, end);
    if (range_tier == OS_TIER_USERFAULTFD) {
        for (uintptr_t at = start; !err && next_unmarked(at, end, &part); at = part.end)
            err = os_populate_read((char *)part.start, part.end - part.start);
        if (!err) err = os_watch((char *)start, end - start);
    } else {
        os_huge((char *)start, end - start, false); /* khugepaged would fill purged holes with zeros; see hold.c */
    }
    return err ? err : os_free_lazily((char *)start, end - start);
}

static int mark_or_nothing(uintptr_t start, uintptr_t end) {
    struct extents fresh;
    struct extent part;
    extents_init(&fresh);
    for (uintptr_t at = start; next_unmarked(at, end, &part); at = part.end) extents_add(&fresh, part.start, part.end);
    int err = mark_all(start, end);
    extents_add(&marked, start, end);
    trap_note_mark();
    if (err)
        for (uintptr_t at = start; extents_next(&fresh, at, end, &part); at = part.end) unmark(part.start, part.end);
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

int raw_mvolatile(uintptr_t start, size_t length, long mode, long flags, int *purged) {
    uintptr_t end = start + length;
    *purged = 0;
    if ((start | length) & (os_page_size - 1) || end < start || flags) return EINVAL;
    if (mode != MVOLATILE_VOLATILE && mode != MVOLATILE_NONVOLATILE) return EINVAL;
    if (!length) return 0;
    if (pool_owns(start, end)) return EINVAL; /* a VolatileMemory's; it has its own pins */
    watch_check();
    gate_enter();
    raw_lock();
    set_up();
    int err = os_check_anonymous(start, end, forget_if_mapped_anew, NULL);
    if (!err && range_tier != OS_TIER_UNSUPPORTED) {
        err = mode == MVOLATILE_VOLATILE ? mark_or_nothing(start, end) : unmark(start, end);
        if (!err && mode == MVOLATILE_NONVOLATILE) {
            *purged = extents_overlap(&raw.lost, start, end);
            extents_sub(&raw.lost, start, end);
        }
    }
    raw_unlock();
    gate_leave();
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
    }
}
