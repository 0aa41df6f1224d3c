/* Giving memory back until what is there is within the limit; residence.h argues it. Within the fork gate, or by whoever is outside of it: see each. */
#ifndef MVOLATILE_PROTOCOL_GIVEBACK_H
#define MVOLATILE_PROTOCOL_GIVEBACK_H

#include <stddef.h>

struct range;

/* `range` is about to have up to `bytes` there: counted, and others given back for it. Within the gate; with its lock, or before anybody finds it. */
void giveback_charge(struct range *range, size_t bytes);

/* All of a range may be written to, or filled. What is very large is counted by giveback_look() instead, as it is written: else a program that maps
 * 10 GiB to write a page would lose all its caches for it. */
void giveback_charge_whole(struct range *range);

/* Outside of the gate: have no more than `most` there, the oldest going first. Answers the bytes that went. */
size_t giveback_until(size_t most);
size_t giveback_look(void); /* count what is held and large anew, and keep the limit; the bytes that went */
size_t giveback_held(void); /* bytes that cannot be given back now: held, or refused to be marked */

#endif
