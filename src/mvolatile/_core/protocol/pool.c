#include "protocol/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "platform/os.h"
#include "protocol/range.h"

#define ARENA_CHUNKS 32

/* A kind of arena: enum range_options, and this. */
#define WATCHED RANGE_OPTIONS
#define KINDS (2 * RANGE_OPTIONS)

struct arena {
    char *base; /* NULL: spare, kept for the next arena */
    size_t free_chunks;
    unsigned kind;
    struct arena *next;
    struct block chunks[ARENA_CHUNKS];
    struct range *_Atomic owners[ARENA_CHUNKS][MAX_SLOTS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *arenas;
static struct block *with_room[KINDS][MAX_SLOTS + 1]; /* by slots a chunk */
static struct block *spare_blocks;

void pool_lock(void) { pthread_mutex_lock(&lock); }
void pool_unlock(void) { pthread_mutex_unlock(&lock); }

/* ---- address -> block, two levels of 2 MiB units over 49 bits --------------------------------------------------------------------- */

#define LEAF_BITS 13
#define ROOT_BITS 15
typedef struct block *_Atomic leaf_entry;
static leaf_entry *_Atomic root[1 << ROOT_BITS];

static leaf_entry *leaf_of(uintptr_t address) {
    uintptr_t unit = address / CHUNK_SIZE;
    if (unit >> (LEAF_BITS + ROOT_BITS)) return NULL;
    leaf_entry *leaf = atomic_load_explicit(&root[unit >> LEAF_BITS], memory_order_acquire);
    return leaf ? &leaf[unit & ((1 << LEAF_BITS) - 1)] : NULL;
}

static int index_block(struct block *block, struct block *value) {
    for (size_t at = 0; at < block->len; at += CHUNK_SIZE) {
        uintptr_t unit = ((uintptr_t)block->base + at) / CHUNK_SIZE;
        if (unit >> (LEAF_BITS + ROOT_BITS)) return ENOMEM;
        leaf_entry *_Atomic *top = &root[unit >> LEAF_BITS];
        if (!atomic_load(top)) {
            leaf_entry *leaf = calloc((size_t)1 << LEAF_BITS, sizeof *leaf);
            if (!leaf) return ENOMEM;
            atomic_store(top, leaf);
        }
        atomic_store(leaf_of(unit * CHUNK_SIZE), value);
    }
    return 0;
}

struct range *pool_find(uintptr_t address) {
    leaf_entry *entry = leaf_of(address);
    struct block *block = entry ? atomic_load(entry) : NULL;
    if (!block) return NULL;
    size_t offset = address - (uintptr_t)block->base, slot_bytes = atomic_load(&block->slot_bytes);
    if (!slot_bytes || offset >= block->len) return NULL;
    size_t slot = offset / slot_bytes;
    if (block->arena ? slot >= MAX_SLOTS : slot) return NULL;
    return atomic_load(&block->owners[slot]);
}

bool pool_owns(uintptr_t start, uintptr_t end) {
    const uintptr_t leaf = CHUNK_SIZE << LEAF_BITS, top = leaf << ROOT_BITS;
    if (end > top) end = top; /* nor does `at` wrap around */
    for (uintptr_t at = start / CHUNK_SIZE * CHUNK_SIZE, next; at < end; at = next) {
        leaf_entry *entry = leaf_of(at);
        next = entry ? at + CHUNK_SIZE : at / leaf * leaf + leaf; /* a caller may name half of all addresses */
        struct block *block = entry ? atomic_load(entry) : NULL;
        if (block && (uintptr_t)block->base < end && (uintptr_t)block->base + block->len > start) return true;
    }
    return false;
}

/* ---- small ranges: slots of chunks of arenas -------------------------------------------------------------------------------------- */

static void unlist(struct block *chunk) {
    if (chunk->prev)
        chunk->prev->next = chunk->next;
    else
        with_room[chunk->arena->kind][chunk->slots] = chunk->next;
    if (chunk->next) chunk->next->prev = chunk->prev;
    chunk->next = chunk->prev = NULL;
}

static void list_with_room(struct block *chunk) {
    struct block **first = &with_room[chunk->arena->kind][chunk->slots];
    chunk->prev = NULL;
    chunk->next = *first;
    if (chunk->next) chunk->next->prev = chunk;
    *first = chunk;
}

static int set_options(char *base, size_t len, bool huge, unsigned options) {
    (void)os_huge(base, len, huge); /* advice */
    int err = options & RANGE_DUMP ? 0 : os_dump(base, len, false);
    return !err && options & RANGE_WIPE ? os_wipe_on_fork(base, len) : err;
}

static int open_arena(unsigned kind, struct arena **out) {
    struct arena *arena = arenas;
    while (arena && arena->base) arena = arena->next;
    if (!arena) {
        if (!(arena = calloc(1, sizeof *arena))) return ENOMEM;
        arena->next = arenas;
        arenas = arena;
    }
    char *base;
    int err = os_reserve(ARENA_CHUNKS * CHUNK_SIZE, CHUNK_SIZE, &base);
    if (err) return err;
    os_name(base, ARENA_CHUNKS * CHUNK_SIZE, "mvolatile:pool");
    err = set_options(base, ARENA_CHUNKS * CHUNK_SIZE, false, kind);
    if (!err && kind & WATCHED) err = os_watch(base, ARENA_CHUNKS * CHUNK_SIZE);
    for (size_t i = 0; i < ARENA_CHUNKS && !err; i++) {
        struct block *chunk = &arena->chunks[i]; /* field by field: a trap may be looking at the old arena's chunk */
        chunk->base = base + i * CHUNK_SIZE;
        chunk->len = CHUNK_SIZE;
        chunk->owners = arena->owners[i];
        chunk->arena = arena;
        err = index_block(chunk, chunk);
    }
    if (err) {
        os_release(base, ARENA_CHUNKS * CHUNK_SIZE);
        return err;
    }
    arena->base = base;
    arena->kind = kind;
    arena->free_chunks = ARENA_CHUNKS;
    *out = arena;
    return 0;
}

static int open_chunk(size_t slots, unsigned kind, struct block **out) {
    struct arena *arena = arenas;
    while (arena && !(arena->base && arena->free_chunks && arena->kind == kind)) arena = arena->next;
    int err = arena ? 0 : open_arena(kind, &arena);
    if (err) return err;
    size_t i = 0;
    while (arena->chunks[i].slots) i++;
    struct block *chunk = &arena->chunks[i];
    arena->free_chunks--;
    chunk->slots = slots;
    atomic_store(&chunk->slot_bytes, CHUNK_SIZE / os_page_size / slots * os_page_size);
    list_with_room(chunk);
    *out = chunk;
    return 0;
}

static int take_slot(struct range *owner, size_t len, unsigned kind, bool fill, struct block **block, char **base) {
    size_t slots = CHUNK_SIZE / len, slot = 0;
    pthread_mutex_lock(&lock);
    struct block *chunk = with_room[kind][slots];
    int err = chunk ? 0 : open_chunk(slots, kind, &chunk);
    if (!err) {
        for (size_t word = 0;; word++) {
            if (chunk->used[word] == UINT64_MAX) continue;
            slot = word * 64 + (size_t)__builtin_ctzll(~chunk->used[word]);
            break;
        }
        chunk->used[slot / 64] |= (uint64_t)1 << slot % 64;
        if (++chunk->taken == slots) unlist(chunk);
    }
    pthread_mutex_unlock(&lock);
    if (err) return err;
    *block = chunk;
    *base = chunk->base + slot * chunk->slot_bytes;
    if (kind & WATCHED && fill) {
        for (size_t at = 0, done; at < len && !err; at += done) {
            err = os_zero(*base + at, len - at, &done);
            if (err == EEXIST) err = 0, done += os_page_size; /* a page that is there is zero: give_slot() discarded it */
        }
        if (err) {
            pool_give(chunk, *base, len);
            return err;
        }
    }
    atomic_store(&chunk->owners[slot], owner);
    return 0;
}

/* munmap() is refused where it would split a mapping and there are too many (vm.max_map_count): then the pages go, and the addresses stay taken. */
static void release(char *base, size_t len) {
    if (os_release(base, len)) (void)os_discard(base, len);
}

static void close_arena(struct arena *arena) {
    for (size_t i = 0; i < ARENA_CHUNKS; i++) index_block(&arena->chunks[i], NULL);
    release(arena->base, ARENA_CHUNKS * CHUNK_SIZE);
    arena->base = NULL;
}

static void give_slot(struct block *chunk, char *base, size_t len) {
    size_t slot = (size_t)(base - chunk->base) / chunk->slot_bytes;
    atomic_store(&chunk->owners[slot], NULL);
    int err = os_discard(base, len);
    if (err == EINVAL && !os_let_go(base, len)) err = os_discard(base, len); /* mlockall() */
    if (err) return; /* its bytes cannot be wiped, so nobody gets the slot again */
    pthread_mutex_lock(&lock);
    chunk->used[slot / 64] &= ~((uint64_t)1 << slot % 64);
    if (chunk->taken-- == chunk->slots) list_with_room(chunk);
    if (!chunk->taken) {
        unlist(chunk);
        atomic_store(&chunk->slot_bytes, 0);
        chunk->slots = 0;
        if (++chunk->arena->free_chunks == ARENA_CHUNKS) close_arena(chunk->arena);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- large ranges: a mapping each ------------------------------------------------------------------------------------------------- */

static int take_mapping(struct range *owner, size_t len, bool huge, unsigned options, struct block **out, char **base) {
    pthread_mutex_lock(&lock);
    struct block *block = spare_blocks;
    if (block) spare_blocks = block->next;
    pthread_mutex_unlock(&lock);
    if (!block && !(block = calloc(1, sizeof *block))) return ENOMEM;
    int err = os_reserve(len, len >= os_huge_size ? os_huge_size : CHUNK_SIZE, base);
    if (!err) {
        block->base = *base; /* field by field, as in open_arena() */
        block->len = len;
        block->owners = &block->single;
        atomic_store(&block->single, owner);
        atomic_store(&block->slot_bytes, len);
        err = set_options(*base, len, huge, options);
        pthread_mutex_lock(&lock);
        if (!err) err = index_block(block, block);
        pthread_mutex_unlock(&lock);
        if (!err) {
            *out = block;
            return 0;
        }
        os_release(*base, len);
    }
    pthread_mutex_lock(&lock);
    block->next = spare_blocks;
    spare_blocks = block;
    pthread_mutex_unlock(&lock);
    return err;
}

static void give_mapping(struct block *block) {
    atomic_store(&block->single, NULL);
    pthread_mutex_lock(&lock);
    index_block(block, NULL);
    pthread_mutex_unlock(&lock);
    release(block->base, block->len);
    pthread_mutex_lock(&lock);
    atomic_store(&block->slot_bytes, 0);
    block->next = spare_blocks;
    spare_blocks = block;
    pthread_mutex_unlock(&lock);
}

int pool_take(struct range *owner, size_t len, bool huge, bool watch, bool fill, unsigned options, struct block **block, char **base) {
    if (len >= CHUNK_SIZE) return take_mapping(owner, len, huge, options, block, base);
    return take_slot(owner, len, options | (watch ? WATCHED : 0), fill, block, base);
}

void pool_give(struct block *block, char *base, size_t len) {
    if (block->arena)
        give_slot(block, base, len);
    else
        give_mapping(block);
}

void pool_hand_over(struct block *block, char *base, struct range *owner) {
    size_t slot = block->arena ? (size_t)(base - block->base) / block->slot_bytes : 0;
    atomic_store(&block->owners[slot], owner);
}

bool pool_fits_slot(const struct block *block, size_t len) { return block->arena && CHUNK_SIZE / len == block->slots; }

int pool_watch_again(void) {
    int err = 0;
    for (struct arena *arena = arenas; arena && !err; arena = arena->next)
        if (arena->base && arena->kind & WATCHED) err = os_watch_again(arena->base, ARENA_CHUNKS * CHUNK_SIZE);
    return err;
}

struct part_of {
    bool huge;
    unsigned options;
    os_found *gone;
};

static void mapped_anew(void *context, uintptr_t start, uintptr_t end) {
    struct part_of *of = context;
    (void)set_options((char *)start, end - start, of->huge, of->options);
    of->gone(NULL, start, end);
}

void pool_map_again(os_found *gone) {
    for (struct arena *arena = arenas; arena; arena = arena->next) {
        struct part_of of = {false, arena->kind, gone};
        if (arena->base) os_each_unmapped(arena->base, ARENA_CHUNKS * CHUNK_SIZE, true, mapped_anew, &of);
    }
}

void pool_map_block_again(struct block *block, bool huge, unsigned options, os_found *gone) {
    struct part_of of = {huge, options, gone};
    os_each_unmapped(block->base, block->len, true, mapped_anew, &of);
}
