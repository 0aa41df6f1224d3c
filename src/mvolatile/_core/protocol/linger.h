/* Lingering: what was just read or stored stays held for some milliseconds, and is marked off the hot path. docs/protocols.md, "Lingering", argues it.
 *
 * A range that lingers is held as one that was never marked: nobody pins it, nothing of it can go, and it is on a list. The marker, a thread of the
 * core's (marker.c), marks what was not used for PERIOD. Where there is no thread, no room for more, or pressure, nothing begins to linger, and all is
 * marked at once. Locks: a range's before the list's. Within the fork gate, but where said. */
#ifndef MVOLATILE_PROTOCOL_LINGER_H
#define MVOLATILE_PROTOCOL_LINGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range;

#define LINGER_PERIOD 5000000 /* nanoseconds */

/* Under the range's lock. Whether a range that nobody pins any more, or one that was just stored, stays as it is; if not, the caller marks it. */
bool linger_after_use(struct range *range);
bool linger_after_store(struct range *range);
void linger_no_more(struct range *range); /* it is being marked, or closed */

/* Memory of stored values that left while they lingered (spare.c) is held, too. */
bool linger_count(size_t bytes); /* whether it may stay so */
void linger_discount(size_t bytes);

/* ---- the marker's ---- */

void linger_worked_by(void (*run)(void *)); /* once */
/* The one that was longest on the list, which goes to its other end; NULL if there is none. It may be closed, and another's, by the time that its
 * lock is had: ranges stay ranges. */
struct range *linger_next(void);
size_t linger_count_ranges(void);
bool linger_nap(void);  /* until there may be something to mark; whether there is pressure. Without the gate */
bool linger_rests(void); /* nothing lingers, and the marker sleeps, if it does so with linger_sleep() */
void linger_sleep(void); /* until something lingers, or it took too long. Without the gate */
bool linger_is_over(void); /* it took too long: the marker ends */
void linger_in_child(void); /* the marker stayed behind */

/* ---- from anywhere, without the gate ---- */

void linger_allow(size_t most);  /* so many bytes at most from now on; none at first */
void linger_forbid(bool forbidden); /* counted; for who is told of each mark */
void linger_press(void);         /* there is pressure: everything is marked at once, and nothing lingers for a second. Waits for nobody */
size_t linger_bytes(void);

#endif
