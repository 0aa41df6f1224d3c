/* What the ranges of this process take of its RSS, at most, and the limit on that.
 *
 * A range counts with `counted` bytes: all pages that may be there. Whoever is about to touch more of them counts them first, and while there are too
 * many has the oldest given back (giveback.c), before the first byte; so no moment is above the limit, for a poller or for the peak that the kernel
 * keeps (ru_maxrss). The bad schedules: two threads count at once and each gives back for both, so each looks at the sum again after every step; a
 * thread that looks now and then would be a gigabyte late.
 *
 * What the kernel takes is seen late, and counts until then. That errs on the safe side: the oldest, which is asked first, is what it took. */
#ifndef MVOLATILE_PROTOCOL_RESIDENCE_H
#define MVOLATILE_PROTOCOL_RESIDENCE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct range;

extern _Atomic size_t residence_limit; /* bytes; SIZE_MAX: none */
extern _Atomic size_t residence_total; /* of all ranges, and of what is kept for the next (spare.c) */

void residence_count(struct range *range, size_t bytes); /* that many are there, at most; under its lock */
void residence_leave(size_t bytes);                      /* of no range any more, and gone */
void residence_touch(struct range *range);               /* the youngest from now on */

#endif
