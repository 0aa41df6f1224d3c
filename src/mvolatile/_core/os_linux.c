#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

size_t os_page_size, os_huge_size;

static void open_proc(void);

static struct os_probe probe;
/* Looked at while another thread may open new ones. */
static _Atomic int uffd = -1, pagemap = -1, maps = -1;
static _Atomic ino_t pagemap_inode, maps_inode;

/* A program that closes all descriptors, as daemons do, may have opened another file at the number. */
static bool is_ours(int fd, ino_t inode) {
    struct stat now;
    return fd >= 0 && !fstat(fd, &now) && now.st_ino == inode;
}

/* ---- pagemap: PAGEMAP_SCAN (6.7) ---------------------------------------------------------------------------------------------- */

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

static int scan_fast(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    struct page_region regions[64];
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = start,
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
        int count = ioctl(pagemap, PAGEMAP_SCAN_CALL, &arg);
        if (count < 0) {
            if (errno == EINTR || errno == EAGAIN) continue;
            return errno;
        }
        for (int i = 0; i < count; i++) found(context, regions[i].start, regions[i].end);
        if (arg.walk_end <= arg.start) return EIO;
        arg.start = arg.walk_end;
    }
    return 0;
}

/* ---- pagemap: one entry a page, for kernels before 6.7 --------------------------------------------------------------------------- */

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

static int scan_entries(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    uint64_t entries[512];
    uintptr_t run = 0;
    while (start < end) {
        size_t wanted = (end - start) / os_page_size;
        if (wanted > 512) wanted = 512;
        ssize_t got = pread(pagemap, entries, wanted * 8, (off_t)(start / os_page_size * 8));
        if (got < 8) {
            if (got < 0 && errno == EINTR) continue;
            return got < 0 ? errno : EIO;
        }
        for (ssize_t i = 0; i < got / 8; i++, start += os_page_size) {
            if (in_class(class, entries[i], start)) {
                if (!run) run = start;
            } else if (run) {
                found(context, run, start);
                run = 0;
            }
        }
    }
    if (run) found(context, run, end);
    return 0;
}

int os_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    if (start >= end) return 0;
    if (!is_ours(pagemap, pagemap_inode)) open_proc(); /* also where it could not be opened before: EMFILE passes */
    if (probe.pagemap) return probe.pagemap;
    return (probe.pagemap_scan ? scan_entries : scan_fast)(class, start, end, found, context);
}

/* ---- what is mapped: PROCMAP_QUERY (6.11), or the text of /proc/self/maps ---------------------------------------------------------- */

struct procmap_query {
    uint64_t size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY_CALL _IOWR('f', 17, struct procmap_query)
#define VMA_WRITABLE 0x02
#define COVERING_OR_NEXT 0x10
#define VMA_SHARED 0x08

/* Kernel-made mappings have no inode either, but lazy free refuses them. */
static bool is_special(const char *name) {
    return !strncmp(name, "[vdso", 5) || !strncmp(name, "[vvar", 5) || !strncmp(name, "[vsyscall", 9);
}

static int mapping_by_query(uintptr_t at, struct os_mapping *out) {
    char name[64] = "";
    struct procmap_query query = {
        .size = sizeof query,
        .query_flags = COVERING_OR_NEXT,
        .query_addr = at,
        .vma_name_size = sizeof name,
        .vma_name_addr = (uintptr_t)name,
    };
    int failed = ioctl(maps, PROCMAP_QUERY_CALL, &query);
    if (failed && errno == ENAMETOOLONG) { /* a file's path, or a long label of anonymous memory: the inode tells */
        query.vma_name_size = 0;
        query.vma_name_addr = 0;
        failed = ioctl(maps, PROCMAP_QUERY_CALL, &query);
    }
    if (failed) return errno == ENOENT ? ENOMEM : errno;
    out->start = query.vma_start;
    out->end = query.vma_end;
    out->usable = (query.vma_flags & VMA_WRITABLE) && !(query.vma_flags & VMA_SHARED) && !query.inode && !is_special(name);
    return 0;
}

static int mapping_by_text(FILE *file, uintptr_t at, struct os_mapping *out) {
    char line[512];
    if (out->end > at) return 0; /* the line read last */
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end, offset, inode;
        char perms[5], device[16], name[32] = "";
        int fields = sscanf(line, "%lx-%lx %4s %lx %15s %lu %31s", &start, &end, perms, &offset, device, &inode, name);
        if (!strchr(line, '\n')) { /* a path longer than the line */
            int c;
            while ((c = fgetc(file)) != '\n' && c != EOF) {}
        }
        if (fields < 6 || end <= at) continue;
        *out = (struct os_mapping){start, end, perms[1] == 'w' && perms[3] == 'p' && !inode && !is_special(name)};
        return 0;
    }
    return ferror(file) ? EIO : ENOMEM;
}

