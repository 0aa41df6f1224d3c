/* What is mapped: PROCMAP_QUERY (Linux 6.11), or the text of /proc/self/maps. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/parts.h"

static struct own maps = NO_DESCRIPTOR;

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
    int fd = own_fd(&maps), failed = ioctl(fd, PROCMAP_QUERY_CALL, &query);
    if (failed && errno == ENAMETOOLONG) { /* a file's path, or a long label of anonymous memory: the inode tells */
        query.vma_name_size = 0;
        query.vma_name_addr = 0;
        failed = ioctl(fd, PROCMAP_QUERY_CALL, &query);
    }
    if (own_fd(&maps) != fd) return EBADF;
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

static ssize_t read_own(void *own, char *to, size_t n) {
    int fd = own_fd(own);
    ssize_t got = fd < 0 ? -1 : read(fd, to, n);
    return own_fd(own) == fd ? got : -1;
}

static int close_own(void *own) {
    own_close(own);
    free(own);
    return 0;
}

/* A file of libc's that asks whose its descriptor is. */
static int open_text(struct os_walk *walk) {
    struct own *own = malloc(sizeof *own);
    if (!own) return ENOMEM;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), err = errno_of(fd);
    *own = (struct own)NO_DESCRIPTOR;
    own_keep(own, fd);
    walk->text = err ? NULL : fopencookie(own, "r", (cookie_io_functions_t){.read = read_own, .close = close_own});
    if (!walk->text) close_own(own);
    return walk->text ? 0 : err ? err
                                : ENOMEM;
}

int os_walk_begin(struct os_walk *walk) {
    *walk = (struct os_walk){NULL, {0, 0, false}};
    if (own_fd(&maps) < 0) open_maps();
    return os_probe.procmap_query ? open_text(walk) : 0;
}

int os_walk_to(struct os_walk *walk, uintptr_t at) {
    if (!walk->text) {
        int err = mapping_by_query(at, &walk->found);
        if (!err || err == ENOMEM) return err;
        note(&os_probe.procmap_query, err); /* as in os_scan() */
        walk->found.end = 0;
        if (open_text(walk)) return err;
    }
    return mapping_by_text(walk->text, at, &walk->found);
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

static void try_maps(void) {
    if (own_fd(&maps) >= 0) return;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), failed = errno_of(fd);
    own_keep(&maps, fd);
    struct os_mapping mapping;
    note(&os_probe.procmap_query, failed ? failed : mapping_by_query((uintptr_t)&maps, &mapping));
}

void open_maps(void) {
    static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* as in open_pagemap() */
    pthread_mutex_lock(&opening);
    try_maps();
    pthread_mutex_unlock(&opening);
}

void close_maps(void) { own_close(&maps); }

/* ---- what a fork did not copy (MADV_DONTFORK) ------------------------------------------------------------------------------------- */

/* msync() of anonymous memory does nothing but find out whether all of it is mapped, mapping by mapping. */
bool os_is_mapped(char *base, size_t len) { return !syscall(SYS_msync, base, len, MS_ASYNC); }

/* MAP_FIXED_NOREPLACE succeeds where nothing at all is mapped; else one half and then the other. */
void os_each_unmapped(char *base, size_t len, bool map, os_found *found, void *context) {
    if (os_is_mapped(base, len)) return;
    char *new = mmap(base, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    bool unmapped = new == base;
    if (new != MAP_FAILED && (!unmapped || !map)) munmap(new, len);
    if (unmapped || len == os_page_size) {
        found(context, (uintptr_t)base, (uintptr_t)base + len);
        return;
    }
    size_t half = len / 2 / os_page_size * os_page_size;
    os_each_unmapped(base, half, map, found, context);
    os_each_unmapped(base + half, len - half, map, found, context);
}
