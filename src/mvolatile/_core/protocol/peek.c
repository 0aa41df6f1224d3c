/* Peeks, which read without a hold, and the trap's repair, which lets them. The argument is in range.h. */
#include <errno.h>
#include <string.h>

#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/watch.h"

/* Open peeks are listed, so that a forked child can tell its own from those of threads it does not have: a count alone would keep a range
 * repaired (silently!) and unclosable for ever. In shards, so that threads do not wait for each other. */
#define SHARDS 16
enum { FORGOTTEN = SHARDS, UNLISTED };
static struct shard {
    pthread_mutex_t lock;
    struct peek *first;
    char apart[64 - sizeof(pthread_mutex_t) % 64];
} shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static void open_peek(struct peek *peek) {
    peek->thread = os_thread_id();
    peek->shard = (unsigned)(peek->thread % SHARDS);
    struct shard *shard = &shards[peek->shard];
    pthread_mutex_lock(&shard->lock);
    peek->prev = NULL;
    peek->next = shard->first;
    if (peek->next) peek->next->prev = peek;
    shard->first = peek;
    atomic_fetch_add(&peek->range->peeks, 1);
    pthread_mutex_unlock(&shard->lock);
}

/* A copy's peek ends before its thread can fork, and the count is set anew in a child; so it is counted alone, for two locks less. Its thread
 * forks inside of it if a signal handler does: then the child's count is without it. */
static void open_copy(struct peek *peek) {
    peek->shard = UNLISTED;
    peek->forks = watch_forks;
    atomic_fetch_add(&peek->range->peeks, 1);
}

static void close_peek(struct peek *peek) {
    if (peek->shard == FORGOTTEN) return;
    if (peek->shard == UNLISTED) {
        if (peek->forks == watch_forks) atomic_fetch_sub(&peek->range->peeks, 1);
        return;
    }
    struct shard *shard = &shards[peek->shard];
    pthread_mutex_lock(&shard->lock);
    if (peek->next) peek->next->prev = peek->prev;
    if (peek->prev)
        peek->prev->next = peek->next;
    else
        shard->first = peek->next;
    atomic_fetch_sub(&peek->range->peeks, 1);
    pthread_mutex_unlock(&shard->lock);
}

void peek_lock_all(void) {
    for (int i = 0; i < SHARDS; i++) pthread_mutex_lock(&shards[i].lock);
}

void peek_unlock_all(void) {
    for (int i = 0; i < SHARDS; i++) pthread_mutex_unlock(&shards[i].lock);
}

void peek_keep_only(uint64_t thread) {
    for (int i = 0; i < SHARDS; i++) {
        struct peek **link = &shards[i].first, *last = NULL;
        for (struct peek *peek = *link; peek; peek = peek->next) {
            if (peek->thread != thread) {
                peek->shard = FORGOTTEN; /* its object may still be freed here */
                continue;
            }
            atomic_fetch_add(&peek->range->peeks, 1);
            *link = peek;
            peek->prev = last;
            last = peek;
            link = &peek->next;
        }
        *link = NULL;
    }
}

/* ---- begin and end ---------------------------------------------------------------------------------------------------------------- */

static bool another_writes(struct range *range) {
    return atomic_load(&range->writing) && atomic_load(&range->writer) != os_thread_id();
}

static enum peek_verdict begin(struct peek *peek, struct range *range, size_t offset, size_t length, void (*open)(struct peek *)) {
    peek->range = range;
    peek->offset = offset;
    peek->length = length;
    open(peek);
    /* First `changes`, then the rest: a loss or a writer announced after this moves it, one announced before is seen below. */
    peek->changes = atomic_load(&range->changes);
    if (!atomic_load(&range->writing) && !atomic_load(&range->lossy) && !atomic_load(&range->notes) &&
        range_tier == OS_TIER_USERFAULTFD) /* falling from it moves `changes` afterwards */
        return PEEK_WHOLE;
    close_peek(peek);
    return PEEK_UNSURE;
}

enum peek_verdict range_peek_begin(struct peek *peek, struct range *range, size_t offset, size_t length) {
    return begin(peek, range, offset, length, open_peek);
}

