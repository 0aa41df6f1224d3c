/* Being told of memory pressure, without a descriptor that the program could meet. docs/listener.md argues the protocol; its twin is
 * mvolatile/model/stock/listener.py.
 *
 * The watcher, a thread apart (platform/apart.h), opens the sources in its own table, polls them, and leaves a bit for each in `word`, on which whoever
 * wants to know sleeps. Nobody ever waits for it to end: it looks at `word` each second, and goes. */
#ifndef MVOLATILE_PROTOCOL_LISTENER_H
#define MVOLATILE_PROTOCOL_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/apart.h"

#define LISTENER_SOURCES 4

struct listener {
    _Atomic uint32_t word;    /* bits below LISTENER_SOURCES: pressure that nobody was told of yet; and the two below */
    _Atomic uint32_t holders; /* who makes it free: the object and the watcher */
    int err;                  /* once opened: why there is no watcher */
    unsigned count, forks;
    long process;
    struct source sources[LISTENER_SOURCES]; /* the watcher's */
    _Atomic int refused[LISTENER_SOURCES];   /* 0: listened to */
    _Atomic int64_t when[LISTENER_SOURCES];  /* of the last pressure, by os_now() */
    char *texts;                             /* what the sources point into */
};
#define LISTENER_OPENED (1u << 30)
#define LISTENER_ENDED (1u << 31)

/* A thread for `count` sources, none if that is 0; `listener` is zeroed but for them and `texts`, from malloc(), and is let go by
 * listener_drop(). */
int listener_start(struct listener *listener);
/* 0: `*source` told of pressure, and nobody else is told. ECANCELED: it has ended, or is another process's. ETIMEDOUT; EINTR. */
int listener_wait(struct listener *listener, int64_t nanoseconds, unsigned *source);
int listener_wait_until_opened(struct listener *listener); /* 0, or EINTR; then `err` and `refused` are there */
void listener_end(struct listener *listener); /* from any thread, a finalizer too: waits for nobody */
bool listener_ended(struct listener *listener);
void listener_drop(struct listener *listener);

#endif
