#include "protocol/trap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "protocol/parts.h"
#include "protocol/raw.h"

/* A chain of handlers, as if we were not in it. Whoever is put in our place may keep our address, to call it for what is not its own (as the
 * JVM, Go and crash reporters do), or to put it back (faulthandler, when it has dumped). So we return to the front under another address, a link
 * of its own: the front hands on to the newcomer, the newcomer to the link that it found, and that to whoever was before it. With one address
 * for all, the newcomer and we would call each other for ever. */
#define LINKS 16
enum {
    NOBODY = -1,
    DEFAULT = LINKS
}; /* DEFAULT is among `handlers` */
static struct sigaction handlers[LINKS + 1] = {[DEFAULT] = {.sa_handler = SIG_DFL}};
static struct {
    _Atomic int hands_on_to; /* of `handlers` */
    int below;               /* the link that its newcomer found in front, or NOBODY */
} links[LINKS] = {[0 ... LINKS - 1] = {.below = NOBODY}};
static _Atomic int front = NOBODY;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of who writes the above */

static _Atomic bool python_before;
static _Atomic uint64_t marks;

static void handle(int link, int number, siginfo_t *info, void *context);

#define ENTRY(i) \
    static void entry_##i(int number, siginfo_t *info, void *context) { handle(i, number, info, context); }
ENTRY(0)
ENTRY(1)
ENTRY(2)
ENTRY(3)
ENTRY(4)
ENTRY(5)
ENTRY(6)
ENTRY(7)
ENTRY(8)
ENTRY(9)
ENTRY(10)
ENTRY(11)
ENTRY(12)
ENTRY(13)
ENTRY(14)
ENTRY(15)
static void (*const entries[LINKS])(int, siginfo_t *, void *) = {entry_0, entry_1, entry_2, entry_3, entry_4, entry_5, entry_6, entry_7,
                                                                 entry_8, entry_9, entry_10, entry_11, entry_12, entry_13, entry_14, entry_15};

static int link_of(const struct sigaction *action) {
    int link = LINKS - 1;
    while (link >= 0 && action->sa_sigaction != entries[link]) link--;
    return link;
}

static bool is_function(const struct sigaction *action) { return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN; }

/* ---- handing on ------------------------------------------------------------------------------------------------------------------- */

static uint64_t bit(int number) { return (uint64_t)1 << (number - 1); }

static uint64_t mask_of(const sigset_t *set) {
    uint64_t mask;
    memcpy(&mask, set, sizeof mask); /* the kernel's part of it */
    return mask;
}

/* What libc keeps to itself, and what nobody can block, a mask that was put up by the kernel for our handler may lack. */
static bool is_full(uint64_t mask) { return (mask | bit(SIGKILL) | bit(SIGSTOP) | bit(32) | bit(33)) == UINT64_MAX; }

