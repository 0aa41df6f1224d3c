/* Storing: a range that is made with all of its bytes in it. The argument is in docs/protocols.md, "Stores of large values". */
#include <errno.h>
#include <string.h>

#include "protocol/linger.h"
#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/spare.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

/* Where a store stands among its parts. */
struct source {
    const struct part *part, *end;
    size_t at; /* in `part` */
};

static size_t together(struct source *from) {
    while (from->part < from->end && from->at == from->part->length) from->part++, from->at = 0;
    return from->part < from->end ? from->part->length - from->at : 0;
}

static void copy_next(struct source *from, char *to, size_t n) {
    for (size_t piece; n && (piece = together(from)); n -= piece, to += piece) {
        if (piece > n) piece = n;
        memcpy(to, from->part->bytes + from->at, piece);
        from->at += piece;
    }
}

/* Put the next bytes of `from` into the missing pages of [at, end). What cannot be put there is written to: a page that is present by now, or one
 * whose bytes the kernel does not read for us, being lost themselves. */
static int fill_missing(struct range *range, struct source *from, size_t at, size_t end) {
    char page[MAX_PAGE] __attribute__((aligned(64)));
    while (at < end) {
        struct source start = *from;
        size_t whole = page_down(together(from)), done = 0;
        const char *bytes = whole ? from->part->bytes + from->at : page;
        if (whole > end - at) whole = end - at;
        if (!whole) { /* bytes of several parts, or the last ones */
            memset(page, 0, os_page_size);
            copy_next(from, page, os_page_size);
        }
        int err = os_copy(at_offset(range, at), bytes, whole ? whole : os_page_size, &done);
        if (whole) from->at += done;
        at += done;
        if (!err) continue;
        if (err != EEXIST && err != ENOENT && err != EFAULT) return err;
        if (!whole) *from = start;
        copy_next(from, at_offset(range, at), os_page_size);
        at += os_page_size;
    }
    return 0;
}

/* Memory that was kept: what is missing of it is `lost`. A huge page that went can only be huge again where nobody watches. */
static int look_over(struct range *range) {
    bool any;
    extents_add(&range->data, 0, range->mapped);
    int err = loss_find_missing(range, 0, range->mapped, false, &any);
    if (err || !any || !range->huge) return err;
    if (os_unwatch(range->base, range->mapped)) return 0; /* then base pages do */
    range->watched = false;
    hold_allow_huge(range);
    return 0;
}

/* Write all that is in `parts`. `peeks`: a page that goes meanwhile traps, is filled, and written to all the same. */
static int overwrite(struct range *range, const struct part *parts, size_t count) {
    struct source from = {parts, parts + count, 0};
    struct extent missing;
    int err = 0;
    atomic_fetch_add(&range->peeks, 1);
    for (size_t at = 0, next; !err && at < range->mapped; at = next) {
        bool any = range->watched && extents_next(&range->lost, at, range->mapped, &missing);
        next = any ? page_down(missing.start) : range->mapped;
        copy_next(&from, at_offset(range, at), next - at);
        if (!any) break;
        at = next, next = page_up(missing.end);
        err = fill_missing(range, &from, at, next);
    }
    atomic_fetch_sub(&range->peeks, 1);
    while (atomic_load(&range->traps)) os_pause();
    return err;
}

/* The kernel takes what is volatile in the order in which it was first marked, and memory that was kept is old by that: the newest value would go
 * before all others. A page that was read since its mark goes to the end of the line when its turn comes. */
static void make_young(struct range *range) {
    size_t step = range->huge ? os_huge_size : os_page_size;
    atomic_fetch_add(&range->peeks, 1);
    for (size_t at = 0; at < range->mapped; at += step) (void)*(volatile char *)at_offset(range, at);
    atomic_fetch_sub(&range->peeks, 1);
}

int mark_stored(struct range *range, bool touching) {
    int err = mark(range);
    if (!err && range->aged && touching) {
        make_young(range);
        range->aged = false;
    }
    return err;
}

int store_parts(struct range *range, const struct part *parts, size_t count, enum beginning beginning) {
    pthread_mutex_lock(&range->lock);
    int err = 0;
    if (beginning == BEGINS_KEPT) err = look_over(range);
    if (beginning == BEGINS_MISSING) extents_add(&range->lost, 0, range->nbytes);
    if (!err) err = overwrite(range, parts, count);
    (void)loss_take_notes(range); /* of pages that were written to since */
    extents_sub(&range->lost, 0, range->mapped);
    extents_add(&range->data, 0, range->mapped);
    atomic_store(&range->lossy, false);
    range->generation = 0;
    range->marked = false;
    range->aged = beginning == BEGINS_KEPT || beginning == BEGINS_HELD;
    if (!err && !linger_after_store(range)) { /* a refusal is for the caller to see */
        bool touching = beginning == BEGINS_KEPT || (range->aged && trap_catches()); /* of what was marked it was asked before that was taken */
        (void)mark_stored(range, touching);
    }
    pthread_mutex_unlock(&range->lock);
    return err;
}