enum peek_verdict range_copy_begin(struct peek *peek, struct range *range, size_t offset, size_t length) {
    return begin(peek, range, offset, length, open_copy);
}

enum peek_verdict range_peek_begin_carefully(struct peek *peek, struct range *range, size_t offset, size_t length) {
    peek->range = range;
    peek->offset = offset;
    peek->length = length;
    enum peek_verdict verdict = PEEK_WHOLE;
    range_enter(range);
    loss_fold_notes(range);
    peek->changes = atomic_load(&range->changes);
    if (extents_overlap(&range->lost, offset, offset + length))
        verdict = PEEK_LOST;
    else if (another_writes(range))
        verdict = PEEK_OVERWRITTEN;
    else if (range_tier != OS_TIER_USERFAULTFD && !range->pins)
        verdict = PEEK_OVERWRITTEN; /* it has fallen since the caller looked: again, with a pin */
    else
        open_peek(peek);
    range_leave(range);
    return verdict;
}

enum peek_verdict range_peek_end(struct peek *peek) {
    struct range *range = peek->range;
    atomic_thread_fence(memory_order_seq_cst); /* the reads of the data come first */
    while (atomic_load(&range->traps)) os_pause();
    if (atomic_load(&os_watch_ended)) return PEEK_UNSURE; /* before `changes`, which moves before this is taken back */
    if (atomic_load(&range->notes) || atomic_load(&range->changes) != peek->changes) return PEEK_UNSURE;
    close_peek(peek);
    return PEEK_WHOLE;
}

enum peek_verdict range_peek_end_carefully(struct peek *peek) {
    struct range *range = peek->range;
    enum peek_verdict verdict = PEEK_WHOLE;
    watch_check(); /* where a trap has ended the watch, what is lost is known by then */
    range_enter(range);
    while (atomic_load(&range->traps)) os_pause();
    bool changed = atomic_load(&range->changes) != peek->changes;
    loss_fold_notes(range);
    if (extents_overlap(&range->lost, peek->offset, peek->offset + peek->length))
        verdict = PEEK_LOST;
    else if (changed)
        verdict = PEEK_OVERWRITTEN;
    range_leave(range);
    close_peek(peek);
    return verdict;
}

/* ---- repair, in the signal handler ------------------------------------------------------------------------------------------------ */

bool range_repair(uintptr_t address, bool raw) {
    struct range *range;
    for (;;) {
        range = pool_find(address);
        if (!range) return false;
        atomic_fetch_add(&range->traps, 1);
        uint64_t shut_by = atomic_load(&range_gate_shut_by);
        if (!shut_by || shut_by == os_thread_id()) break; /* a signal's handler that interrupts the fork ends before that goes on */
        atomic_fetch_sub(&range->traps, 1); /* a fork is on its way, or a new watch, and waits for us to be out */
        os_pause();
    }
    bool again = false;
    size_t offset = address - (uintptr_t)range->base; /* wraps around, and is too large then, for a stale range */
    if (atomic_load(&range->live) && offset < range->mapped && (raw || atomic_load(&range->peeks))) {
        size_t page = offset / os_page_size, done;
        char *base = range->base + page * os_page_size;
        int err = os_zero(base, os_page_size, &done);
        /* The program has closed the descriptor; its number may be another file, or one that is just being opened again. What is missing is lost
         * even so. */
        bool closed = err && err != EEXIST && err != ENOENT && err != ENOMEM; /* or a sandbox refuses to fill it */
        if (closed) err = os_fill_unwatched(base, os_page_size);
        if (done || (closed && !err)) {
            atomic_fetch_or(&range->noted[page / 64], (uint64_t)1 << page % 64);
            atomic_fetch_add(&range->notes, 1);
        }
        /* EEXIST: somebody else filled it, and notes it or has announced it. ENOENT: a pin has settled the loss meanwhile. */
        again = !err || err == EEXIST || err == ENOENT || err == ENOMEM || (closed && err == EAGAIN);
    }
    atomic_fetch_sub(&range->traps, 1);
    return again;
}

bool range_covers(uintptr_t address) {
    struct range *range = pool_find(address);
    return range && atomic_load(&range->live) && address - (uintptr_t)range->base < range->mapped;
}
