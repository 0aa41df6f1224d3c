/* What a range has and has lost, as others ask for it. */
#include <errno.h>
#include <stdlib.h>

#include "protocol/parts.h"
#include "protocol/residence.h"
#include "protocol/watch.h"

int range_survey_window(struct range *range, size_t offset, size_t length) {
    size_t start = page_down(offset), end = page_up(offset + length);
    int err;
    unsigned watch = watch_renewals;
    watch_check(); /* what was touched unwatched does not look missing any more */
    do {
        range_enter(range);
        loss_fold_notes(range);
        bool any;
        err = range->marked ? loss_find_missing(range, start, end, range_tier != OS_TIER_USERFAULTFD, &any) : 0;
        if (!err && range->marked && !range->foreign) residence_count(range, extents_bytes(&range->data));
        if (!err) mark_what_collapsed(range);
        range_leave(range);
    } while (err && watch_renewed(&watch));
    return err;
}

int range_survey(struct range *range) { return range_survey_window(range, 0, range->nbytes); }

uint64_t range_lost(struct range *range, size_t offset, size_t length, os_found *found, void *context) {
    range_enter(range);
    struct extent part;
    for (size_t at = offset; extents_next(&range->lost, at, offset + length, &part); at = part.end)
        found(context, part.start, part.end);
    uint64_t generation = range->generation;
    range_leave(range);
    return generation;
}

bool range_any_lost(struct range *range, size_t offset, size_t length) {
    range_enter(range);
    bool any = extents_overlap(&range->lost, offset, offset + length);
    range_leave(range);
    return any;
}

void range_forgive(struct range *range, size_t offset, size_t length) {
    range_enter(range);
    atomic_fetch_add(&range->changes, 1);
    extents_sub(&range->lost, offset, offset + length);
    atomic_store(&range->lossy, range->lost.count > 0);
    range_leave(range);
}

/* ---- of many at once ---------------------------------------------------------------------------------------------------------------- */

#define APART ((uintptr_t)1 << 20) /* so far apart, and to ask twice costs less than to walk what lies between */

static int by_address(const void *one, const void *other) {
    uintptr_t a = (uintptr_t)((const struct suspect *)one)->range->base, b = (uintptr_t)((const struct suspect *)other)->range->base;
    return a < b ? -1 : a > b;
}

static uintptr_t start_of(const struct suspect *suspect) { return (uintptr_t)suspect->range->base; }

static uintptr_t end_of(const struct suspect *suspect) { return (uintptr_t)suspect->range->base + suspect->range->mapped; }

struct run {
    struct suspect *at, *end; /* side by side; those before `at` are passed */
};

static void some_missing(void *context, uintptr_t start, uintptr_t end) {
    struct run *run = context;
    while (run->at < run->end && end_of(run->at) <= start) run->at++;
    for (struct suspect *each = run->at; each < run->end && start_of(each) < end; each++) each->is_suspect = true;
}

/* Where a hole in the memory says all. Large ones may have to be marked again, too: see mark_what_collapsed(). */
static bool tells(const struct range *range) {
    return range->small && !range->foreign && range_tier == OS_TIER_USERFAULTFD && os_can_scan();
}

/* The bad schedule: a trap fills a hole with zeros before the walk comes there. It counts in `traps` from before it fills to behind its note, and
 * these are looked at after the walk. */
static bool is_known(struct range *range) { return atomic_load(&range->traps) || atomic_load(&range->notes) || atomic_load(&range->lossy); }

void range_sweep(struct suspect *suspects, size_t count) {
    watch_check();
    qsort(suspects, count, sizeof *suspects, by_address);
    struct suspect *end = suspects + count, *next;
    for (struct suspect *first = suspects; first < end; first = next) {
        bool telling = tells(first->range);
        for (next = first + 1; next < end && tells(next->range) == telling && start_of(next) < end_of(next - 1) + APART;) next++;
        struct run run = {first, next};
        bool asked = telling && !os_scan(OS_MISSING, start_of(first), end_of(next - 1), some_missing, &run);
        for (struct suspect *each = first; each < next; each++) each->is_suspect |= !asked || is_known(each->range);
    }
}

