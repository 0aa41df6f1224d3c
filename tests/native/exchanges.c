/* Bad schedules of one descriptor number: the program, or another thread of ours, closes it and a new file gets it between two system calls of the
 * system layer. Forced, as those of closings.c; but the stops are at the system calls themselves (scripted_calls.h).
 *
 * usage: as of schedules */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "stamped.h"

/* ---- the system calls, with the stops --------------------------------------------------------------------------------------------- */

int failing_ioctl(int fd, unsigned long request, void *arg) {
    bool scan = _IOC_TYPE(request) == 'f' && _IOC_NR(request) == 16;
    if (scan) pass(SCAN, BEFORE);
    int result = ioctl(fd, request, arg);
    if (scan) pass(SCAN, AFTER);
    return result;
}

ssize_t failing_pread(int fd, void *to, size_t n, off_t offset) {
    pass(SCAN, BEFORE);
    ssize_t result = pread(fd, to, n, offset);
    pass(SCAN, AFTER);
    return result;
}

long failing_syscall(long number, ...) {
    long args[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) args[i] = va_arg(rest, long);
    va_end(rest);
    long result = syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (number == SYS_fstat) pass(ASK, AFTER);
    return result;
}

int failing_prctl(int option, ...) {
    unsigned long args[4];
    va_list rest;
    va_start(rest, option);
    for (int i = 0; i < 4; i++) args[i] = va_arg(rest, unsigned long);
    va_end(rest);
    return prctl(option, args[0], args[1], args[2], args[3]);
}

int failing_madvise(void *base, size_t len, int advice) { return madvise(base, len, advice); }
void *failing_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    return mmap(at, len, protection, flags, fd, offset);
}
int failing_munmap(void *base, size_t len) { return munmap(base, len); }
int failing_open(const char *path, int flags, ...) { return open(path, flags); }
int failing_getaffinity(pid_t pid, size_t size, cpu_set_t *set) { return sched_getaffinity(pid, size, set); }
int failing_setaffinity(pid_t pid, size_t size, const cpu_set_t *set) { return sched_setaffinity(pid, size, set); }

/* ---- one closes, and the other has it --------------------------------------------------------------------------------------------- */

static void stop_watching(struct task *task) {
    (void)task;
    os_stop_watching();
}

/* Both would close it. The first has found that it is ours when the second has closed it, and the program opens a file, which gets the number. */
static void two_close_one(void) {
    struct task first = {0};
    struct stat before, after;
    struct stop *asked = stop_at(OTHER, ASK, AFTER);
    start(&first, OTHER, NULL, stop_watching);
    until_there(asked);
    os_stop_watching();
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0 && !fstat(file, &before));
    let_go(asked);
    join(&first);
    CHECK(!fstat(file, &after) && after.st_ino == before.st_ino);
    CHECK(!os_watch_is_open());
    close(file);
}

/* ---- the pagemap, and another's --------------------------------------------------------------------------------------------------- */

static char *area;

/* A process that has nothing there, so that a scan of its pages finds none. */
static int pagemap_of_another(pid_t *child) {
    int ready[2];
    char path[64], byte;
    CHECK(!pipe(ready) && (*child = fork()) >= 0);
    if (!*child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed check ends this process */
        munmap(area, pages * os_page_size);
        close(ready[0]);
        CHECK(write(ready[1], "", 1) == 1);
        for (;;) pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    snprintf(path, sizeof path, "/proc/%d/pagemap", *child);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int pagemap_number(void) {
    char path[64], target[64], ours[64];
    snprintf(ours, sizeof ours, "/proc/%d/pagemap", getpid());
    for (int fd = 3; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (!strcmp(target, ours)) return fd;
    }
    return -1;
}

static void sum_up(void *context, uintptr_t start, uintptr_t end) { *(size_t *)context += end - start; }

static size_t data_found(void) {
    size_t sum = 0;
    CHECK(!os_scan(OS_DATA, (uintptr_t)area, (uintptr_t)area + pages * os_page_size, sum_up, &sum));
    return sum;
}

static void find_all(struct task *task) { task->lost = data_found() != pages * os_page_size; }

static void set_up_area(void) {
    area = mmap(NULL, pages * os_page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    memset(area, 1, pages * os_page_size);
    CHECK(data_found() == pages * os_page_size);
}

static void end_of(pid_t child) {
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(data_found() == pages * os_page_size);
    munmap(area, pages * os_page_size);
}

/* It was ours when the scan asked, and another's answers. */
static void exchanged_before_the_scan(void) {
    pid_t child;
    set_up_area();
    int another = pagemap_of_another(&child), number = pagemap_number();
    struct task scanner = {0};
    struct stop *scanning = stop_at(OTHER, SCAN, BEFORE);
    start(&scanner, OTHER, NULL, find_all);
    until_there(scanning);
    CHECK(number >= 0 && another >= 0 && dup2(another, number) == number);
    let_go(scanning);
    join(&scanner);
    CHECK(!scanner.lost);
    close(another);
    end_of(child);
}

/* It was another's before, and by the end of the scan the number is ours again: the program has closed its file, and a third thread opened ours anew. */
static void exchanged_around_the_scan(void) {
    pid_t child;
    set_up_area();
    int another = pagemap_of_another(&child), number = pagemap_number();
    struct task scanner = {0};
    struct stop *asked = stop_at(OTHER, ASK, AFTER), *scanned = stop_at(OTHER, SCAN, AFTER);
    start(&scanner, OTHER, NULL, find_all);
    until_there(asked); /* whether it has to be opened: it is open */
    CHECK(number >= 0 && another >= 0 && dup2(another, number) == number);
    let_go(asked);
    until_there(scanned);
    if (pagemap_number() < 0) { /* the scan was by another's */
        close(number);
        CHECK(data_found() == pages * os_page_size && pagemap_number() == number);
    }
    let_go(scanned);
    join(&scanner);
    CHECK(!scanner.lost);
    close(another);
    end_of(child);
}

static const struct schedule schedules[] = {
    SCHEDULE(two_close_one),
    SCHEDULE(exchanged_before_the_scan),
    SCHEDULE(exchanged_around_the_scan),
};

int main(int count, char **arguments) { return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments); }
