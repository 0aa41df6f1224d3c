/* Between the files of the system layer; nothing here is for others. */
#ifndef MVOLATILE_PLATFORM_PARTS_H
#define MVOLATILE_PLATFORM_PARTS_H

#include <errno.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "platform/os.h"

/* A descriptor of ours, be it for a moment. A program that closes all descriptors, as daemons do, may have opened another file at the number: so every use
 * asks first whether the file is still the one that was opened. A userfaultfd has an inode of its own since Linux 5.12. Between the question and
 * the use another thread may still close it; nobody who has descriptors can exclude that. */
struct own {
    _Atomic int fd; /* -1: none */
    _Atomic dev_t device;
    _Atomic ino_t inode;
    _Atomic unsigned openings;
};
#define NO_DESCRIPTOR {-1, 0, 0, 0}
int own_fd(struct own *own); /* -1 where it is not ours any more [signal] */
void own_keep(struct own *own, int fd);
void own_close(struct own *own); /* not what is another's by now [signal] */

extern struct os_probe os_probe;
extern _Atomic enum os_tier os_serving; /* as os_open() and os_open_again() answered */
static inline int errno_of(int result) { return result < 0 ? errno : 0; }
/* Others read the probe meanwhile; to open a descriptor again seldom changes what it said. */
static inline void note(int *fact, int found) {
    if (*fact != found) *fact = found;
}
bool passes(int err); /* that of descriptors that are used up */

/* Each opens what is not open yet, and says in os_probe how it went. */
void open_pagemap(void); /* this and the next by one thread at a time, never outside the fork gate */
void open_maps(void);
bool ask_without_pagemap(void); /* where it cannot be opened, scan by move_pages(2) from now on; os_can_scan() */
bool open_userfaultfd(void);
void close_pagemap(void);
void close_maps(void);

#endif
