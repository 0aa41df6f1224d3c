/* Memory of stored values that left, kept for the next: volatile, watched, and nobody's. Its bytes are the last owner's, or gone; who takes it
 * overwrites all of it (store.c), so nobody sees them. All functions are called within the fork gate, or with it shut. */
#ifndef MVOLATILE_PROTOCOL_SPARE_H
#define MVOLATILE_PROTOCOL_SPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range;
struct block;

/* The memory of a range that is being closed: false if it is not to be kept, and the caller gives it to the pool. `held`: it lingered. */
bool spare_keep(struct range *range, bool held);
/* For `range`, which knows by its other fields what it needs; it is all there and held, or marked, and then this thread's traps are repaired. False:
 * there is none. */
bool spare_take(struct range *range);
size_t spare_give_back_oldest(void); /* its bytes; 0: there is none */
bool spare_give_back(void); /* all of it, to the pool; whether there was any */
void spare_mark(int64_t since); /* what is held longer than that */
size_t spare_bytes(void);

/* What open stored values take: a part of that is kept at most. */
void spare_count_stored(size_t bytes);
void spare_count_closed(size_t bytes);

#endif