/* All that a handler may change in order to get past the touch. */
static uint64_t registers(const ucontext_t *context) {
#ifdef __aarch64__
    size_t n = offsetof(mcontext_t, __reserved); /* beyond is what the stack held before */
#else
    size_t n = sizeof context->uc_mcontext;
#endif
    const unsigned char *bytes = (const unsigned char *)&context->uc_mcontext;
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

/* Of our lost memory: what a handler left behind that has returned. One that mended nothing is met by the same touch again, register by
 * register. (One that moved the program counter, or mapped something there, is not.) */
static OF_EACH_THREAD struct {
    uintptr_t address;
    uint64_t marks, registers;
} left;

/* The default action: by faulting again, or by sending the signal again, which comes when this handler has returned. */
static void die(bool repeats) {
    sigaction(SIGBUS, &handlers[DEFAULT], NULL);
    if (!repeats) raise(SIGBUS);
}

static void call(const struct sigaction *action, int number, siginfo_t *info, void *context) {
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(number, info, context);
    else
        action->sa_handler(number);
}

/* With the mask that the kernel would have put up for it. A handler in front of us that called us goes on under its own. */
static void hand_on(int link, int number, siginfo_t *info, ucontext_t *context, bool repeats, uint64_t mask) {
    int next = atomic_load(&links[link].hands_on_to);
    const struct sigaction *action = &handlers[next];
    if (!is_function(action)) {
        if (repeats || action->sa_handler == SIG_DFL) die(repeats);
        return;
    }
    if (action->sa_flags & SA_RESETHAND && !atomic_compare_exchange_strong(&links[link].hands_on_to, &next, DEFAULT)) {
        die(repeats);
        return;
    }
    if (is_full(mask)) {
        mask = mask_of(&context->uc_sigmask) | mask_of(&action->sa_mask);
        if (!(action->sa_flags & SA_NODEFER)) mask |= bit(number);
    }
    uint64_t ours;
    os_set_mask(mask, &ours);
    call(action, number, info, context);
    os_set_mask(ours, &mask);
}

/* Python's handler only notes the signal, and runs once the code that touches has returned to the interpreter: let it get there. */
static bool let_python_run(uintptr_t address) {
    return atomic_load(&python_before) && (range_repair(address, true) || raw_repair(address));
}

/* A touch of our memory outside of any peek, which its program must not make. Nobody else's memory is treated so: what a handler does about
 * that is between it and the kernel, and how often it is asked. */
static void hand_on_ours(int link, int number, siginfo_t *info, ucontext_t *context, uint64_t mask) {
    uintptr_t address = (uintptr_t)info->si_addr;
    struct sigaction now;
    if (left.address == address && left.marks == atomic_load(&marks) && left.registers == registers(context)) {
        left.address = 0;
        if (!let_python_run(address)) die(true);
        return;
    }
    left.address = 0; /* the handler may jump away */
    uint64_t marks_before = atomic_load(&marks);
    hand_on(link, number, info, context, true, mask);
    left.marks = marks_before;
    left.registers = registers(context);
    left.address = address;
    /* faulthandler has put back what it found: another will see the touch again, and if that is Python's, nobody will see it returning. */
    if (!sigaction(SIGBUS, NULL, &now) && link_of(&now) == NOBODY && is_function(&now)) (void)let_python_run(address);
}

/* Whatever interrupts a repair waits for its end: a handler that jumps away, as those of Ctrl-C in numerical libraries do, would leave `traps`
 * counted, and others wait for it for ever. The kernel has blocked the signals if it called us; another handler that hands on has not. */
static void handle(int link, int number, siginfo_t *info, void *context_) {
    ucontext_t *context = context_;
    int saved = errno;
    uint64_t mask, ours;
    os_set_mask(UINT64_MAX, &mask);
    bool repeats = info->si_code > 0 && info->si_code != BUS_MCEERR_AO; /* a touch; else it was sent, by a process or the kernel */
    uintptr_t address = (uintptr_t)info->si_addr;
    if (info->si_code != BUS_ADRERR)
        hand_on(link, number, info, context, repeats, mask);
    else if (!range_repair(address, false)) {
        if (range_covers(address) || raw_covers(address))
            hand_on_ours(link, number, info, context, mask);
        else
            hand_on(link, number, info, context, repeats, mask);
    }
    if (!is_full(mask)) os_set_mask(mask, &ours); /* the kernel puts back its own */
    errno = saved;
}

/* ---- being in front --------------------------------------------------------------------------------------------------------------- */

/* It is on the stack, restarts calls, and runs where the handler behind it would be. */
static void install(int link, const struct sigaction *behind) {
    struct sigaction ours = {.sa_sigaction = entries[link], .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    if (is_function(behind)) ours.sa_flags = SA_SIGINFO | (behind->sa_flags & (SA_ONSTACK | SA_RESTART));
    sigfillset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, NULL);
}

/* A handler that was behind us already, and has been put in front anew, has lost sight of what it found the first time: its old place is left
 * out. */
static void leave_out(const struct sigaction *newcomer) {
    for (int link = atomic_load(&front); link != NOBODY && is_function(newcomer); link = links[link].below) {
        int below = links[link].below;
        if (handlers[atomic_load(&links[link].hands_on_to)].sa_sigaction == newcomer->sa_sigaction)
            atomic_store(&links[link].hands_on_to, below == NOBODY ? DEFAULT : atomic_load(&links[below].hands_on_to));
    }
}

static bool is_below(int link, int top) {
    while (top != NOBODY && top != link) top = links[top].below;
    return top == link;
}

/* For the next newcomer: the link that was made longest ago of those that are not in the chain; or, where handlers come anew in turn and all are in
 * it, of those that were left out. Sixteen handlers, each of which hands on to the one before, are more than a process has. */
static int take_link(void) {
    static int newest = NOBODY;
    int link = (newest + 1) % LINKS;
    for (int i = 0; i < 2 * LINKS; i++) {
        int other = (newest + 1 + i) % LINKS, top = atomic_load(&front);
        if (i < LINKS ? is_below(other, top) : other == top || atomic_load(&links[other].hands_on_to) == other) continue;
        link = other;
        break;
    }
    for (int i = 0; i < LINKS; i++)
        if (links[i].below == link) links[i].below = links[link].below;
    return newest = link;
}

static void go_in_front_of(const struct sigaction *newcomer) {
    leave_out(newcomer);
    int link = take_link();
    handlers[link] = *newcomer;
    links[link].below = atomic_load(&front) == link ? links[link].below : atomic_load(&front);
    atomic_store(&links[link].hands_on_to, link);
    atomic_store(&front, link);
    install(link, newcomer);
}

/* Ours; whoever was in front may have put back what it found. */
static bool is_in_front(void) {
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now)) return true;
    int link = link_of(&now);
    if (link != NOBODY && atomic_load(&front) != link) atomic_store(&front, link);
    return link != NOBODY;
}

void trap_ensure(void) {
    struct sigaction now;
    if (is_in_front()) return;
    gate_enter(); /* or a fork could copy the lock held */
    pthread_mutex_lock(&lock);
    if (!sigaction(SIGBUS, NULL, &now) && link_of(&now) == NOBODY) go_in_front_of(&now);
    pthread_mutex_unlock(&lock);
    gate_leave();
}

bool trap_is_blocked(void) {
    sigset_t blocked;
    return pthread_sigmask(SIG_SETMASK, NULL, &blocked) || sigismember(&blocked, SIGBUS);
}

bool trap_catches(void) {
    return !trap_is_blocked() && is_in_front();
}

void trap_set_python_handler(bool is_python) { atomic_store(&python_before, is_python); }

void trap_note_mark(void) { atomic_fetch_add(&marks, 1); }
