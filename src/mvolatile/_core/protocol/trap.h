/* The SIGBUS handler. It takes no lock, allocates nothing, knows no Python and never jumps out of anybody's code: it repairs a touch
 * inside a peek and returns, or hands the signal on to whoever handled it before. */
#ifndef MVOLATILE_PROTOCOL_TRAP_H
#define MVOLATILE_PROTOCOL_TRAP_H

#include <stdbool.h>

/* Make sure ours is the handler that runs first; whatever was put in its place meanwhile becomes the one it hands on to. Called where the
 * disposition may have changed: another's handler would meet a peek's trap and kill, or (signal.signal) return and fault for ever. */
void trap_ensure(void);

/* This thread has SIGBUS blocked: the kernel kills it for a trap, whatever the handler. One system call. */
bool trap_is_blocked(void);

/* A SIGBUS of this thread would come to ours: it is not blocked, and nobody has changed the disposition. Two system calls. */
bool trap_catches(void);

/* The handler before ours is Python's, which only notes the signal and returns: it can run only once the faulting instruction is past. */
void trap_set_python_handler(bool is_python);

/* A new mark was made: a page that faults again may have been purged again. */
void trap_note_mark(void);

#endif
