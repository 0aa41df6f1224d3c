/* Sorted, disjoint, non-touching half-open intervals of addresses or offsets.
 *
 * Sets here record what was lost and what must be held, at moments when memory is short. So no operation can fail: where a
 * set cannot grow, it errs by being too large (neighbours are joined, a hole is not cut). Too large a lost set reports a loss that
 * was none; too large a held set dirties a page too many. Neither can hide a loss. */
#ifndef MVOLATILE_PROTOCOL_EXTENTS_H
#define MVOLATILE_PROTOCOL_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
    uintptr_t start, end;
};

#define EXTENTS_INLINE 2

struct extents {
    struct extent *items; /* points at `inlined` until it outgrows it */
    size_t count, room;
    struct extent inlined[EXTENTS_INLINE];
};

void extents_init(struct extents *set);
void extents_clear(struct extents *set); /* also gives the heap memory back */
void extents_add(struct extents *set, uintptr_t start, uintptr_t end);
void extents_sub(struct extents *set, uintptr_t start, uintptr_t end);
bool extents_overlap(const struct extents *set, uintptr_t start, uintptr_t end);
bool extents_cover(const struct extents *set, uintptr_t start, uintptr_t end);

/* The first interval of `set` that reaches into [start, end), cut to it; false when there is none. Walk a set that changes
 * meanwhile by asking again from the end of the last answer. */
bool extents_next(const struct extents *set, uintptr_t start, uintptr_t end, struct extent *out);

size_t extents_bytes(const struct extents *set);
bool extents_valid(const struct extents *set);

#endif
