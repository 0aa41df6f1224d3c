/* Which pages are there: PAGEMAP_SCAN (Linux 6.7), or one entry of the pagemap a page, or, where it cannot be opened, a question a page. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/parts.h"

static struct own pagemap = NO_DESCRIPTOR;
static _Atomic bool asks;

/* What was read is believed if the descriptor was ours before and after: else another thread may have closed it in between, and a file of the program's
 * have answered. Nor if it was opened anew meanwhile: the program may have used the number in between, and closed its file again. */
struct use {
    int fd; /* -1: it is not ours */
    unsigned openings;
};

static struct use begin_use(void) {
    unsigned openings = pagemap.openings;
    return (struct use){own_fd(&pagemap), openings};
}

static bool was_ours(struct use use) { return own_fd(&pagemap) == use.fd && pagemap.openings == use.openings; }

/* ---- PAGEMAP_SCAN ----------------------------------------------------------------------------------------------------------------- */

struct page_region {
    uint64_t start, end, categories;
};
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct pm_scan_arg)
#define IS_PRESENT (1u << 3)
#define IS_SWAPPED (1u << 4)
#define IS_PFNZERO (1u << 5)

/* EBADF: it was not ours; `*start` goes on to where the walk stopped, here as below. */
static int scan_fast(struct use use, enum os_class class, uintptr_t *start, uintptr_t end, os_found *found, void *context) {
    struct page_region regions[64];
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = *start,
        .end = end,
        .vec = (uintptr_t)regions,
        .vec_len = sizeof regions / sizeof *regions,
    };
    switch (class) {
    case OS_DATA:
        arg.category_inverted = arg.category_mask = IS_PFNZERO;
        arg.category_anyof_mask = IS_PRESENT | IS_SWAPPED;
        break;
    case OS_MISSING:
        arg.category_inverted = arg.category_mask = IS_PRESENT | IS_SWAPPED;
        break;
    case OS_RESIDENT:
        arg.category_inverted = IS_PFNZERO;
        arg.category_mask = IS_PFNZERO | IS_PRESENT;
        break;
    }
    arg.return_mask = IS_PRESENT; /* the kernel asks for one; it also splits regions by it, which callers join again */
    while (arg.start < end) {
        int count = ioctl(use.fd, PAGEMAP_SCAN_CALL, &arg), err = errno_of(count);
        if (!was_ours(use)) return EBADF;
        if (err == EINTR || err == EAGAIN) continue;
        if (err) return err;
        for (int i = 0; i < count; i++) found(context, regions[i].start, regions[i].end);
        if (arg.walk_end <= arg.start) return EIO;
        *start = arg.start = arg.walk_end;
    }
    return 0;
}

/* ---- the entries ------------------------------------------------------------------------------------------------------------------ */

/* Pages of the class that follow each other are told as one. */
struct run {
    os_found *found;
    void *context;
    uintptr_t start; /* 0: none */
};

static void end_run(struct run *run, uintptr_t at) {
    if (run->start) run->found(run->context, run->start, at);
    run->start = 0;
}

static void see_page(struct run *run, bool belongs, uintptr_t at) {
    if (!belongs)
        end_run(run, at);
    else if (!run->start)
        run->start = at;
}

#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_EXCLUSIVE (1ull << 56)

/* A zero page is never mapped exclusively, but neither is a page shared after fork; move_pages(2) without targets tells them apart: it
 * answers EFAULT for the zero page. Where the call is refused, the page counts as data, which is the safe side. */
static bool is_zero_page(uintptr_t address) {
    void *page = (void *)address;
    int status = 0;
    return syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0) == 0 && status == -EFAULT;
}

static bool in_class(enum os_class class, uint64_t entry, uintptr_t address) {
    bool present = entry & ENTRY_PRESENT, swapped = entry & ENTRY_SWAPPED;
    if (class == OS_MISSING) return !present && !swapped;
    if (present && !(entry & ENTRY_EXCLUSIVE)) return !is_zero_page(address);
    return present || (swapped && class == OS_DATA);
}

static int scan_entries(struct use use, enum os_class class, uintptr_t *from, uintptr_t end, os_found *found, void *context) {
    uint64_t entries[512];
    struct run run = {found, context, 0};
    uintptr_t start = *from;
    while (start < end) {
        size_t wanted = (end - start) / os_page_size;
        if (wanted > 512) wanted = 512;
        ssize_t got = pread(use.fd, entries, wanted * 8, (off_t)(start / os_page_size * 8));
        int err = got < 0 ? errno : 0;
        *from = run.start ? run.start : start;
        if (!was_ours(use)) return EBADF;
        if (err == EINTR) continue;
        if (got < 8) return err ? err : EIO;
        for (ssize_t i = 0; i < got / 8; i++, start += os_page_size)
            see_page(&run, in_class(class, entries[i], start), start);
    }
    end_run(&run, end);
    return 0;
}