/* ---- what the kernel has ---------------------------------------------------------------------------------------------------------- */

static void sum_up(void *context, uintptr_t start, uintptr_t end) { *(size_t *)context += end - start; }

static size_t bytes_of(struct range *range, enum os_class class, size_t offset, size_t length) {
    uintptr_t start = (uintptr_t)range->base + page_down(offset), end = (uintptr_t)range->base + page_up(offset + length);
    size_t sum = 0;
    return os_scan(class, start, end, sum_up, &sum) ? 0 : sum;
}

void range_recount(struct range *range) {
    if (os_can_scan()) residence_count(range, bytes_of(range, OS_RESIDENT, 0, range->mapped));
}

struct front {
    uintptr_t start, end;
    size_t wanted, found;
};

static void add_front(void *context, uintptr_t start, uintptr_t end) {
    struct front *front = context;
    if (front->found >= front->wanted) return;
    if (!front->found) front->start = start;
    front->end = end - start > front->wanted - front->found ? start + (front->wanted - front->found) : end;
    front->found += front->end - start;
}

/* By the kernel's own reclaim; and what that leaves because a forked process has it, too, by letting go of it: it is as lost to us, and is not in our
 * RSS any more. A mark counts pages that a swap has by now as data, and they are not there. */
void range_take_back(struct range *range, size_t nbytes) {
    if (range->pins || !range->marked || range->refusal || range_tier == OS_TIER_UNSUPPORTED) return;
    uintptr_t base = (uintptr_t)range->base;
    struct front front = {base, base + range->mapped, nbytes, 0};
    if (nbytes < range->mapped && os_can_scan()) {
        size_t unit = range->huge ? os_huge_size : os_page_size;
        if (os_scan(OS_RESIDENT, base, base + range->mapped, add_front, &front)) return;
        front.start &= ~(unit - 1); /* a range is aligned to what it is made of */
        front.end = (front.end + unit - 1) & ~(unit - 1);
        if (front.end > base + range->mapped) front.end = base + range->mapped;
    }
    size_t offset = front.start - base, length = front.end - front.start;
    (void)os_pageout(at_offset(range, offset), length);
    if (os_can_scan() && !bytes_of(range, OS_RESIDENT, offset, length)) {
        range_recount(range);
    } else if (!os_discard(at_offset(range, offset), length)) {
        if (os_can_scan())
            range_recount(range);
        else
            residence_count(range, 0);
    }
}

int range_purge(struct range *range, size_t offset, size_t length, size_t *bytes) {
    *bytes = 0;
    size_t start = page_down(offset), len = page_up(offset + length) - start;
    if (range->refusal) (void)watch_renew();
    range_enter(range);
    int err = range->pins ? EDEADLK : 0;
    /* Refused perhaps half way, so some may be gone: held first, or it would be taken for what was never written. */
    if (!err && range->marked && range->refusal && !(err = hold_all(range))) range->marked = false;
    if (!err && !range->marked) err = mark(range);
    if (!err && length && range_tier != OS_TIER_UNSUPPORTED) {
        size_t before = bytes_of(range, OS_DATA, start, len);
        err = os_pageout(at_offset(range, start), len);
        if (!err && before && bytes_of(range, OS_DATA, start, len)) os_reclaim_all(at_offset(range, start), len);
        *bytes = before - bytes_of(range, OS_DATA, start, len);
        range_recount(range);
    }
    range_leave(range);
    return err;
}

int range_resident(struct range *range, size_t *bytes) {
    range_enter(range);
    *bytes = bytes_of(range, OS_RESIDENT, 0, range->mapped);
    int err = os_can_scan() ? 0 : os_probed()->pagemap;
    range_leave(range);
    return err;
}
