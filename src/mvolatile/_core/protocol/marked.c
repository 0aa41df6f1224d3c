/* What mvolatile() has marked: a set of addresses, and what becomes of it when memory goes, at a fork, and at the end of the watch. */
#include "protocol/raw.h"

#include <errno.h>

#include "protocol/parts.h"

struct range raw_range = {.nbytes = SIZE_MAX, .small = true, .watched = true, .foreign = true, .lock = PTHREAD_MUTEX_INITIALIZER};
struct extents raw_marked;

void raw_lock(void) { pthread_mutex_lock(&raw_range.lock); }
void raw_unlock(void) { pthread_mutex_unlock(&raw_range.lock); }

void raw_set_up(void) {
    if (raw_range.data.items) return;
    extents_init(&raw_range.data);
    extents_init(&raw_range.lost);
    extents_init(&raw_marked);
}

bool raw_next_unmarked(uintptr_t start, uintptr_t end, struct extent *out) {
    struct extent part;
    while (start < end) {
        if (!extents_next(&raw_marked, start, end, &part)) part.start = part.end = end;
        if (part.start > start) {
            *out = (struct extent){start, part.start};
            return true;
        }
        start = part.end;
    }
    return false;
}

/* What is not watched any more is not the memory that was marked, but some that was mapped at its address since. (Where nothing is watched
 * nobody can tell, and pages missing there count as purged.) */
static void forget(uintptr_t start, uintptr_t end) {
    extents_sub(&raw_marked, start, end);
    extents_sub(&raw_range.data, start, end);
    extents_sub(&raw_range.lost, start, end);
}

void raw_forget_if_mapped_anew(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    if (range_tier != OS_TIER_USERFAULTFD || !extents_overlap(&raw_marked, start, end) || os_is_watched((char *)start)) return;
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
            raw_forget_if_mapped_anew(NULL, start, end);
        else if (!walk->found.usable)
            forget(start, end);
    }
    return true;
}

static void forget_what_is_gone(bool watching) {
    struct extent part;
    struct os_walk walk;
    if (!raw_marked.count || os_walk_begin(&walk)) return;
    for (uintptr_t at = 0; extents_next(&raw_marked, at, UINTPTR_MAX, &part); at = part.end)
        if (!forget_unmapped(&walk, part, watching)) break;
    os_walk_end(&walk);
}

void raw_before_fork(void) { forget_what_is_gone(true); }

/* Behind what is being marked nothing is mapped, and so nothing is marked. The bad schedule: the memory grows to there, watched as the rest, and its
 * new part is taken for what was marked there once, and is gone. */
void raw_forget_behind(uintptr_t end) {
    struct extent part;
    struct os_walk walk;
    if (!extents_next(&raw_marked, end, UINTPTR_MAX, &part) || os_is_mapped((char *)end, os_page_size) || os_walk_begin(&walk)) return;
    int err = os_walk_to(&walk, end);
    if (err == ENOMEM) walk.found.start = UINTPTR_MAX;
    if ((!err || err == ENOMEM) && walk.found.start > end) forget(end, walk.found.start);
    os_walk_end(&walk);
}

bool raw_watch_again(bool touched) {
    struct extent part;
    if (touched) forget_what_is_gone(false); /* which cannot be watched; what was mapped there anew cannot be told from what was marked */
    for (uintptr_t at = 0; extents_next(&raw_marked, at, UINTPTR_MAX, &part); at = part.end) {
        fill_never_written(&raw_range, part.start, part.end);
        if (os_watch_again((char *)part.start, part.end - part.start)) return false;
        if (touched) loss_take_stock(&raw_range, part.start, part.end);
    }
    return true;
}

void raw_do_without_watch(void) {
    struct extent part;
    for (uintptr_t at = 0; extents_next(&raw_marked, at, UINTPTR_MAX, &part); at = part.end) {
        loss_take_stock(&raw_range, part.start, part.end);
        loss_fill_unwatched(&raw_range, part.start, part.end);
        (void)os_huge((char *)part.start, part.end - part.start, false);
    }
    if (range_tier == OS_TIER_UNSUPPORTED) extents_sub(&raw_marked, 0, UINTPTR_MAX); /* as of ranges: what was volatile is lost */
}

static void forget_part(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    forget(start, end);
}

void raw_forget_unmapped(void) {
    struct extent part;
    for (uintptr_t at = 0; extents_next(&raw_marked, at, UINTPTR_MAX, &part); at = part.end)
        os_each_unmapped((char *)part.start, part.end - part.start, false, forget_part, NULL);
}