/* ---- without ---------------------------------------------------------------------------------------------------------------------- */

/* move_pages(2) without targets says of a page of ours: its node, EFAULT for the zero page, ENOENT where none is mapped. That may be one in swap:
 * read in, it is in the swap cache, and mincore(2) knows. One that cannot be read in counts as missing. */
static bool is_swapped(uintptr_t address) {
    unsigned char cached = 0;
    (void)madvise((void *)address, os_page_size, MADV_WILLNEED);
    return !syscall(SYS_mincore, address, os_page_size, &cached) && cached & 1;
}

static bool answers_class(enum os_class class, int status, uintptr_t address) {
    bool absent = status == -ENOENT;
    if (class == OS_RESIDENT) return !absent && status != -EFAULT;
    bool swapped = absent && is_swapped(address);
    return class == OS_MISSING ? absent && !swapped : swapped || (!absent && status != -EFAULT);
}

static int scan_by_asking(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    enum {
        MOST = 256
    };
    void *pages[MOST];
    int status[MOST];
    struct run run = {found, context, 0};
    while (start < end) {
        size_t count = (end - start) / os_page_size;
        if (count > MOST) count = MOST;
        for (size_t i = 0; i < count; i++) pages[i] = (void *)(start + i * os_page_size);
        if (syscall(SYS_move_pages, 0, count, pages, NULL, status, 0)) {
            if (errno == EINTR) continue;
            return errno;
        }
        for (size_t i = 0; i < count; i++, start += os_page_size) see_page(&run, answers_class(class, status[i], start), start);
    }
    end_run(&run, end);
    return 0;
}

bool ask_without_pagemap(void) {
    void *page = (void *)((uintptr_t)&pagemap & ~(os_page_size - 1)); /* there, and real: it was written to */
    int status = -1;
    bool answered = os_probe.pagemap && !syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0) && status >= 0;
    atomic_store(&asks, answered);
    return os_can_scan();
}

bool os_can_scan(void) {
    if (os_probe.pagemap == OS_UNTRIED) open_pagemap(); /* a tier that does not need it, and an option that does */
    return !os_probe.pagemap || atomic_load(&asks);
}

/* ---- opening, and scanning -------------------------------------------------------------------------------------------------------- */

static void nothing_found(void *context, uintptr_t start, uintptr_t end) {
    (void)context, (void)start, (void)end;
}

static void try_pagemap(void) {
    if (own_fd(&pagemap) >= 0) return;
    uint64_t entry;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), failed = errno_of(fd);
    own_keep(&pagemap, fd);
    if (!failed && pread(fd, &entry, 8, (off_t)((uintptr_t)&pagemap / os_page_size * 8)) != 8) {
        failed = EIO;
        own_close(&pagemap); /* so that os_scan() tries again */
    }
    note(&os_probe.pagemap, failed);
    uintptr_t here = (uintptr_t)&pagemap & ~(os_page_size - 1);
    note(&os_probe.pagemap_scan, failed ? failed : scan_fast(begin_use(), OS_DATA, &here, here + os_page_size, nothing_found, NULL));
}

/* What is open already stays. Two threads may scan at once where somebody closed all descriptors: one opens. */
void open_pagemap(void) {
    static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&opening);
    try_pagemap();
    pthread_mutex_unlock(&opening);
}

void close_pagemap(void) { own_close(&pagemap); }

int os_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    if (start >= end) return 0;
    int err = EBADF;
    for (int tries = 0; err == EBADF && tries < 100; tries++) { /* a sandbox may answer so, too */
        struct use use = begin_use();
        if (use.fd < 0) {
            open_pagemap(); /* also where it could not be opened before: EMFILE passes */
            use = begin_use();
        }
        if (os_probe.pagemap && os_serving == OS_TIER_FAULTCOUNT && !atomic_load(&asks)) (void)ask_without_pagemap();
        if (os_probe.pagemap) return atomic_load(&asks) ? scan_by_asking(class, start, end, found, context) : os_probe.pagemap;
        if (use.fd < 0) continue; /* it was closed again */
        if (!os_probe.pagemap_scan) {
            err = scan_fast(use, class, &start, end, found, context);
            if (err != EPERM && err != EACCES && err != ENOSYS && err != ENOTTY && err != EINVAL) continue;
            note(&os_probe.pagemap_scan, err); /* a sandbox that came late refuses ioctl(2), and hardly read(2) */
        }
        err = scan_entries(use, class, &start, end, found, context);
    }
    return err;
}
