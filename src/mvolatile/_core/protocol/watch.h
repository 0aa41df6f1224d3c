/* What ends the watch over all memory at once, and how it begins again: a fork, whose child inherits mappings but no registrations; and a
 * program that closes all descriptors, as daemons do. */
#ifndef MVOLATILE_PROTOCOL_WATCH_H
#define MVOLATILE_PROTOCOL_WATCH_H

#include <stdbool.h>

void watch_init(void);  /* once: the fork handlers */
void watch_count_forks(void); /* begins to count; before there is any memory already: others than it go by the count */
/* Set by who has threads of the library's that want Python's lock: called around each fork, in the thread that forks. */
extern void (*watch_quiet)(void), (*watch_loud)(bool in_child);
void watch_check(void); /* one cheap system call while all is well: whether the descriptor is still ours */
/* Whether the program has closed the descriptor, or a sandbox refuses ioctl(2). It is mended by then, perhaps by a lower tier. Outside of the fork
 * gate, as watch_check(). */
bool watch_renew(void);
/* After an error: whether that was the reason, so that the caller tries again. The bad schedule without `*seen`, which is watch_renewals as it was
 * before the try: another thread has mended it since. */
bool watch_renewed(unsigned *seen);
extern _Atomic unsigned watch_renewals;

#endif
