/* Opening descriptors, and trying once what the kernel gives. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/parts.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

size_t os_page_size, os_huge_size;
bool os_huge_by_default;
_Atomic enum os_tier os_serving;
struct os_probe os_probe = {OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED};

const struct os_probe *os_probed(void) { return &os_probe; }

bool passes(int err) { return err == EMFILE || err == ENFILE; }

/* ---- descriptors ------------------------------------------------------------------------------------------------------------------ */

/* The call itself: glibc's fstat() walks a path, which costs more. */
static bool is_ours(struct own *own, int fd) {
    struct stat now;
    return fd >= 0 && !syscall(SYS_fstat, fd, &now) && now.st_ino == own->inode && now.st_dev == own->device;
}

int own_fd(struct own *own) {
    int fd = own->fd;
    return is_ours(own, fd) ? fd : -1;
}

/* The number last: who reads the old one with the new inode is told that it is not ours, and asks again where others are kept out. */
void own_keep(struct own *own, int fd) {
    struct stat opened;
    own->fd = -1;
    if (fd < 0 || syscall(SYS_fstat, fd, &opened)) return;
    own->device = opened.st_dev;
    own->inode = opened.st_ino;
    own->fd = fd;
}

void own_close(struct own *own) {
    int fd = atomic_exchange(&own->fd, -1); /* of two who close, one has it: the other would close what has got the number since */
    if (is_ours(own, fd)) close(fd);
}

static int read_all(struct own *file, char **text, size_t *length) {
    size_t room = 4096;
    *length = 0;
    for (;;) {
        char *larger = *length + 1 < room ? *text : realloc(*text, room *= 2);
        int fd = own_fd(file);
        if (!larger) return ENOMEM;
        *text = larger;
        ssize_t got = fd < 0 ? -1 : read(fd, *text + *length, room - 1 - *length);
        int err = got < 0 ? errno : 0;
        if (fd < 0 || own_fd(file) != fd) return EBADF;
        if (err && err != EINTR) return err;
        if (!got) return 0;
        if (got > 0) *length += (size_t)got;
    }
}

int os_read(const char *path, char **text, size_t *length) {
    int err = EBADF;
    if (!(*text = malloc(4096))) return ENOMEM;
    for (int tries = 0; err == EBADF && tries < 10; tries++) {
        struct own file = NO_DESCRIPTOR;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        err = errno_of(fd);
        own_keep(&file, fd);
        if (!err) err = read_all(&file, text, length);
        own_close(&file);
    }
    if (err)
        free(*text);
    else
        (*text)[*length] = 0;
    return err;
}

/* What is open already stays. Two threads may scan at once where somebody closed all descriptors: one opens. */
void open_proc(void) {
    static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&opening);
    open_pagemap();
    open_maps();
    pthread_mutex_unlock(&opening);
}

static void close_all(void) {
    os_stop_watching();
    close_pagemap();
    close_maps();
}

/* ---- trying ----------------------------------------------------------------------------------------------------------------------- */

static int try_advice(void) {
    char *page = mmap(NULL, os_page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return errno;
    os_probe.populate_write = os_populate_write(page, os_page_size);
    os_probe.madv_free = os_free_lazily(page, os_page_size);
    os_probe.pageout = os_pageout(page, os_page_size);
    int named = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, os_page_size, "mvolatile:probe");
    os_probe.anon_name = errno_of(named);
    munmap(page, os_page_size);
    return 0;
}

static void read_settings(void) {
    char *text;
    size_t length, size = 0;
    if (!os_read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &text, &length)) {
        size = strtoul(text, NULL, 10);
        free(text);
    }
    os_huge_size = size ? size : (size_t)2 << 20;
    if (os_read("/sys/kernel/mm/transparent_hugepage/enabled", &text, &length)) return;
    os_huge_by_default = strstr(text, "[always]");
    free(text);
}

/* A filter may kill whoever makes a call that is not on its list, as systemd's SystemCallFilter= does, and the administrator who knows says so by
 * a lower tier: what that tier does not use is not tried. */
int os_open(enum os_tier most, enum os_tier *best) {
    os_page_size = (size_t)sysconf(_SC_PAGESIZE);
    read_settings();
    *best = OS_TIER_UNSUPPORTED;
    if (most == OS_TIER_UNSUPPORTED) return 0;
    int err = try_advice();
    if (err) return err;
    open_proc();
    bool watching = most == OS_TIER_USERFAULTFD && open_userfaultfd();
    if (passes(os_probe.userfaultfd) || passes(os_probe.pagemap) || passes(os_probe.procmap_query)) {
        err = passes(os_probe.userfaultfd) ? os_probe.userfaultfd : passes(os_probe.pagemap) ? os_probe.pagemap : os_probe.procmap_query;
        close_all();
        return err;
    }
    /* MADV_COLD and MADV_PAGEOUT (5.4) are older than MADV_POPULATE_WRITE (5.14), which decides. */
    bool purges = !os_probe.madv_free && !os_probe.populate_write;
    if (purges && watching)
        *best = OS_TIER_USERFAULTFD;
    else if (purges && !os_probe.pagemap)
        *best = OS_TIER_FAULTCOUNT;
    if (*best != OS_TIER_USERFAULTFD) os_stop_watching();
    os_serving = *best;
    return 0;
}

enum os_tier os_open_again(enum os_tier tier, bool in_child) {
    if (in_child)
        close_all();
    else
        os_stop_watching(); /* it may be open still, and refused */
    if (tier == OS_TIER_UNSUPPORTED) return tier;
    open_proc();
    if (tier == OS_TIER_USERFAULTFD && open_userfaultfd()) return os_serving = tier;
    return os_without_watch();
}

enum os_tier os_without_watch(void) {
    os_stop_watching();
    return os_serving = ask_without_pagemap() ? OS_TIER_FAULTCOUNT : OS_TIER_UNSUPPORTED;
}
