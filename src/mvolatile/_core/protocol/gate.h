/* The fork gate: shared by every operation, shut by a fork and by whoever watches all memory anew. And how many forks there were. */
#ifndef MVOLATILE_PROTOCOL_GATE_H
#define MVOLATILE_PROTOCOL_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

void gate_enter(void);
bool gate_try_to_enter(void);
void gate_leave(void);
void gate_shut(void); /* from here on no operation is half done */
void gate_open(bool in_child);

extern _Atomic uint64_t gate_shut_by; /* a thread, or 0: for traps, which cannot wait for a lock */
extern uint64_t gate_forks;           /* all that this process and those before it have made, under the shut gate */
extern unsigned fork_depth;           /* how many lie between the process that loaded this and this one; a parent's does not move */

#endif
