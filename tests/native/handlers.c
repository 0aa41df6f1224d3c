/* Foreign SIGBUS handlers, as a database or a virtual machine in the same process would install them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile sig_atomic_t runs;
static void *volatile last_address;
static volatile int last_code;

int handler_runs(void) { return runs; }
uintptr_t handler_address(void) { return (uintptr_t)last_address; }
int handler_code(void) { return last_code; }

static void note(siginfo_t *info) {
    runs++;
    last_address = info->si_addr;
    last_code = info->si_code;
}

static void install(void (*function)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = function, .sa_flags = SA_SIGINFO | flags};
    sigaction(SIGBUS, &action, NULL);
}

/* Ends the process with a status of its own: the touch reached this handler. */
static void leave(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    note(info);
    _exit(40 + info->si_code);
}
void install_leaving(void) { install(leave, 0); }
void install_leaving_on_altstack(void) { install(leave, SA_ONSTACK); }

static void leave_plainly(int number) { _exit(60 + number); }
void install_plain(void) { signal(SIGBUS, leave_plainly); }

/* Puts a page where none was and returns: the touch succeeds when tried again. */
static void mend(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    note(info);
    void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095);
    mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(page, 'm', 4096);
}
void install_mending(void) { install(mend, 0); }

/* Jumps out of the code that touched. */
static sigjmp_buf back;
static volatile sig_atomic_t guarded;
static void jump(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    note(info);
    if (!guarded) _exit(99);
    siglongjmp(back, 1);
}
void install_jumping(void) { install(jump, 0); }

/* The byte at `address`, or -1 if reading it trapped. `deeper`: first use so many bytes of stack. */
int guarded_read(const volatile unsigned char *address, unsigned deeper) {
    volatile unsigned char *used = alloca(deeper + 1);
    used[0] = 1;
    int answer = -1;
    guarded = 1;
    if (!sigsetjmp(back, 1)) answer = *address;
    guarded = 0;
    return answer;
}

/* 0, or -1 if writing a byte of its own value 0 trapped. */
int guarded_write(volatile unsigned char *address, unsigned deeper) {
    (void)deeper;
    int answer = -1;
    guarded = 1;
    if (!sigsetjmp(back, 1)) {
        *address = 0;
        answer = 0;
    }
    guarded = 0;
    return answer;
}

/* Returns and mends nothing. */
static void shrug(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    note(info);
}
void install_shrugging(void) { install(shrug, 0); }

/* ---- a touch from a thread whose signals run on an alternate stack, and from inside another handler ------------------------------- */

static const volatile unsigned char *target;
static volatile unsigned sum;

static void *touch_on_altstack(void *from) {
    size_t pages = (size_t)from;
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < pages; i++) sum += target[i * 4096];
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    free(stack.ss_sp);
    return NULL;
}

/* Read a byte of each page in a thread of our own; answers their sum. */
unsigned read_on_altstack(const volatile unsigned char *address, size_t pages) {
    pthread_t thread;
    target = address;
    sum = 0;
    if (pthread_create(&thread, NULL, touch_on_altstack, (void *)pages)) return ~0u;
    pthread_join(thread, NULL);
    return sum;
}

static size_t handler_pages;
static void read_in_handler(int number) {
    (void)number;
    for (size_t i = 0; i < handler_pages; i++) sum += target[i * 4096];
}

/* Read a byte of each page inside a SIGUSR1 handler that blocks every signal that may be blocked, but SIGBUS if `open`. */
unsigned read_inside_a_handler(const volatile unsigned char *address, size_t pages, int open) {
    struct sigaction action = {.sa_handler = read_in_handler}, old;
    sigfillset(&action.sa_mask);
    if (open) sigdelset(&action.sa_mask, SIGBUS);
    target = address;
    handler_pages = pages;
    sum = 0;
    sigaction(SIGUSR1, &action, &old);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &old, NULL);
    return sum;
}

/* fork() as C code calls it, for a child that never returns to Python: it touches, and exits with the byte it read. */
int fork_and_touch(const volatile unsigned char *address) {
    pid_t pid = fork();
    if (!pid) _exit(*address);
    return pid;
}
