/* Mark and unmark: how pages become volatile, and how they are held again with nothing missed in between. */
#include <errno.h>
#include <string.h>

#include "protocol/linger.h"
#include "protocol/parts.h"
#include "protocol/residence.h"
#include "protocol/trap.h"

/* ---- unmark: hold the pages ------------------------------------------------------------------------------------------------------- */

/* A trap may have mapped a zero page over a lost one before we populated it, and not have noted it yet. */
static void await_traps(struct range *range) {
    while (atomic_load(&range->traps)) os_pause();
    loss_fold_notes(range);
}

static int populate_data(struct range *range, size_t start, size_t end) {
    struct extent part;
    for (size_t at = start; extents_next(&range->data, at, end, &part); at = part.end) {
        int err = os_populate_write(at_offset(range, part.start), part.end - part.start);
        if (err) return err;
    }
    return 0;
}

/* MADV_POPULATE_WRITE dirties what is there under the page-table lock, which cancels the lazy free; it fails where a page is missing, and
 * does not say where. More may be purged between the scan and the next try, so it goes on until a try succeeds. A try that fails
 * without anything missing met a page that a trap has just repaired: await_traps() has its note by then. */
static int hold_by_populating(struct range *range, size_t start, size_t end) {
    for (int fruitless = 0; fruitless < 100;) {
        loss_fold_notes(range);
        int err = populate_data(range, start, end);
        await_traps(range);
        if (!err) return 0;
        if (err != EFAULT) return err;
        bool any;
        err = loss_find_missing(range, start, end, false, &any);
        if (err) return err;
        fruitless = any ? 0 : fruitless + 1;
    }
    return EFAULT;
}

/* Base pages in the hundreds: populating walks the page tables anew for each, which costs twice what touching it does. Beyond some MiB the
 * processor's misses cost more than the walk. */
#define TOUCH_LEAST ((size_t)256 << 10)
#define TOUCH_MOST ((size_t)8 << 20)

/* Write each page what it holds: that dirties it in one step with finding it present. A page that is missing traps, like a peek's, and the
 * trap's note ends it. */
static bool touch_data(struct range *range, size_t start, size_t end) {
    struct extent part;
    bool whole = true;
    unsigned char nothing = 0;
    __asm__("" : "+r"(nothing)); /* compilers turn an atomic `or` of a zero they know of into a load, which holds nothing */
    atomic_fetch_add(&range->peeks, 1);
    for (size_t at = start; whole && extents_next(&range->data, at, end, &part); at = part.end) {
        for (size_t page = part.start; whole && page < part.end; page += os_page_size) {
            atomic_fetch_or((_Atomic unsigned char *)at_offset(range, page), nothing);
            whole = !atomic_load(&range->notes);
        }
    }
    atomic_fetch_sub(&range->peeks, 1);
    while (atomic_load(&range->traps)) os_pause(); /* as in await_traps() */
    return whole && !atomic_load(&range->notes);
}

static int hold_watched(struct range *range, size_t start, size_t end) {
    bool touching = !range->huge && !range->foreign && end - start >= TOUCH_LEAST && end - start <= TOUCH_MOST && trap_catches();
    if (!touching) return hold_by_populating(range, start, end);
    loss_fold_notes(range);
    if (touch_data(range, start, end)) return 0;
    uint64_t generation = range->generation + loss_take_notes(range); /* with what is found below it is one loss, not two */
    int err = hold_by_populating(range, start, end);
    if (range->generation < generation) range->generation = generation;
    return err;
}

/* Too many faults: something in [start, end) was purged after the scan, and nothing tells what. All of it counts as lost, and reads as
 * zeros as lost memory does. */
static void lose_all(struct range *range, size_t start, size_t end) {
    loss_record_all(range, start, end);
    memset(at_offset(range, start), 0, end - start);
}

static int hold_counted_part(struct range *range, size_t start, size_t end, bool shared) {
    char *base = at_offset(range, start);
    bool any;
    /* After a fork every page is write-protected, and populating it faults as a lost one does. So reclaim is kept away (mlock2 without
     * populating), and then a scan is the truth. RLIMIT_MEMLOCK may forbid it. */
    bool resident = shared && !os_hold_resident(base, end - start);
    int err = loss_find_missing(range, start, end, true, &any);
    struct extent part;
    for (size_t at = start; !err && extents_next(&range->data, at, end, &part); at = part.end) {
        long before = os_minor_faults();
        err = os_populate_write(at_offset(range, part.start), part.end - part.start);
        /* Also where it failed half way: it has filled a lost page by then, which the next scan would take for data. */
        if (!resident && os_minor_faults() != before) lose_all(range, part.start, part.end);
    }
    if (shared) os_let_go(base, end - start); /* a refusal may have come after some of the mappings were locked */
    return err;
}

