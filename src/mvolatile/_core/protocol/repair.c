/* The trap's repair, which lets a peek go on. All of it runs in the signal handler. */
#include <errno.h>

#include "protocol/parts.h"
#include "protocol/pool.h"
#include "protocol/raw.h"

_Atomic bool raw_repaired;

bool range_repair(uintptr_t address, bool raw) {
    struct range *range;
    for (;;) {
        range = pool_find(address);
        if (!range) return false;
        atomic_fetch_add(&range->traps, 1);
        uint64_t shut_by = atomic_load(&gate_shut_by);
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

bool raw_repair(uintptr_t address) {
    size_t done;
    int err = os_zero((char *)(address & ~(os_page_size - 1)), os_page_size, &done);
    if (done) atomic_store(&raw_repaired, true);
    return !err || err == EEXIST;
}

bool raw_covers(uintptr_t address) { return os_watching() && os_is_watched((char *)(address & ~(os_page_size - 1))); }
