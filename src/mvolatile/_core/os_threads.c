/* Threads of others that have SIGBUS blocked, as the workers of numexpr, ZeroMQ and GLib do. */
#include "os.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum answer { NO, YES, ENDED, UNKNOWN };

/* The mask is the 32nd field of its `stat`, a decimal number of 31 signals; the name in parentheses before may hold anything. */
static enum answer blocks_sigbus(int directory, const char *thread) {
    char path[280], text[1024];
    snprintf(path, sizeof path, "%s/stat", thread);
    int file = openat(directory, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return faccessat(directory, thread, F_OK, 0) ? ENDED : UNKNOWN;
    ssize_t n = read(file, text, sizeof text - 1);
    close(file);
    if (n <= 0) return ENDED;
    text[n] = 0;
    char *field = strrchr(text, ')');
    for (int number = 2; field && number < 32; number++) field = strchr(field + 1, ' ');
    return field ? strtoul(field, NULL, 10) >> (SIGBUS - 1) & 1 : UNKNOWN;
}

static bool look(void) {
    DIR *all = opendir("/proc/self/task");
    if (!all) return true;
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(all));) {
        if (entry->d_name[0] == '.') continue;
        enum answer answer = blocks_sigbus(dirfd(all), entry->d_name);
        found = answer == YES || answer == UNKNOWN;
    }
    closedir(all);
    return found;
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
