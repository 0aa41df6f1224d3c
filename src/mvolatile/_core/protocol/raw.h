/* mvolatile() on raw addresses: any private anonymous memory of the process.
 *
 * The volatile ranges of the process are one set of addresses, so splitting and merging is adding and subtracting. Beside it stands the set
 * of pages that held data when they were marked: the others were never written, and cannot be purged. The memory is not ours: it may be
 * unmapped, or mapped anew, at any time. A page counts as purged only where it is missing *and* still watched; new mappings are not
 * watched, so they answer "not purged", as the patch's fresh VMAs do. */
#ifndef MVOLATILE_PROTOCOL_RAW_H
#define MVOLATILE_PROTOCOL_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/os.h"

#define MVOLATILE_NONVOLATILE 0
#define MVOLATILE_VOLATILE 1

/* The call of the patch (v13's arguments and errors, v14's atomicity). Answers 0 or an errno; 0 changed all of it, an error nothing. */
int raw_mvolatile(uintptr_t start, size_t length, long mode, long flags, int *purged);

size_t raw_volatile_bytes(void);

bool raw_repair(uintptr_t address); /* [signal] see trap.c */
bool raw_covers(uintptr_t address); /* our userfaultfd watches it; after range_covers() [signal] */
void raw_lock(void);                /* held over a fork */
void raw_unlock(void);
void raw_before_fork(void);             /* under the lock: the child could not tell what is not there any more */
bool raw_watch_again(bool touched);     /* as of ranges; see range.h */
void raw_do_without_watch(void);
void raw_forget_unmapped(void);         /* in a forked child: what was not copied (MADV_DONTFORK) */

#endif
