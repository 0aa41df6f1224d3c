/* The peeks that are open. */
#include "protocol/parts.h"

/* Open peeks are listed, so that a forked child can tell its own from those of threads it does not have: a count alone would keep a range
 * repaired (silently!) and unclosable for ever. In shards, so that threads do not wait for each other. */
#define SHARDS 16
enum {
    FORGOTTEN = SHARDS,
    UNLISTED
};
static struct shard {
    pthread_mutex_t lock;
    struct peek *first;
    char apart[64 - sizeof(pthread_mutex_t) % 64];
} shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

void peek_open(struct peek *peek) {
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
void peek_open_copy(struct peek *peek) {
    peek->shard = UNLISTED;
    peek->forks = fork_depth;
    atomic_fetch_add(&peek->range->peeks, 1);
}

void peek_close(struct peek *peek) {
    if (peek->shard == FORGOTTEN) return;
    if (peek->shard == UNLISTED) {
        if (peek->forks == fork_depth) atomic_fetch_sub(&peek->range->peeks, 1);
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
