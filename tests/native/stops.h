/* Stopping a thread at one of its calls to the system layer, before or after it, until another has done its worst. */
#ifndef STOPS_H
#define STOPS_H

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/pool.h"
#include "protocol/range.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s: %s (line %d)\n", running, #condition, __LINE__); \
            _exit(1);                                                             \
        }                                                                         \
    } while (0)

static const char *running;

/* ---- stopping threads ------------------------------------------------------------------------------------------------------------- */

enum role {
    NOBODY,
    READER,
    OTHER,
    THIRD
};
enum call {
    POPULATE,
    ZERO,
    SCAN,
    FREE,
    UNWATCH,
    FILL_UNWATCHED,
    WATCHING,
    ASK
};
static _Thread_local enum role role __attribute__((tls_model("initial-exec")));

static struct stop {
    enum role role;
    enum call call;
    bool after;
    _Atomic bool armed;
    sem_t reached, go;
} stops[2];

static struct stop *stop_at(enum role who, enum call call, bool after) {
    struct stop *stop = &stops[atomic_load(&stops[0].armed)];
    stop->role = who;
    stop->call = call;
    stop->after = after;
    sem_init(&stop->reached, 0, 0);
    sem_init(&stop->go, 0, 0);
    atomic_store(&stop->armed, true);
    return stop;
}
#define BEFORE false
#define AFTER true

static void pass(enum call call, bool after) {
    for (int i = 0; i < 2; i++) {
        struct stop *stop = &stops[i];
        if (!atomic_load(&stop->armed) || stop->role != role || stop->call != call || stop->after != after) continue;
        atomic_store(&stop->armed, false);
        sem_post(&stop->reached);
        while (sem_wait(&stop->go)) {}
    }
}

#define DEADLOCK 100 /* seconds that no step takes, however slow the machine */

static void until_there(struct stop *stop) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += DEADLOCK;
    CHECK(!sem_timedwait(&stop->reached, &limit));
}

static void let_go(struct stop *stop) { sem_post(&stop->go); }

struct task {
    pthread_t thread;
    _Atomic pid_t id;
    enum role role;
    void (*work)(struct task *);
    _Atomic bool done;
    struct range *range;
    size_t page;
    struct peek peek;
    enum peek_verdict verdict;
    unsigned char seen;
    int err;
    bool lost;
    pid_t child;
};

static void *run(void *task_) {
    struct task *task = task_;
    role = task->role;
    atomic_store(&task->id, gettid());
    task->work(task);
    atomic_store(&task->done, true);
    return NULL;
}

static void start(struct task *task, enum role who, struct range *range, void (*work)(struct task *)) {
    task->role = who;
    task->range = range;
    task->work = work;
    atomic_store(&task->done, false);
    atomic_store(&task->id, 0);
    CHECK(!pthread_create(&task->thread, NULL, run, task));
}

static void join(struct task *task) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += DEADLOCK;
    CHECK(!pthread_timedjoin_np(task->thread, NULL, &limit));
}

static bool asleep(struct task *task) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&task->id));
    FILE *file = fopen(path, "r");
    if (!file) return false; /* not there yet, or ended */
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    fclose(file);
    return state == 'S';
}

static long milliseconds_of_cpu(struct task *task) {
    clockid_t clock;
    struct timespec used;
    if (pthread_getcpuclockid(task->thread, &clock) || clock_gettime(clock, &used)) return 0;
    return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* It has every chance to go on, and does not: it sleeps whenever it is looked at, or spins. Time that passes proves nothing, since a slow
 * machine may not have let it run at all. */
static bool waits(struct task *task) {
    long before = milliseconds_of_cpu(task);
    for (int sleeping = 0; sleeping < 10 && milliseconds_of_cpu(task) < before + 10;) {
        if (atomic_load(&task->done)) return false;
        sleeping = asleep(task) ? sleeping + 1 : 0;
        usleep(1000);
    }
    return !atomic_load(&task->done);
}

/* ---- the system layer, with the stops --------------------------------------------------------------------------------------------- */

static int (*populate_instead)(char *, size_t); /* one call */
static void (*before_a_scan)(void), (*once_scanned)(void), (*once_freed)(void); /* one call each */

int scripted_populate_write(char *base, size_t len) {
    pass(POPULATE, BEFORE);
    int (*instead)(char *, size_t) = populate_instead;
    populate_instead = NULL;
    int err = instead ? instead(base, len) : os_populate_write(base, len);
    pass(POPULATE, AFTER);
    return err;
}

int scripted_zero(char *base, size_t len, size_t *done) {
    pass(ZERO, BEFORE);
    int err = os_zero(base, len, done);
    pass(ZERO, AFTER);
    return err;
}

int scripted_copy(char *base, const char *from, size_t len, size_t *done) { return os_copy(base, from, len, done); }

static void call_once(void (**hook)(void)) {
    void (*now)(void) = *hook;
    *hook = NULL;
    if (now) now();
}

int scripted_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    pass(SCAN, BEFORE);
    call_once(&before_a_scan);
    int err = os_scan(class, start, end, found, context);
    call_once(&once_scanned);
    pass(SCAN, AFTER);
    return err;
}

int scripted_free_lazily(char *base, size_t len) {
    pass(FREE, BEFORE);
    int err = os_free_lazily(base, len);
    call_once(&once_freed);
    pass(FREE, AFTER);
    return err;
}

int scripted_unwatch(char *base, size_t len) {
    pass(UNWATCH, BEFORE);
    int err = os_unwatch(base, len);
    pass(UNWATCH, AFTER);
    return err;
}

static void (*before_watching_again)(void); /* one call */
static _Atomic int refuse_to_watch_again;   /* an errno */

int scripted_watch_again(char *base, size_t len) {
    call_once(&before_watching_again);
    return refuse_to_watch_again ? refuse_to_watch_again : os_watch_again(base, len);
}

int scripted_fill_unwatched(char *base, size_t len) {
    int err = os_fill_unwatched(base, len);
    pass(FILL_UNWATCHED, AFTER);
    return err;
}

int scripted_reserve(size_t len, size_t align, char **out) { return os_reserve(len, align, out); }
int scripted_release(char *base, size_t len) { return os_release(base, len); }
int scripted_populate_read(char *base, size_t len) { return os_populate_read(base, len); }
int scripted_pageout(char *base, size_t len) { return os_pageout(base, len); }
int scripted_discard(char *base, size_t len) { return os_discard(base, len); }
int scripted_hold_resident(char *base, size_t len) { return os_hold_resident(base, len); }
int scripted_watch(char *base, size_t len) { return os_watch(base, len); }
bool scripted_watching(void) {
    pass(WATCHING, BEFORE);
    return os_watching();
}

int scripted_check_anonymous(uintptr_t start, uintptr_t end, os_found *mapped, void *context) {
    return os_check_anonymous(start, end, mapped, context);
}
long scripted_minor_faults(void) { return os_minor_faults(); }

#endif
