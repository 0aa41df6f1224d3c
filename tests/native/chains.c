/* Foreign handlers of SIGBUS for memory that is not the library's: they recover in the ways that runtimes do, hand on what is not their own, and
 * tell how they were called. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* A page of a file that has been cut: to touch it is SIGBUS. */
unsigned char *beyond_the_end(void) {
    int file = memfd_create("cut", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 4096)) return NULL;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ftruncate(file, 0)) return NULL;
    close(file);
    return page;
}

/* ---- a load that may be left by moving the program counter ------------------------------------------------------------------------ */

int probe(const unsigned char *);
extern char probe_end[];
#if defined(__x86_64__)
__asm__(".text\n.globl probe\n.globl probe_end\nprobe:\n  movzbl (%rdi), %eax\n  ret\nprobe_end:\n  movl $-1, %eax\n  ret\n");
#define COUNTER(context) (context)->uc_mcontext.gregs[REG_RIP]
#elif defined(__aarch64__)
__asm__(".text\n.globl probe\n.globl probe_end\nprobe:\n  ldrb w0, [x0]\n  ret\nprobe_end:\n  mov w0, #-1\n  ret\n");
#define COUNTER(context) (context)->uc_mcontext.pc
#endif

/* ---- handlers --------------------------------------------------------------------------------------------------------------------- */

enum {
    FIRST,
    SECOND
};
static struct handler {
    struct sigaction old;
    unsigned char *page; /* its own: what is elsewhere, it hands on */
    int way;             /* of recovering, see recover() */
    int shrugs;          /* calls in which it does nothing first */
} handlers[2];
static sigjmp_buf back;
static volatile sig_atomic_t runs, nested;
static unsigned char *inner_page; /* to be touched in a handler */
static const unsigned char *expected;

int handler_runs(void) { return runs; }

enum {
    MOVE,
    JUMP,
    PLAIN_JUMP,
    MEND,
    RAISE_AGAIN
};

static void recover(struct handler *handler, ucontext_t *context) {
    if (handler->way == MOVE) COUNTER(context) = (uintptr_t)probe_end;
    if (handler->way == JUMP) siglongjmp(back, 1);
    if (handler->way == PLAIN_JUMP) longjmp(back, 1); /* the signal stays as the kernel blocked it */
    if (handler->way == MEND) mmap(handler->page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void hand_on(struct sigaction *old, int number, siginfo_t *info, void *context) {
    if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)
        signal(number, SIG_DFL);
    else if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(number, info, context);
    else
        old->sa_handler(number);
}

static void run(struct handler *handler, int number, siginfo_t *info, void *context) {
    runs++;
    if (inner_page && !nested) {
        nested = 1;
        probe(inner_page);
        nested = 0;
    }
    if (handler->way == RAISE_AGAIN) { /* as faulthandler does */
        sigaction(number, &handler->old, NULL);
        raise(number);
        return;
    }
    if (handler->page && ((uintptr_t)info->si_addr & ~(uintptr_t)4095) != (uintptr_t)handler->page) {
        if (inner_page && info->si_addr == inner_page)
            COUNTER((ucontext_t *)context) = (uintptr_t)probe_end;
        else
            hand_on(&handler->old, number, info, context);
        return;
    }
    if (handler->shrugs-- <= 0) recover(handler, context);
}

static void first(int number, siginfo_t *info, void *context) { run(&handlers[FIRST], number, info, context); }
static void second(int number, siginfo_t *info, void *context) { run(&handlers[SECOND], number, info, context); }

/* `page` NULL: it recovers from every touch. */
void install(int which, unsigned char *page, int way, int flags, int shrugs, int full) {
    struct sigaction action = {.sa_sigaction = which ? second : first, .sa_flags = SA_SIGINFO | flags};
    if (full) sigfillset(&action.sa_mask); /* as the JVM and Go */
    handlers[which].page = page;
    handlers[which].way = way;
    handlers[which].shrugs = shrugs;
    sigaction(SIGBUS, &action, &handlers[which].old);
}
void uninstall(int which) { sigaction(SIGBUS, &handlers[which].old, NULL); }
void touch_inside(unsigned char *page) { inner_page = page; }

int moved(const unsigned char *page) { return probe(expected = page); }

__attribute__((noinline)) static int deeper(const volatile unsigned char *page, int depth) {
    volatile char room[512];
    room[0] = (char)depth;
    return (depth ? deeper(page, depth - 1) : *page) + 0 * room[0];
}

/* -1: a handler jumped out, from so many frames of half a KiB. */
int jumped(const volatile unsigned char *page, int depth) {
    if (sigsetjmp(back, 1)) return -1;
    return deeper(page, depth);
}

int jumped_plainly(const volatile unsigned char *page) {
    if (sigsetjmp(back, 0)) return -1;
    return *page;
}

/* ---- how a handler is called ------------------------------------------------------------------------------------------------------ */

static char told[256];
const char *what_it_was_told(void) { return told; }

static void tell(int number, siginfo_t *info, void *context_) {
    ucontext_t *context = context_;
    stack_t stack;
    uint64_t mask = 0;
    sigaltstack(NULL, &stack);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    runs++;
    snprintf(told, sizeof told, "%d code %d address %d value %d mine %d mask %llx stack %d context %d", number, info->si_code,
             info->si_code > 0 && info->si_addr == expected, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
             info->si_code <= 0 && info->si_pid == getpid(), (unsigned long long)mask, (stack.ss_flags & SS_ONSTACK) != 0, context != NULL);
    if (info->si_code == BUS_ADRERR) COUNTER(context) = (uintptr_t)probe_end;
}

void install_telling(int flags, int blocked) {
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | flags};
    for (int number = 1; number < 32; number++)
        if (blocked >> number & 1) sigaddset(&action.sa_mask, number);
    sigaction(SIGBUS, &action, NULL);
}

static void *touch_on_altstack(void *page) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    probe(expected = page);
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    free(stack.ss_sp);
    return NULL;
}

void touch_with_altstack(unsigned char *page) {
    pthread_t thread;
    if (!pthread_create(&thread, NULL, touch_on_altstack, page)) pthread_join(thread, NULL);
}

/* As the kernel would, but for the touch: other reasons of SIGBUS cannot be had at will. */
void send_as(int code, void *address) {
    siginfo_t info = {.si_signo = SIGBUS, .si_code = code};
    if (code > 0) expected = info.si_addr = address;
    if (code == SI_QUEUE) info.si_value.sival_int = 42, info.si_pid = getpid();
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info);
}
