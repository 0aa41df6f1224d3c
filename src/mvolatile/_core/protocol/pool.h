/* Where ranges live.
 *
 * Registered mappings that hold pages do not merge, and a process may have 65,530 of them (vm.max_map_count). So ranges smaller than a
 * chunk share arenas: one mapping of 32 chunks, watched as a whole; a chunk is cut into equal slots. Larger ranges have a mapping of
 * their own, aligned for huge pages. Arenas are of one kind, which is what their mapping has as a whole: watched or not, in core dumps or
 * not, wiped in forked children or not; a range gets one of its own kind, so that no option leaks to a neighbour.
 *
 * The trap asks pool_find() from a signal handler, so everything it walks is published with atomics and never given back to malloc:
 * a stale answer is possible, and the caller checks it against the range; a dangling pointer is not. */
#ifndef MVOLATILE_PROTOCOL_POOL_H
#define MVOLATILE_PROTOCOL_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/os.h"

#define CHUNK_SIZE ((size_t)2 << 20)
#define SMALLEST_PAGE 4096 /* of any kernel; what this one has is os_page_size */
#define MAX_SLOTS (CHUNK_SIZE / SMALLEST_PAGE)

struct range;

struct block { /* a chunk of an arena, or a whole large mapping */
    char *base;
    size_t len;
    _Atomic size_t slot_bytes;
    struct range *_Atomic *owners; /* one a slot */
    struct range *_Atomic single;  /* what `owners` points at in a large mapping */
    struct arena *arena;           /* NULL for a large mapping */
    size_t slots, taken;
    uint64_t used[MAX_SLOTS / 64];
    struct block *next, *prev; /* chunks of one slot size with room, or free blocks */
};

#define MAX_PAGE (64 << 10) /* of any kernel */
/* Zeroed memory of `len` bytes (a multiple of the page size) for `owner`, which the trap can find from then on. Small memory is
 * watched already when `watch` is set; a large mapping is not. `fill`: what is watched has no missing pages. Answers 0 or an errno. */
int pool_take(struct range *owner, size_t len, bool huge, bool watch, bool fill, unsigned options, struct block **block, char **base);

/* Nobody finds the memory any more; its pages go back to the kernel, and the next owner reads zeros. */
void pool_give(struct block *block, char *base, size_t len);

void pool_hand_over(struct block *block, char *base, struct range *owner); /* NULL: nobody */
bool pool_fits_slot(const struct block *block, size_t len); /* whether pool_take() would take a slot like those of `block` */

struct range *pool_find(uintptr_t address); /* [signal] */
bool pool_owns(uintptr_t start, uintptr_t end);

/* Watch every arena again, where nothing does any more. 0 or an errno. */
int pool_watch_again(void);

/* In a forked child: map what was not copied (MADV_DONTFORK) anew, of all arenas or of one large mapping; `gone` is told of it. */
void pool_map_again(os_found *gone);
void pool_map_block_again(struct block *block, bool huge, unsigned options, os_found *gone);

void pool_lock(void); /* held over a fork */
void pool_unlock(void);

#endif
