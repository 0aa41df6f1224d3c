/* Threads of others that have SIGBUS blocked, as the workers of numexpr, ZeroMQ and GLib do. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform/apart.h"
#include "platform/parts.h"

enum answer {
    NO,
    YES,
    ENDED,
    UNKNOWN
};

/* Fields of a thread's `stat`, by proc(5)'s numbers. The name is the second, in parentheses, and may hold anything. */
enum {
    NAME = 2,
    FLAGS = 9,
    BLOCKED = 32
};

static unsigned long field_of(const char *after_name, int wanted, bool *there) {
    for (int number = NAME; after_name && number < wanted; number++) after_name = strchr(after_name + 1, ' ');
    *there = after_name;
    return after_name ? strtoul(after_name, NULL, 10) : 0;
}

/* The allocator's, which pandas, PyArrow and Polars bring along: it gives free pages back, and reads nobody's data. Were it looked at, every peek
 * beside pandas would be a pin. */
static bool is_jemallocs(const char *name, const char *after) {
    static const char own[] = "(jemalloc_bg_thd";
    return name && (size_t)(after - name) == sizeof own - 1 && !memcmp(name, own, sizeof own - 1);
}

#define PF_IO_WORKER 0x10ul /* since Linux 5.12 io_uring's threads are the process's: they run in the kernel, where a touch in vain is EFAULT */

static enum answer mask_in(const char *text) {
    bool flagged, masked;
    const char *name = strchr(text, '('), *after = strrchr(text, ')');
    unsigned long flags = field_of(after, FLAGS, &flagged), blocked = field_of(after, BLOCKED, &masked);
    if (!flagged || !masked) return UNKNOWN;
    return blocked >> (SIGBUS - 1) & 1 && !(flags & PF_IO_WORKER) && !is_jemallocs(name, after) ? YES : NO;
}

static enum answer blocks_sigbus(const char *thread) {
    char path[64], *text;
    size_t length;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", thread);
    int err = os_read(path, &text, &length);
    if (err) return err == ENOENT || err == ESRCH ? ENDED : UNKNOWN;
    enum answer answer = mask_in(text);
    free(text);
    return answer;
}

struct entry { /* what getdents64(2) tells: readdir(3) keeps the number to itself */
    uint64_t inode;
    int64_t next;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Of a part of the list. The library's own are passed over: they block all signals, and touch no memory that could trap. */
static enum answer any_blocks(const char *list, long length) {
    enum answer all = ENDED;
    for (long at = 0; at < length; at += ((const struct entry *)(list + at))->length) {
        const char *thread = ((const struct entry *)(list + at))->name;
        enum answer answer = thread[0] == '.' || os_is_apart(strtol(thread, NULL, 10)) ? ENDED : blocks_sigbus(thread);
        if (answer == YES || answer == UNKNOWN) return YES;
        if (answer == NO) all = NO;
    }
    return all;
}

/* Whoever asks lives: a list without any living thread is not the list. */
static bool look(void) {
    _Alignas(struct entry) char list[4096];
    struct own directory = NO_DESCRIPTOR;
    own_keep(&directory, open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    enum answer all = ENDED;
    long length = 1;
    while (length > 0 && all != YES) {
        int fd = own_fd(&directory);
        length = fd < 0 ? -1 : syscall(SYS_getdents64, fd, list, sizeof list);
        if (length < 0 || own_fd(&directory) != fd) break;
        enum answer answer = any_blocks(list, length);
        if (answer != ENDED) all = answer;
    }
    own_close(&directory);
    return length || all != NO;
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool os_any_thread_blocks_sigbus(void) {
    static uint64_t looked, cost; /* 0: never */
    static bool any;
    uint64_t now = nanoseconds(CLOCK_MONOTONIC);
    if (looked && now - looked < 100 * cost) return any;
    uint64_t before = nanoseconds(CLOCK_THREAD_CPUTIME_ID); /* time that passes while others run is no cost */
    any = look();
    cost = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - before;
    looked = now;
    return any;
}
