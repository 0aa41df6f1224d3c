#include "trap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "range_parts.h"
#include "raw.h"

static struct sigaction before; /* whom we hand on to */
static _Atomic bool installed, python_before;
static _Atomic uint64_t marks;

/* What this thread handed on last, to see a handler that returns without mending anything. */
static OF_EACH_THREAD struct {
    uintptr_t address;
    uint64_t marks;
    uintptr_t frame; /* of hand_on() while the other handler runs; one that jumped away leaves it behind */
    int nested;      /* frames that lie below one another, it seems: the other handler touches lost memory itself */
    bool returned;   /* the other handler did; one that jumped away may be called for the same address again */
} last;

static void handle(int number, siginfo_t *info, void *context);

static void install(void) {
    struct sigaction ours = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGBUS, &ours, NULL);
}

/* The default action, by faulting again or by sending the signal again. */
static void die(bool sent) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &plain, NULL);
    if (sent) raise(SIGBUS);
}

#define MOST_NESTED 16

/* faulthandler, when it has dumped, puts back the handler that it found and leaves that one behind in our place. */
static void take_over_again(void) {
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) || now.sa_sigaction == handle) return;
    before = now;
    install();
}

static void hand_on(int number, siginfo_t *info, void *context) {
    bool sent = info->si_code <= 0; /* by kill() or raise(), not by a touch */
    bool function = before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN;
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    bool within = last.frame > frame && last.frame - frame < 65536;
    last.nested = within ? last.nested + 1 : 0;
    /* faulthandler dumps, puts back the handler it found (ours, perhaps), and raises again. */
    if (!function || (within && info->si_code == SI_TKILL) || last.nested > MOST_NESTED) {
        if (!(sent && before.sa_handler == SIG_IGN)) die(sent);
        return;
    }
    uintptr_t address = (uintptr_t)info->si_addr;
    if (!sent && last.returned && last.address == address && last.marks == atomic_load(&marks)) {
        /* It ran, and the same touch faults again. Python's handler runs once this code returns to the interpreter: let it. */
        last.address = 0;
        if (!atomic_load(&python_before) || !(range_repair(address, true) || raw_repair(address))) die(false);
        return;
    }
    if (!sent) {
        last.address = address;
        last.marks = atomic_load(&marks);
        last.returned = false;
    }
    last.frame = frame;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else
        before.sa_handler(number);
    last.frame = 0;
    last.returned = true;
    take_over_again();
}

static void handle(int number, siginfo_t *info, void *context) {
    int saved = errno;
    if (info->si_code != BUS_ADRERR || !range_repair((uintptr_t)info->si_addr, false)) hand_on(number, info, context);
    errno = saved;
}

void trap_ensure(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction now;
    if (atomic_load(&installed) && !sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == handle) return;
    gate_enter(); /* or a fork could copy the lock held */
    pthread_mutex_lock(&lock);
    if (!sigaction(SIGBUS, NULL, &now) && now.sa_sigaction != handle) {
        before = now;
        install();
    }
    atomic_store(&installed, true);
    pthread_mutex_unlock(&lock);
    gate_leave();
}

bool trap_is_blocked(void) {
    sigset_t blocked;
    return pthread_sigmask(SIG_SETMASK, NULL, &blocked) || sigismember(&blocked, SIGBUS);
}

bool trap_catches(void) {
    struct sigaction now;
    return !trap_is_blocked() && !sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == handle;
}

void trap_set_python_handler(bool is_python) { atomic_store(&python_before, is_python); }

void trap_note_mark(void) { atomic_fetch_add(&marks, 1); }