int os_walk_begin(struct os_walk *walk) {
    *walk = (struct os_walk){NULL, {0, 0, false}};
    if (probe.procmap_query && !(walk->text = fopen("/proc/self/maps", "re"))) return errno;
    return 0;
}

int os_walk_to(struct os_walk *walk, uintptr_t at) {
    return walk->text ? mapping_by_text(walk->text, at, &walk->found) : mapping_by_query(at, &walk->found);
}

void os_walk_end(struct os_walk *walk) {
    if (walk->text) fclose(walk->text);
}

int os_check_anonymous(uintptr_t start, uintptr_t end, os_found *mapped, void *context) {
    struct os_walk walk;
    int err = os_walk_begin(&walk), refused = 0;
    if (err) return err;
    for (uintptr_t at = start; at < end; at = walk.found.end) {
        err = os_walk_to(&walk, at);
        if (!err && walk.found.start > at) err = ENOMEM;
        if (err) break;
        if (!walk.found.usable)
            refused = EINVAL;
        else if (!refused)
            refused = os_cold((char *)at, os_page_size); /* finds mlock and hugetlb; harmless to a page about to be marked */
        if (!refused) mapped(context, at, walk.found.end < end ? walk.found.end : end);
    }
    os_walk_end(&walk);
    return err ? err : refused;
}

/* ---- userfaultfd ------------------------------------------------------------------------------------------------------------------ */

static int open_uffd(void) {
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    probe.userfaultfd = fd < 0 ? errno : 0;
    if (fd < 0) return -1;
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
    if (ioctl(fd, UFFDIO_API, &api)) {
        if (errno == EBADF) return open_uffd(); /* the program has closed this one, too */
        probe.uffd_sigbus = errno;
        close(fd);
        return -1;
    }
    probe.uffd_sigbus = 0;
    return fd;
}

int os_watch(char *base, size_t len) {
    struct uffdio_register arg = {.range = {(uintptr_t)base, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    return ioctl(uffd, UFFDIO_REGISTER, &arg) ? errno : 0;
}

/* close() frees the number first and lets go of the memory at its end, and the thread that called it may stand in between; a child on its way to
 * exec() that has a copy keeps the memory watched until it gets there. */
static bool wait_for_close(int *waits) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return ++*waits < 1000;
}

int os_watch_again(char *base, size_t len) {
    int err, waits = 0;
    do err = os_watch(base, len);
    while (err == EBUSY && wait_for_close(&waits));
    return err;
}

int os_fill_unwatched(char *base, size_t len) {
    int err, waits = 0;
    while ((err = os_populate_read(base, len)) == EFAULT) {
        if (os_watching()) return EAGAIN;
        if (!wait_for_close(&waits)) break;
    }
    return err;
}

int os_unwatch(char *base, size_t len) {
    struct uffdio_range arg = {(uintptr_t)base, len};
    return ioctl(uffd, UFFDIO_UNREGISTER, &arg) ? errno : 0;
}

void os_stop_watching(void) {
    if (os_watching()) close(uffd);
    uffd = -1;
}

/* Nobody sleeps, so waking does nothing. A second handshake would tell as well, by its refusal, but for the bad schedule: the number is by now
 * that of a new userfaultfd, which another thread is just opening, and this would be its first handshake, without our features. */
bool os_watching(void) {
    struct uffdio_range here = {(uintptr_t)&probe & ~(os_page_size - 1), os_page_size};
    return !ioctl(uffd, UFFDIO_WAKE, &here);
}

bool os_is_watched(char *page) {
    struct uffdio_copy arg = {.dst = (uintptr_t)page, .src = 0, .len = os_page_size, .mode = UFFDIO_COPY_MODE_DONTWAKE};
    int err; /* nothing is mapped at 0, so nothing is copied; that the mapping is not watched is found first */
    do err = ioctl(uffd, UFFDIO_COPY, &arg) ? errno : 0;
    while (err == EAGAIN || err == EINTR);
    if (err == ENOENT) return false;
    return os_watch(page, os_page_size) != EBUSY; /* some userfaultfd watches it: another than ours says so here, ours changes nothing */
}

int os_zero(char *base, size_t len, size_t *done) {
    *done = 0;
    while (*done < len) {
        struct uffdio_zeropage arg = {
            .range = {(uintptr_t)base + *done, len - *done},
            .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE,
        };
        int err = ioctl(uffd, UFFDIO_ZEROPAGE, &arg) ? errno : 0;
        if (arg.zeropage > 0) *done += (size_t)arg.zeropage;
        if (err && err != EAGAIN && err != EINTR) return err;
        if (err) os_pause(); /* EAGAIN: the mappings are changing (fork, mmap), or a part is done */
    }
    return 0;
}

/* ---- opening and probing ---------------------------------------------------------------------------------------------------------- */

static int errno_of(int result) { return result < 0 ? errno : 0; }

static int try_advice(void) {
    char *page = mmap(NULL, os_page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return errno;
    probe.populate_write = os_populate_write(page, os_page_size);
    probe.madv_free = os_free_lazily(page, os_page_size);
    probe.pageout = os_pageout(page, os_page_size);
    probe.anon_name = errno_of(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, os_page_size, "mvolatile:probe"));
    munmap(page, os_page_size);
    return 0;
}

static void nothing_found(void *context, uintptr_t start, uintptr_t end) {
    (void)context, (void)start, (void)end;
}

/* Others read the probe meanwhile; to open a descriptor again seldom changes what it said. */
static void note(int *fact, int found) {
    if (*fact != found) *fact = found;
}

static void open_pagemap(void) {
    uint64_t entry;
    struct stat opened;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), failed = errno_of(fd);
    if (!failed && pread(fd, &entry, 8, (off_t)((uintptr_t)&probe / os_page_size * 8)) != 8) {
        failed = EIO;
        close(fd);
        fd = -1; /* so that os_scan() tries again */
    }
    pagemap_inode = !failed && !fstat(fd, &opened) ? opened.st_ino : 0;
    pagemap = fd;
    note(&probe.pagemap, failed);
    uintptr_t here = (uintptr_t)&probe & ~(os_page_size - 1);
    note(&probe.pagemap_scan, failed ? failed : scan_fast(OS_DATA, here, here + os_page_size, nothing_found, NULL));
}

