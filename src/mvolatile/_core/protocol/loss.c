/* The record of what was lost: how losses are found, announced to peeks, and reported. */
#include <errno.h>

#include "protocol/parts.h"

/* Before anything is settled: a peek that begins after this sees `lossy`, one that began before sees `changes` move. */
static void announce_loss(struct range *range) {
    atomic_store(&range->lossy, true);
    atomic_fetch_add(&range->changes, 1);
}

static void record_lost_pages(struct range *range, size_t start, size_t end) {
    extents_sub(&range->data, start, end);
    extents_add(&range->lost, start, end < range->nbytes ? end : range->nbytes);
}

bool loss_take_notes(struct range *range) {
    if (!atomic_load(&range->notes)) return false;
    announce_loss(range);
    atomic_store(&range->notes, 0); /* before the bits: a trap sets its bit first and counts then */
    bool any = false;
    for (size_t word = 0; word * 64 * os_page_size < range->mapped; word++) {
        uint64_t bits = atomic_exchange(&range->noted[word], 0);
        for (; bits; bits &= bits - 1) {
            size_t page = (word * 64 + (size_t)__builtin_ctzll(bits)) * os_page_size;
            record_lost_pages(range, page, page + os_page_size);
            any = true;
        }
    }
    atomic_store(&range->lossy, range->lost.count > 0);
    return any;
}

void loss_fold_notes(struct range *range) { range->generation += loss_take_notes(range); }

struct missing {
    struct range *range;
    uintptr_t from; /* where the gap before the next data page begins */
    bool any;
};

static void lose(struct missing *missing, size_t start, size_t end) {
    if (!missing->any) announce_loss(missing->range);
    missing->any = true;
    record_lost_pages(missing->range, start, end);
}

static void pages_gone(void *context, uintptr_t start, uintptr_t end) {
    struct missing *missing = context;
    lose(missing, start - (uintptr_t)missing->range->base, end - (uintptr_t)missing->range->base);
}

static void data_found(void *context, uintptr_t start, uintptr_t end) {
    struct missing *missing = context;
    if (start > missing->from)
        lose(missing, missing->from - (uintptr_t)missing->range->base, start - (uintptr_t)missing->range->base);
    missing->from = end;
}

/* A page that UFFDIO_ZEROPAGE fills was missing, and is watched. ENOENT: it is not watched, so this is not the memory that was marked but
 * one mapped at its address since; there is nothing to hold, and nothing was lost. */
static int probe_by_filling(struct missing *missing, uintptr_t start, uintptr_t end) {
    uintptr_t base = (uintptr_t)missing->range->base;
    for (size_t done; start < end; start += done) {
        /* Like a trap's: from the zero page to the announcement, a peek that reads it must wait at its end. */
        atomic_fetch_add(&missing->range->traps, 1);
        int err = os_zero((char *)start, end - start, &done);
        if (done) pages_gone(missing, start, start + done);
        atomic_fetch_sub(&missing->range->traps, 1);
        if (!err) continue;
        if (err == ENOENT) extents_sub(&missing->range->data, start + done - base, start + done + os_page_size - base);
        if (err != ENOENT && err != EEXIST) return err;
        done += os_page_size;
    }
    return 0;
}

static void missing_found(void *context, uintptr_t start, uintptr_t end) {
    struct missing *missing = context;
    if (missing->range->foreign && range_tier == OS_TIER_USERFAULTFD)
        probe_by_filling(missing, start, end);
    else
        pages_gone(missing, start, end);
}

/* Find the pages of `data` in [start, end) that are gone. `zeroed`: also those that read as the zero page by now, which is what a touch
 * leaves behind where nothing traps. (Where traps work the zero page proves nothing: the kernel maps it over zeros it split off a huge page
 * since 6.12, or merged.) */
int loss_find_missing(struct range *range, size_t start, size_t end, bool zeroed, bool *any) {
    struct missing missing = {range, 0, false};
    struct extent part;
    int err = 0;
    for (size_t at = start; !err && extents_next(&range->data, at, end, &part); at = part.end) {
        uintptr_t from = (uintptr_t)at_offset(range, part.start), to = (uintptr_t)at_offset(range, part.end);
        if (!zeroed) {
            err = !os_can_scan() ? probe_by_filling(&missing, from, to)
                                 : os_scan(OS_MISSING, from, to, missing_found, &missing);
            continue;
        }
        missing.from = from;
        err = os_scan(OS_DATA, from, to, data_found, &missing);
        if (!err && missing.from < to) data_found(&missing, to, to);
    }
    range->generation += missing.any;
    *any = missing.any;
    return err;
}

void loss_record_all(struct range *range, size_t start, size_t end) {
    announce_loss(range);
    record_lost_pages(range, start, end);
    range->generation++;
}

void loss_take_stock(struct range *range, size_t start, size_t end) {
    bool any;
    struct extent part;
    uint64_t generation = range->generation + 1;
    if (!loss_find_missing(range, start, end, true, &any)) return;
    for (size_t at = start; extents_next(&range->data, at, end, &part); at = part.end) {
        loss_record_all(range, part.start, part.end);
        range->generation = generation; /* one loss */
    }
}

void loss_fill_unwatched(struct range *range, size_t start, size_t end) {
    struct extent part;
    for (size_t at = start; extents_next(&range->lost, at, end, &part); at = part.end) {
        size_t first = page_down(part.start);
        (void)os_fill_unwatched(at_offset(range, first), page_up(part.end) - first);
    }
}