#define COUNTED_PART ((size_t)2 << 20) /* what a doubtful fault may cost, and well below a usual RLIMIT_MEMLOCK */

static int hold_counted(struct range *range, size_t start, size_t end) {
    bool shared = range->fork_count != gate_forks;
    uint64_t generation = range->generation;
    int err = 0;
    for (size_t at = start; !err && at < end; at += COUNTED_PART)
        err = hold_counted_part(range, at, end - at < COUNTED_PART ? end : at + COUNTED_PART, shared);
    if (range->generation > generation) range->generation = generation + 1; /* one loss, in however many parts it was found */
    if (!err && !start && end == range->mapped) range->fork_count = gate_forks;
    return err;
}

/* Lost pages in [start, end) become ordinary zero memory again, and stay watched. A trap may have been the one to fill such a page: its note
 * must be folded into this loss, or it would call what is rebuilt next lost. */
static int fill(struct range *range, size_t start, size_t end) {
    struct extent part;
    for (size_t at = start; extents_next(&range->lost, at, end, &part); at = part.end) {
        part.start = page_down(part.start);
        part.end = page_up(part.end);
        for (size_t done; part.start < part.end; part.start += done) {
            int err = os_zero(at_offset(range, part.start), part.end - part.start, &done);
            if (err == EEXIST || err == ENOENT) /* there already; or not watched, so a touch fills it */
                done += os_page_size;
            else if (err)
                return err;
        }
    }
    return 0;
}

static void hold_real(void *context, uintptr_t start, uintptr_t end) {
    int *err = context;
    if (!*err) *err = os_populate_write((char *)start, end - start);
}

/* A lost page that a trap filled may have become a real one before its note came, by our own touch or populating, and the mark after a
 * partial hold makes it volatile: it must be held like data. The zero page, which the others are, cannot go. */
static int hold_filled(struct range *range, size_t start, size_t end) {
    struct extent part;
    int err = 0;
    for (size_t at = start; !err && extents_next(&range->lost, at, end, &part); at = part.end) {
        uintptr_t from = (uintptr_t)at_offset(range, page_down(part.start)), to = (uintptr_t)at_offset(range, page_up(part.end));
        if (!os_can_scan()) {
            hold_real(&err, from, to);
        } else {
            int failed = os_scan(OS_DATA, from, to, hold_real, &err);
            if (failed) err = failed;
        }
    }
    return err;
}

/* What is real in `lost` is held first, and what is missing filled afterwards: filled first, a page that is there is passed over, may be
 * purged next, is then missing in the scan, too, and stays missing under the pin. The zero pages that traps and fill() map cannot go.
 * Where nothing can be scanned, all of it is filled and populated, until a try succeeds. */
static int settle(struct range *range, size_t start, size_t end) {
    bool blind = !os_can_scan();
    int err;
    do {
        err = blind ? fill(range, start, end) : 0;
        if (!err) err = hold_filled(range, start, end);
    } while (err == EFAULT); /* purged between the scan, or the filling, and the hold */
    if (!err && !blind) err = fill(range, start, end);
    await_traps(range);
    return err;
}

int hold_part(struct range *range, size_t start, size_t end) {
    if (range_tier == OS_TIER_UNSUPPORTED) return 0;
    if (range_tier == OS_TIER_FAULTCOUNT) return hold_counted(range, start, end);
    int err = hold_watched(range, start, end);
    return err || range->foreign || !range->lost.count ? err : settle(range, start, end);
}

/* Reclaim leaves an empty page table where a huge page was, and with one there a fault gets a base page. MADV_DONTNEED frees it (Linux 6.14,
 * CONFIG_PT_RECLAIM); without, khugepaged has to put the pages together later. What is discarded here is lost already. */
static void make_room_for_huge_pages(struct range *range) {
    struct extent part;
    for (size_t at = 0; extents_next(&range->lost, at, range->mapped, &part); at = part.end) {
        size_t start = (part.start + os_huge_size - 1) & ~(os_huge_size - 1), end = page_up(part.end) & ~(os_huge_size - 1);
        if (start >= end) continue;
        extents_sub(&range->data, start, end);
        (void)os_discard(at_offset(range, start), end - start);
    }
}

