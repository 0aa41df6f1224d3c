/* What ends the watch over all memory at once, and how it begins again: a fork, whose child inherits mappings but no registrations; and a
 * program that closes all descriptors, as daemons do. */
#ifndef MVOLATILE_WATCH_H
#define MVOLATILE_WATCH_H

void watch_init(void);  /* once: the fork handlers */
void watch_count_forks(void); /* begins to count; before there is any memory already: others than it go by the count */
extern unsigned watch_forks; /* how many forks lie between the process that loaded this and this one; a parent's does not move */
void watch_check(void); /* one cheap system call while all is well */

#endif
