/* Bad schedules of signals that come while the core is at work, and whose handlers jump, or touch what is lost: forced, as those of schedules.c.
 *
 * usage: as of schedules */
#include <setjmp.h>
#include <signal.h>

#include "stamped.h"

/* A signal's handler that jumps, as those of Ctrl-C in numerical libraries do, comes while a trap repairs: the repair would never end for the others,
 * who wait for it. It waits for the repair. So it does where the library's handler is not in front, and runs with the mask of the one that is. */
static _Thread_local sigjmp_buf jumps_to;
static void jump_away(int number) { siglongjmp(jumps_to, number); }

static void touch_until_a_jump(struct task *task) {
    task->verdict = begin(&task->peek, task->range);
    CHECK(task->verdict == PEEK_WHOLE);
    if (!sigsetjmp(jumps_to, 1)) {
        touch(task->range, task->page);
        pause();
    }
    task->verdict = end(&task->peek);
}

static struct sigaction handed_on_to;
static void hand_on(int number, siginfo_t *info, void *context) { handed_on_to.sa_sigaction(number, info, context); }

static void jump_out_of_a_trap(void) {
    for (int behind = 0; behind < 2; behind++) {
        struct range *range = open_filled();
        struct sigaction other = {.sa_sigaction = hand_on, .sa_flags = SA_SIGINFO};
        if (behind) sigaction(SIGBUS, &other, &handed_on_to);
        signal(SIGUSR1, jump_away);
        lose(range, 2, 1);
        struct stop *mapped = stop_at(READER, ZERO, AFTER);
        struct task reader = {.page = 2}, pinner = {.page = 2};
        start(&reader, READER, range, touch_until_a_jump);
        until_there(mapped);
        pthread_kill(reader.thread, SIGUSR1);
        start(&pinner, OTHER, range, pin);
        CHECK(waits(&pinner));
        let_go(mapped);
        join(&pinner);
        join(&reader);
        CHECK(!pinner.err && pinner.lost && reader.verdict == PEEK_LOST);
        if (behind) sigaction(SIGBUS, &handed_on_to, NULL);
        end_and_close(range);
    }
}

/* A signal's handler touches what is lost while its thread forks: the trap must not wait for the gate that this thread holds shut. */
static struct range *seen_by_a_signal;
static volatile unsigned char seen_in_the_handler;
static volatile sig_atomic_t handler_ran;
static void look(int number) {
    (void)number;
    seen_in_the_handler = touch(seen_by_a_signal, 2);
    handler_ran = 1;
}

static void signal_inside_a_fork(void) {
    struct range *range = seen_by_a_signal = open_filled();
    lose(range, 2, 1);
    struct peek ours;
    CHECK(begin(&ours, range) == PEEK_WHOLE);
    signal(SIGUSR1, look);
    seen_in_the_handler = 1;
    struct task forker = {.page = 2, .lost = true};
    start(&forker, THIRD, range, fork_now);
    join(&forker);
    check_child(&forker);
    CHECK(handler_ran && !seen_in_the_handler && end(&ours) == PEEK_LOST);
    end_and_close(range);
}

static void during_fork(void) { raise(SIGUSR1); } /* every gate is shut by now */

/* ---- main ------------------------------------------------------------------------------------------------------------------------- */

static const struct schedule schedules[] = {
    SCHEDULE(jump_out_of_a_trap),
    SCHEDULE(signal_inside_a_fork),
};

int main(int count, char **arguments) {
    pthread_atfork(during_fork, NULL, NULL); /* runs after the core's own, which is registered later */
    return run_schedule(schedules, sizeof schedules / sizeof *schedules, count, arguments);
}