void hold_allow_huge(struct range *range) {
    if (!range->huge) return;
    if (!range->may_collapse) (void)os_huge(range->base, range->mapped, true);
    range->may_collapse = true;
    make_room_for_huge_pages(range);
}

int hold_all(struct range *range) {
    bool large = !range->small && range->watched;
    int err = large ? hold_watched(range, 0, range->mapped) : hold_part(range, 0, range->mapped);
    if (err || !range->lost.count) return err;
    /* What survived is held, so nothing more can go. Fresh pages can be huge again: where nothing watches, and where khugepaged may work. */
    if (large) {
        range->watched = false; /* also if the kernel does only a part of it: the next mark watches the whole again */
        if (os_unwatch(range->base, range->mapped)) return range->refusal = settle(range, 0, range->mapped);
        await_traps(range); /* as in settle() */
        hold_allow_huge(range);
        return 0;
    }
    if (range_tier == OS_TIER_FAULTCOUNT) hold_allow_huge(range);
    return 0;
}

/* ---- mark ------------------------------------------------------------------------------------------------------------------------- */

static void data_seen(void *context, uintptr_t start, uintptr_t end) {
    struct range *range = context;
    extents_add(&range->data, start - (uintptr_t)range->base, end - (uintptr_t)range->base);
}

/* What holds bytes now. Pages never written are missing or the zero page, and must not count as purged later. Nothing is volatile at
 * this moment, so a missing page was never written. */
int note_data(struct range *range) {
    if (!os_can_scan()) {
        extents_add(&range->data, 0, range->mapped);
        return 0;
    }
    uintptr_t base = (uintptr_t)range->base;
    extents_sub(&range->data, 0, range->mapped);
    return os_scan(OS_DATA, base, base + range->mapped, data_seen, range);
}

void fill_never_written(struct range *range, size_t start, size_t end) {
    struct extent data, lost;
    for (size_t at = start; at < end;) {
        if (!extents_next(&range->data, at, end, &data)) data.start = data.end = end;
        if (!extents_next(&range->lost, at, end, &lost)) lost.start = lost.end = end;
        lost.start = page_down(lost.start);
        size_t stop = data.start < lost.start ? data.start : lost.start;
        if (stop > at) (void)os_populate_read(at_offset(range, at), stop - at);
        at = stop == data.start ? data.end : page_up(lost.end);
    }
}

/* Give every hole the zero page and watch. In this order: a hole in watched memory would trap. */
static int watch(struct range *range) {
    bool full = os_can_scan() && extents_cover(&range->data, 0, range->mapped);
    int err = full ? 0 : os_populate_read(range->base, range->mapped);
    if (!err) err = os_watch(range->base, range->mapped);
    if (!err) range->watched = true;
    return err;
}

/* khugepaged puts base pages together, where a range has them for want of huge ones. Before Linux 7.1 it makes of volatile pages a huge page that
 * the kernel does not take; and it fills the holes of a purged one with zeros, of which nobody would know where nothing traps. So it is kept
 * away from what is volatile. What is huge stays so, and is made afresh after the next loss. */
int forbid_collapse(struct range *range) {
    int err = range->may_collapse ? os_huge(range->base, range->mapped, false) : 0;
    if (!err) range->may_collapse = false;
    return err;
}

/* Somebody else may ask for huge pages by address, or collapse them while that was refused (ENOMEM, where the mapping would have to be split). To
 * mark again what is lazily freed costs next to nothing. Not what a pin that failed left unwatched; see hold_pages(). */
void mark_what_collapsed(struct range *range) {
    if (!range->huge || !range->marked || range->refusal || (range_tier == OS_TIER_USERFAULTFD && !range->watched)) return;
    range->refusal = os_free_lazily(range->base, range->mapped);
}

int mark(struct range *range) {
    linger_no_more(range);
    if (range_tier == OS_TIER_UNSUPPORTED) return 0;
    int err = 0;
    bool unwatched = !range->watched && range_tier == OS_TIER_USERFAULTFD;
    if (unwatched || !extents_cover(&range->data, 0, range->mapped)) err = note_data(range);
    if (!err && !range->foreign) {
        residence_count(range, extents_bytes(&range->data));
        residence_touch(range);
    }
    if (!err && unwatched) err = watch(range);
    int refused = err ? 0 : forbid_collapse(range);
    if (range_tier == OS_TIER_FAULTCOUNT) err = err ? err : refused; /* a loss would go unseen */
    if (!err) {
        range->marked = true; /* before the call: it may fail half way */
        trap_note_mark();
        err = os_free_lazily(range->base, range->mapped);
    }
    range->refusal = err;
    return err;
}
