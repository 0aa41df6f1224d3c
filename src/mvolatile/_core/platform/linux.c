/* Memory and threads. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/parts.h"

/* Newer than the headers this may be built against. */
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* ---- memory ----------------------------------------------------------------------------------------------------------------------- */

int os_reserve(size_t len, size_t align, char **out) {
    size_t spare = align > os_page_size ? align : 0;
    if (len + spare < len) return ENOMEM;
    char *raw = mmap(NULL, len + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return errno;
    char *base = (char *)(((uintptr_t)raw + align - 1) & ~(align - 1));
    if (base > raw) munmap(raw, (size_t)(base - raw));
    if (raw + len + spare > base + len) munmap(base + len, (size_t)(raw + len + spare - (base + len)));
    *out = base;
    return 0;
}

int os_release(char *base, size_t len) { return errno_of(munmap(base, len)); }

void os_name(char *base, size_t len, const char *name) { prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base, len, name); }

static int advise(char *base, size_t len, int advice) {
    for (int refused = 0;;) {
        if (!madvise(base, len, advice)) return 0;
        if (errno != EINTR && errno != EAGAIN) return errno;
        /* EAGAIN: a mapping must be split, and cannot be: no memory for it, or as many mappings as vm.max_map_count allows. The first passes. */
        if (errno == EAGAIN && ++refused == 100) return ENOMEM;
    }
}

/* EINVAL: a kernel without huge pages. */
int os_huge(char *base, size_t len, bool wanted) {
    int err = advise(base, len, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return err == EINVAL ? 0 : err;
}
int os_dump(char *base, size_t len, bool wanted) { return advise(base, len, wanted ? MADV_DODUMP : MADV_DONTDUMP); }
int os_wipe_on_fork(char *base, size_t len) { return advise(base, len, MADV_WIPEONFORK); }
int os_free_lazily(char *base, size_t len) { return advise(base, len, MADV_FREE); }
int os_populate_write(char *base, size_t len) { return advise(base, len, MADV_POPULATE_WRITE); }
int os_populate_read(char *base, size_t len) { return advise(base, len, MADV_POPULATE_READ); }
int os_pageout(char *base, size_t len) { return advise(base, len, MADV_PAGEOUT); }
int os_discard(char *base, size_t len) { return advise(base, len, MADV_DONTNEED); }
int os_cold(char *base, size_t len) { return advise(base, len, MADV_COLD); }
int os_hold_resident(char *base, size_t len) { return errno_of((int)syscall(SYS_mlock2, base, len, MLOCK_ONFAULT)); }
int os_let_go(char *base, size_t len) {
    return errno_of((int)syscall(SYS_munlock, base, len)); /* AddressSanitizer makes munlock() do nothing */
}

/* ---- threads ---------------------------------------------------------------------------------------------------------------------- */

long os_minor_faults(void) {
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) ? -1 : usage.ru_minflt;
}

/* Neither the address of something that each thread has, nor gettid(): the next thread gets both, and a forked child's threads get its parent's
 * addresses. A child goes on counting where its parent was. */
uint64_t os_thread_id(void) {
    static _Atomic uint64_t last;
    static OF_EACH_THREAD uint64_t here;
    if (!here) here = atomic_fetch_add(&last, 1) + 1;
    return here;
}

void os_pause(void) { sched_yield(); }

void os_set_mask(uint64_t mask, uint64_t *was) { (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, was, sizeof mask); }

void os_reclaim_all(char *base, size_t len) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    /* Any MADV_COLD empties its CPU's lists first. It must be of nothing: under MGLRU a page that it meets goes onto that CPU's list of
     * pages to deactivate, and is not to be reclaimed from any other CPU. */
    char *nothing = mmap(NULL, os_page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (nothing == MAP_FAILED) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (!sched_setaffinity(0, sizeof one, &one)) (void)os_cold(nothing, os_page_size);
    }
    if (!os_free_lazily(base, len)) (void)os_pageout(base, len); /* on one CPU, still */
    sched_setaffinity(0, sizeof allowed, &allowed);
    (void)munmap(nothing, os_page_size);
}
