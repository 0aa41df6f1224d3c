/* A thread that has random parts of a memory reclaimed, as fast as it can, until it is stopped. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

static pthread_t thread;
static char *base;
static size_t pages, unit;
static uint64_t state;
static _Atomic int stop;
static _Atomic unsigned long calls;

static size_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

static void *evict(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        size_t first = below(pages), count = 1 + below(pages - first);
        madvise(base + first * unit, count * unit, MADV_PAGEOUT);
        atomic_fetch_add(&calls, 1);
    }
    return NULL;
}

/* `unit_bytes`: parts begin and end at multiples of it. */
int evict_start(char *address, size_t length, size_t unit_bytes, uint64_t seed) {
    base = address;
    unit = unit_bytes;
    pages = length / unit;
    state = seed * 2654435761u + 1;
    atomic_store(&stop, 0);
    atomic_store(&calls, 0);
    return pthread_create(&thread, NULL, evict, NULL);
}

unsigned long evict_calls(void) { return atomic_load(&calls); }

void evict_stop(void) {
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
}
