/* What the library is measured against.
 *
 * crf_*: the per-page compare-and-swap way of Chromium's MadvFreeDiscardableMemory, written from its description. Unlocking saves the first
 * word of each page, puts a cookie there and calls MADV_FREE. Locking swaps the cookie for the saved word in each page: that it was
 * still there proves survival, and writing dirties the page, which cancels the lazy free. Relaxed order, and the first page missing
 * drops the object. Its own layout is base pages.
 *
 * bare_*: the system calls of a pin and an unpin, and nothing else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define PAGE ((size_t)4096)
#define HUGE ((size_t)2 << 20)
#define COOKIE 1

/* Written memory, aligned for huge pages. */
void *area_open(size_t len, int huge) {
    char *raw = mmap(NULL, len + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    char *base = (char *)(((uintptr_t)raw + HUGE - 1) & ~(HUGE - 1));
    if (base > raw) munmap(raw, (size_t)(base - raw));
    if (raw + HUGE > base) munmap(base + len, (size_t)(raw + HUGE - base));
    madvise(base, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(base, 0x5a, len);
    return base;
}

void area_close(void *base, size_t len) { munmap(base, len); }

int area_discard(void *base, size_t len) { return madvise(base, len, MADV_DONTNEED) ? errno : 0; }

/* ---- Chromium's way --------------------------------------------------------------------------------------------------------------- */

struct crf {
    char *base;
    size_t pages;
    uint64_t *saved;
};

struct crf *crf_open(size_t len, int huge) {
    struct crf *crf = malloc(sizeof *crf);
    *crf = (struct crf){area_open(len, huge), len / PAGE, calloc(len / PAGE, sizeof(uint64_t))};
    return crf;
}

void crf_close(struct crf *crf) {
    area_close(crf->base, crf->pages * PAGE);
    free(crf->saved);
    free(crf);
}

static void crf_unlock(struct crf *crf) {
    for (size_t i = 0; i < crf->pages; i++) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(crf->base + i * PAGE);
        crf->saved[i] = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, COOKIE, memory_order_relaxed);
    }
    madvise(crf->base, crf->pages * PAGE, MADV_FREE);
}

static size_t crf_lock(struct crf *crf) {
    for (size_t i = 0; i < crf->pages; i++) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(crf->base + i * PAGE);
        uint64_t cookie = COOKIE;
        if (!atomic_compare_exchange_strong_explicit(word, &cookie, crf->saved[i], memory_order_relaxed, memory_order_relaxed))
            return i;
    }
    return crf->pages;
}

/* How many pages, from the front, were there still. */
size_t crf_round(struct crf *crf) {
    crf_unlock(crf);
    return crf_lock(crf);
}

/* ---- bare system calls ------------------------------------------------------------------------------------------------------------ */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int uffd = -1;

/* `base` becomes watched memory. 0 or an errno. */
int bare_watch(void *base, size_t len) {
    if (uffd < 0) {
        uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
        if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api)) return errno;
    }
    struct uffdio_register arg = {.range = {(uintptr_t)base, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    return ioctl(uffd, UFFDIO_REGISTER, &arg) ? errno : 0;
}

/* Seconds for `rounds` of: is the descriptor ours still, populate, free lazily. */
double bare_rounds(void *base, size_t len, long rounds) {
    double start = now();
    for (long i = 0; i < rounds; i++) {
        struct uffdio_api api = {.api = UFFD_API};
        if (!ioctl(uffd, UFFDIO_API, &api)) return -1;
        if (madvise(base, len, MADV_POPULATE_WRITE)) return -1;
        if (madvise(base, len, MADV_FREE)) return -1;
    }
    return now() - start;
}

/* Seconds for one populate and free of the first page of each of `count` memories of `len` bytes. */
double bare_sweep(void *const *bases, long count, size_t len) {
    double start = now();
    for (long i = 0; i < count; i++) {
        if (madvise(bases[i], PAGE, MADV_POPULATE_WRITE)) return -1;
        if (madvise(bases[i], len, MADV_FREE)) return -1;
    }
    return now() - start;
}

double bare_frees(void *base, size_t len, long rounds) {
    double start = now();
    for (long i = 0; i < rounds; i++)
        if (madvise(base, len, MADV_FREE)) return -1;
    return now() - start;
}

double bare_checks(long rounds) {
    double start = now();
    for (long i = 0; i < rounds; i++) {
        struct uffdio_api api = {.api = UFFD_API};
        if (!ioctl(uffd, UFFDIO_API, &api)) return -1;
    }
    return now() - start;
}

double bare_sigactions(long rounds) {
    double start = now();
    struct sigaction action;
    for (long i = 0; i < rounds; i++)
        if (sigaction(SIGBUS, NULL, &action)) return -1;
    return now() - start;
}
