#include "protocol/listener.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "protocol/gate.h"
#include "protocol/linger.h"

/* How long a poll lasts, at most: as long as all before it together, so that a listener which lived shortly is gone shortly, and one second in
 * the end, which is one look a second. To wake it instead would take a descriptor in the program's table, or a signal: a signalfd() in the
 * watcher's own table would do, but the kernel then wakes it by every signal of the process, 5 us each. */
#define LONGEST_POLL 1000

static void let_go(struct listener *listener) {
    if (atomic_fetch_sub(&listener->holders, 1) != 1) return;
    free(listener->texts);
    free(listener);
}

static void tell(struct listener *listener, uint32_t bits) {
    atomic_fetch_or(&listener->word, bits);
    os_wake(&listener->word);
}

static void take_all(struct listener *listener, const short *ready) {
    for (unsigned i = 0; i < listener->count; i++) {
        int err;
        if (!ready[i]) continue;
        if (os_source_take(&listener->sources[i], ready[i], &err)) {
            atomic_store(&listener->when[i], os_now());
            linger_press();
            tell(listener, 1u << i);
        } else if (err) {
            os_source_close(&listener->sources[i]);
            atomic_store(&listener->refused[i], err);
        }
    }
}

static void watch(void *context) {
    struct listener *listener = context;
    listener->err = os_own_table();
    if (!listener->err) {
        bool any = false;
        for (unsigned i = 0; i < listener->count; i++) {
            int err = os_source_open(&listener->sources[i]);
            atomic_store(&listener->refused[i], err);
            any |= !err;
        }
        tell(listener, any ? LISTENER_OPENED : LISTENER_OPENED | LISTENER_ENDED);
        for (int poll = 1; !(atomic_load(&listener->word) & LISTENER_ENDED); poll = poll * 2 < LONGEST_POLL ? poll * 2 : LONGEST_POLL) {
            short ready[LISTENER_SOURCES];
            os_sources_wait(listener->sources, ready, listener->count, poll);
            take_all(listener, ready);
        }
        os_empty_table();
    } else {
        tell(listener, LISTENER_OPENED | LISTENER_ENDED);
    }
    let_go(listener);
}

int listener_start(struct listener *listener) {
    listener->forks = fork_depth;
    listener->process = os_process();
    listener->word = listener->count ? 0 : LISTENER_OPENED;
    listener->holders = listener->count ? 2 : 1;
    int err = listener->count ? os_apart(watch, listener) : 0;
    if (err) {
        listener->word = LISTENER_OPENED | LISTENER_ENDED;
        listener->holders = 1;
    }
    return err;
}

/* A child has the memory and not the watcher: nobody would ever wake who sleeps there. Both are looked at: a process that becomes the first of a
 * namespace may have its parent's number, and a bare clone(2) runs no fork handlers. */
static bool is_anothers(struct listener *listener) {
    return listener->forks != fork_depth || listener->process != os_process();
}

bool listener_ended(struct listener *listener) {
    return atomic_load(&listener->word) & LISTENER_ENDED || is_anothers(listener);
}

int listener_wait_until_opened(struct listener *listener) {
    while (!(atomic_load(&listener->word) & LISTENER_OPENED))
        if (os_sleep_while(&listener->word, 0, -1) == EINTR) return EINTR;
    return 0;
}

int listener_wait(struct listener *listener, int64_t nanoseconds, unsigned *source) {
    int64_t deadline = nanoseconds < 0 ? -1 : os_now() + nanoseconds;
    for (;;) {
        uint32_t word = atomic_load(&listener->word);
        if (word & LISTENER_ENDED || is_anothers(listener)) return ECANCELED;
        uint32_t pressed = word & ((1u << LISTENER_SOURCES) - 1);
        if (pressed) {
            *source = (unsigned)__builtin_ctz(pressed);
            if (atomic_compare_exchange_strong(&listener->word, &word, word & ~(1u << *source))) return 0;
            continue;
        }
        int64_t left = deadline < 0 ? -1 : deadline - os_now();
        if (deadline >= 0 && left <= 0) return ETIMEDOUT;
        if (os_sleep_while(&listener->word, word, left) == EINTR) return EINTR;
    }
}

void listener_end(struct listener *listener) {
    if (!is_anothers(listener)) tell(listener, LISTENER_ENDED);
    else atomic_fetch_or(&listener->word, LISTENER_ENDED);
}

void listener_drop(struct listener *listener) {
    listener_end(listener);
    if (is_anothers(listener)) listener->holders = 1; /* the watcher will never let go here */
    let_go(listener);
}
