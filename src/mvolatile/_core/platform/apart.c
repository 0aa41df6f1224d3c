#include "platform/apart.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Newer than the headers this may be built against. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#endif

/* glibc takes the thread-local variables of all loaded libraries out of the stack; what is not touched costs nothing. */
#define STACK (256u << 10)

struct start {
    void (*run)(void *);
    void *context;
};

/* The threads' numbers, as /proc knows them, in a page that the kernel empties in a child: a number of its parent's is one of any thread's there. One
 * that finds no room is taken for another's. */
#define LISTED 256
static _Atomic int *_Atomic listed;

static _Atomic int *list(void) {
    _Atomic int *page = atomic_load(&listed), *new;
    const size_t size = LISTED * sizeof *page;
    if (page) return page;
    new = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (new == MAP_FAILED) return NULL;
    if (!madvise(new, size, MADV_WIPEONFORK) && atomic_compare_exchange_strong(&listed, &page, new)) return new;
    munmap(new, size);
    return page;
}

static _Atomic int *enlist(void) {
    char path[64];
    ssize_t length = readlink("/proc/thread-self", path, sizeof path - 1); /* PID/task/NUMBER */
    _Atomic int *numbers = length < 0 ? NULL : list();
    if (!numbers) return NULL;
    path[length] = 0;
    char *last = strrchr(path, '/');
    int number = last ? atoi(last + 1) : 0;
    for (int i = 0, none = 0; number && i < LISTED; i++, none = 0)
        if (atomic_compare_exchange_strong(&numbers[i], &none, number)) return &numbers[i];
    return NULL;
}

bool os_is_apart(long thread) {
    _Atomic int *numbers = atomic_load(&listed);
    for (int i = 0; numbers && i < LISTED; i++)
        if (atomic_load(&numbers[i]) == thread) return thread;
    return false;
}

static void *begin(void *arg) {
    struct start start = *(struct start *)arg;
    free(arg);
    _Atomic int *number = enlist();
    start.run(start.context);
    if (number) atomic_store(number, 0);
    return NULL;
}

/* The mask is set before the thread is there: one that blocked its signals itself would have a moment in which it takes the program's. */
int os_apart(void (*run)(void *), void *context) {
    struct start *start = malloc(sizeof *start);
    if (!start) return ENOMEM;
    *start = (struct start){run, context};
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int err = pthread_attr_init(&attributes);
    if (!err) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, STACK);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        err = pthread_create(&thread, &attributes, begin, start);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (err) free(start);
    return err;
}

/* unshare(CLONE_FILES) would copy the table first: for a moment the program's pipes and sockets would not end when it closes them. And container
 * profiles refuse it, which know nothing of its flags. */
int os_own_table(void) { return syscall(SYS_close_range, 0u, ~0u, CLOSE_RANGE_UNSHARE) ? errno : 0; }
void os_empty_table(void) { syscall(SYS_close_range, 0u, ~0u, 0u); }

/* ---- sources ---------------------------------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *text, size_t length) {
    ssize_t written = write(fd, text, length);
    if (written < 0) return errno;
    return (size_t)written == length ? 0 : EIO;
}

static int open_written(const char *path, int flags, const char *text, size_t length, int *fd) {
    *fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (*fd < 0) return errno;
    return length ? write_all(*fd, text, length) : 0;
}

/* memory.events: lines of a key and a count. What else is counted there is no pressure. Reading it also arms it again. */
static int count_events(struct source *source) {
    char text[4096], key[16], *rest = NULL;
    ssize_t got = pread(source->fd, text, sizeof text - 1, 0);
    if (got < 0) return errno;
    text[got] = 0;
    source->count = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long count;
        if (sscanf(line, "%15s %llu", key, &count) != 2) continue;
        if (!strcmp(key, "high") || !strcmp(key, "max") || !strcmp(key, "oom")) source->count += count;
    }
    return 0;
}

