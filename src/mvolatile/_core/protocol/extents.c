#include "protocol/extents.h"

#include <stdlib.h>
#include <string.h>

void extents_init(struct extents *set) {
    set->items = set->inlined;
    set->count = 0;
    set->room = EXTENTS_INLINE;
}

void extents_clear(struct extents *set) {
    if (set->items != set->inlined) free(set->items);
    extents_init(set);
}

/* Index of the first interval that ends at or after `at`. */
static size_t first_reaching(const struct extents *set, uintptr_t at) {
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->items[middle].end < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(struct extents *set) {
    if (set->count < set->room) return true;
    size_t room = set->room * 2;
    struct extent *old = set->items == set->inlined ? NULL : set->items;
    struct extent *items = realloc(old, room * sizeof *items);
    if (!items) return false;
    if (!old) memcpy(items, set->inlined, set->count * sizeof *items);
    set->items = items;
    set->room = room;
    return true;
}

static void open_gap(struct extents *set, size_t at) {
    memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof *set->items);
    set->count++;
}

static void remove_items(struct extents *set, size_t from, size_t to) {
    memmove(&set->items[from], &set->items[to], (set->count - to) * sizeof *set->items);
    set->count -= to - from;
}

void extents_add(struct extents *set, uintptr_t start, uintptr_t end) {
    if (start >= end) return;
    size_t at = first_reaching(set, start), to = at;
    while (to < set->count && set->items[to].start <= end) to++;
    if (to == at) {
        if (make_room(set)) {
            open_gap(set, at);
            set->items[at] = (struct extent){start, end};
        } else if (at < set->count) {
            set->items[at].start = start; /* no memory: stretch a neighbour over the gap */
        } else {
            set->items[at - 1].end = end;
        }
        return;
    }
    if (set->items[at].start < start) start = set->items[at].start;
    if (set->items[to - 1].end > end) end = set->items[to - 1].end;
    set->items[at] = (struct extent){start, end};
    remove_items(set, at + 1, to);
}

void extents_sub(struct extents *set, uintptr_t start, uintptr_t end) {
    if (start >= end) return;
    size_t at = first_reaching(set, start + 1);
    if (at < set->count && set->items[at].start < start) {
        if (set->items[at].end > end) {
            if (!make_room(set)) return; /* no memory: leave it too large */
            open_gap(set, at);
            set->items[at].end = start;
            set->items[at + 1].start = end;
            return;
        }
        set->items[at++].end = start;
    }
    size_t to = at;
    while (to < set->count && set->items[to].end <= end) to++;
    if (to < set->count && set->items[to].start < end) set->items[to].start = end;
    remove_items(set, at, to);
}

bool extents_next(const struct extents *set, uintptr_t start, uintptr_t end, struct extent *out) {
    size_t at = first_reaching(set, start + 1);
    if (start >= end || at == set->count || set->items[at].start >= end) return false;
    *out = set->items[at];
    if (out->start < start) out->start = start;
    if (out->end > end) out->end = end;
    return true;
}

bool extents_overlap(const struct extents *set, uintptr_t start, uintptr_t end) {
    struct extent unused;
    return extents_next(set, start, end, &unused);
}

bool extents_cover(const struct extents *set, uintptr_t start, uintptr_t end) {
    struct extent first;
    return start >= end || (extents_next(set, start, end, &first) && first.start == start && first.end == end);
}

size_t extents_bytes(const struct extents *set) {
    size_t sum = 0;
    for (size_t i = 0; i < set->count; i++) sum += set->items[i].end - set->items[i].start;
    return sum;
}

bool extents_valid(const struct extents *set) {
    if (set->count > set->room) return false;
    for (size_t i = 0; i < set->count; i++) {
        if (set->items[i].start >= set->items[i].end) return false;
        if (i && set->items[i].start <= set->items[i - 1].end) return false;
    }
    return true;
}