static void open_maps(void) {
    struct stat opened;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), failed = errno_of(fd);
    maps_inode = !failed && !fstat(fd, &opened) ? opened.st_ino : 0;
    maps = fd;
    struct os_mapping mapping;
    note(&probe.procmap_query, failed ? failed : mapping_by_query((uintptr_t)&probe, &mapping));
}

/* What is open already stays. Two threads may scan at once where somebody closed all descriptors: one opens. Never outside the fork gate. */
static void open_proc(void) {
    static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&opening);
    if (!is_ours(pagemap, pagemap_inode)) open_pagemap();
    if (!is_ours(maps, maps_inode)) open_maps();
    pthread_mutex_unlock(&opening);
}

static size_t read_huge_size(void) {
    char text[32] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
        close(fd);
    }
    size_t size = strtoul(text, NULL, 10);
    return size ? size : (size_t)2 << 20;
}

static void close_all(void) {
    os_stop_watching();
    if (is_ours(pagemap, pagemap_inode)) close(pagemap);
    if (is_ours(maps, maps_inode)) close(maps);
}

static bool passes(int err) { return err == EMFILE || err == ENFILE; }

int os_open(enum os_tier most, enum os_tier *best) {
    os_page_size = (size_t)sysconf(_SC_PAGESIZE);
    os_huge_size = read_huge_size();
    int err = try_advice();
    if (err) return err;
    open_proc();
    uffd = open_uffd();
    if (passes(probe.userfaultfd) || passes(probe.pagemap) || passes(probe.procmap_query)) {
        err = passes(probe.userfaultfd) ? probe.userfaultfd : passes(probe.pagemap) ? probe.pagemap : probe.procmap_query;
        close_all();
        pagemap = maps = -1;
        return err;
    }
    /* MADV_COLD and MADV_PAGEOUT (5.4) are older than MADV_POPULATE_WRITE (5.14), which decides. */
    bool purges = most != OS_TIER_UNSUPPORTED && !probe.madv_free && !probe.populate_write;
    if (purges && most == OS_TIER_USERFAULTFD && uffd >= 0) {
        *best = OS_TIER_USERFAULTFD;
        return 0;
    }
    os_stop_watching();
    *best = purges && !probe.pagemap ? OS_TIER_FAULTCOUNT : OS_TIER_UNSUPPORTED;
    return 0;
}

enum os_tier os_open_again(enum os_tier tier, bool close_old) {
    if (close_old) close_all(); /* where the tier does not need userfaultfd, it is not opened again */
    open_proc();
    if (tier == OS_TIER_USERFAULTFD && (uffd = open_uffd()) < 0) tier = OS_TIER_FAULTCOUNT;
    return tier;
}

const struct os_probe *os_probed(void) { return &probe; }

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

void os_huge(char *base, size_t len, bool wanted) { (void)advise(base, len, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); }
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

uint64_t os_thread_id(void) {
    static OF_EACH_THREAD char here;
    return (uint64_t)(uintptr_t)&here;
}

void os_pause(void) { sched_yield(); }

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