static int open_level(struct source *source) {
    char order[64];
    int control = -1, level = open(source->path, O_RDONLY | O_CLOEXEC);
    if (level < 0) return errno;
    source->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (source->fd < 0) return errno;
    int length = snprintf(order, sizeof order, "%d %d %.*s", source->fd, level, (int)source->length, source->text);
    int err = open_written(source->control, O_WRONLY, order, (size_t)length, &control);
    if (control >= 0) close(control);
    source->mask = POLLIN;
    return err; /* `level` stays open with the table: version 1 wants it so */
}

static int open_given(struct source *source) {
    struct stat found;
    if (stat(source->path, &found)) return errno;
    bool regular = S_ISREG(found.st_mode);
    source->mask = regular ? POLLPRI : POLLIN; /* data comes through a FIFO or a socket */
    /* A FIFO is opened for writing as well, or it would signal hang-up whenever no writer is there. */
    if (!S_ISSOCK(found.st_mode))
        return open_written(source->path, regular && !source->length ? O_RDONLY : O_RDWR, source->text, source->length, &source->fd);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(source->path);
    if (length >= sizeof address.sun_path) return ENAMETOOLONG;
    memcpy(address.sun_path, source->path, length);
    source->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (source->fd < 0 || connect(source->fd, (struct sockaddr *)&address, sizeof address)) return errno;
    return source->length ? write_all(source->fd, source->text, source->length) : 0;
}

int os_source_open(struct source *source) {
    source->fd = -1;
    int err = 0;
    switch (source->kind) {
    case SOURCE_PSI:
        source->mask = POLLPRI;
        err = open_written(source->path, O_RDWR, source->text, source->length, &source->fd);
        break;
    case SOURCE_LEVEL:
        err = open_level(source);
        break;
    case SOURCE_EVENTS:
        source->mask = POLLPRI;
        err = open_written(source->path, O_RDONLY, NULL, 0, &source->fd);
        if (!err) err = count_events(source);
        break;
    case SOURCE_GIVEN:
        err = open_given(source);
        break;
    }
    if (err) os_source_close(source);
    return err;
}

void os_source_close(struct source *source) {
    if (source->fd >= 0) close(source->fd);
    source->fd = -1;
}

#define MOST_SOURCES 8

void os_sources_wait(const struct source *sources, short *ready, unsigned count, int milliseconds) {
    struct pollfd polled[MOST_SOURCES];
    if (count > MOST_SOURCES) count = MOST_SOURCES;
    for (unsigned i = 0; i < count; i++) polled[i] = (struct pollfd){.fd = sources[i].fd, .events = sources[i].mask}; /* -1 is passed over */
    int reported = poll(polled, count, milliseconds);
    for (unsigned i = 0; i < count; i++) ready[i] = reported > 0 ? polled[i].revents : 0;
}

static bool drain(struct source *source) {
    char scrap[4096];
    bool any = false;
    while (read(source->fd, scrap, sizeof scrap) > 0) any = true;
    return any;
}

bool os_source_take(struct source *source, short ready, int *err) {
    uint64_t before = source->count;
    *err = 0;
    switch (source->kind) {
    case SOURCE_PSI: /* the poll has taken the event; an error is the last word of a cgroup that was removed */
        if (ready & POLLERR) *err = ENODEV;
        return !*err;
    case SOURCE_LEVEL: {
        uint64_t events;
        return read(source->fd, &events, sizeof events) == sizeof events;
    }
    case SOURCE_EVENTS:
        *err = count_events(source);
        return !*err && source->count > before;
    case SOURCE_GIVEN:
        if (ready & (POLLERR | POLLHUP)) *err = EPIPE;
        else return source->mask == POLLPRI || drain(source);
    }
    return false;
}

/* ---- sleeping, and reading -------------------------------------------------------------------------------------------------------- */

int os_sleep_while(_Atomic uint32_t *word, uint32_t value, int64_t nanoseconds) {
    struct timespec limit = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    if (!syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nanoseconds < 0 ? NULL : &limit, NULL, 0)) return 0;
    return errno == EAGAIN ? 0 : errno;
}

void os_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

void os_nap(void) { (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); }

int64_t os_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

long os_process(void) { return getpid(); }
