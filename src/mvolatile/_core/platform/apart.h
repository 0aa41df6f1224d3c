/* Threads of the library's own that share no descriptor with the program: the second door to the kernel, beside os.h.
 *
 * A thread that has a descriptor table of its own cannot meet the program's files: nobody else can close a descriptor in it or have its number, and
 * nothing it does by number reaches another's. No Python runs in such a thread, and none of the program's code: by a finalizer it would close the
 * wrong file. Every signal is blocked there, so that none of the program's handlers runs in it, which writes to descriptors, too. */
#ifndef MVOLATILE_PLATFORM_APART_H
#define MVOLATILE_PLATFORM_APART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start one, which nobody joins. EAGAIN: no thread is to be had. */
int os_apart(void (*run)(void *context), void *context);
bool os_is_apart(long thread); /* one of these, by the number that /proc/self/task gives it */
/* What it does first, before it opens anything: an empty table, in one step. ENOSYS before Linux 5.9, EPERM in sandboxes that do not know the
 * call; then the table is the program's still, and nothing may be opened. */
int os_own_table(void);
void os_empty_table(void); /* of its own: close everything in it */

enum source_kind {
    SOURCE_PSI,    /* a pressure file that takes triggers: cgroup version 2's, or the machine's */
    SOURCE_LEVEL,  /* cgroup version 1's memory.pressure_level, and what arms it */
    SOURCE_EVENTS, /* cgroup version 2's memory.events */
    SOURCE_GIVEN,  /* what a service manager names: a pressure file, a FIFO or a socket */
};
struct source {
    enum source_kind kind;
    const char *path, *control; /* control: of SOURCE_LEVEL alone */
    const char *text;           /* what is written there */
    size_t length;
    int fd; /* in the own table */
    short mask;
    uint64_t count;
};
int os_source_open(struct source *source); /* an errno where the kernel refuses it; never waits */
/* Wait until some of `count` sources, those with a `ready` of not -1, report; what is in `ready[]` then is for os_source_take(). */
void os_sources_wait(const struct source *sources, short *ready, unsigned count, int milliseconds);
/* Take what was reported, so that the next wait waits for more. Was it pressure? `*err`: the source has ended. */
bool os_source_take(struct source *source, short ready, int *err);
void os_source_close(struct source *source);

/* Sleep while `*word` is `value`, at most so long (-1: for ever), and wake all who do. Looking and falling asleep are one step. EINTR: a signal's
 * handler ran. ETIMEDOUT. 0: look again. */
int os_sleep_while(_Atomic uint32_t *word, uint32_t value, int64_t nanoseconds);
void os_wake(_Atomic uint32_t *word);
void os_nap(void); /* a tenth of a millisecond */
int64_t os_now(void); /* CLOCK_MONOTONIC, in nanoseconds */
long os_process(void);

#endif
