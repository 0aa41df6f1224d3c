/* What values are worth: use x cost / bytes, as logarithms to the base of two, and from where on one stays.
 *
 * GDSF (Cherkasova, 1998) keeps all values in order of that, and has a level that rises with what goes. Here no value has a place in an order, and
 * a hit costs nothing: the evictor passes over values in turn, and the level is where a quarter of the bytes that it passes over in the main part
 * are below. Uses are the sketch's: it knows those from before, too.
 *
 * Of the bytes, not of the values. The bad schedule: most values are small and dear, a few are large and cheap, and these are what most of the memory
 * is given to, in turns. A quarter of the values would be of the small ones: they would go to make room for a large one, and be made again for
 * seconds.
 *
 * Where only the number of entries is bounded a value is worth what it costs, whatever its size. A cost that nobody told is taken for what others
 * cost. Where all are worth about the same by cost and bytes, there is nothing to know here, and who asks decides by use alone. */
#include "cache/eviction.h"

#include <math.h>

#define STEPS 8             /* classes of cost in each power of two, as in cache/cost.py */
#define ALIKE 0.4           /* the variance of all, in powers of two: up to here they are alike. The noise of measurements is less */
#define MEMORY (1.0 / 128)  /* the part of mean and variance that each value seen takes, after the first */
#define GO 0.25             /* so many of those passed over in the main part are to go */
#define STEP 0.08           /* by how much the level moves for each */
#define STREAK 32           /* twice as much after so many running that stayed: a store waits for them */
#define TRIES 16            /* candidates that do not enter lower it as much as one that does */
#define MOST 8.0            /* it moves by a value's part of the usual bytes, up to so many times */
#define UNUSED 0.3          /* uses of a value of which the sketch knows none any more */

void worth_begin(struct worth *worth) { *worth = (struct worth){.level = NAN, .part = 1, .size = 1}; }

/* What a use of a value is worth a byte; and learn what is usual. */
double worth_see(struct worth *worth, unsigned cost, uint64_t size) {
    double took = cost ? (double)cost / STEPS : worth->usual;
    if (cost) worth->usual += worth->usual != 0 ? MEMORY * 8 * (took - worth->usual) : took;
    worth->size = size ? size : 1;
    double value = took - log2((double)worth->size), part = worth->part;
    if (part > MEMORY) worth->part = fmax(MEMORY, part / (1 + part)); /* of the first few an equal part for each */
    worth->mean += part * (value - worth->mean);
    worth->variance += part * ((value - worth->mean) * (value - worth->mean) - worth->variance);
    worth->differs = worth->variance > ALIKE;
    return value;
}

double worth_with_uses(struct worth *worth, double of_one, unsigned uses) {
    double value = of_one + log2(uses ? uses : UNUSED);
    if (isnan(worth->level)) worth->level = fmin(value, worth->mean);
    return value;
}

static double share(const struct worth *worth) { return worth->bytes != 0 ? fmin(MOST, (double)worth->size / worth->bytes) : 1; }

/* Whether a candidate does, the value seen last. Where none does for long, the main part is not passed over: so the level falls. */
bool worth_enters(struct worth *worth, double value) {
    if (value > worth->level) return true;
    worth->level -= STEP / TRIES * share(worth);
    return false;
}

/* Whether a value of the main part does, the one seen last; the level moves. */
bool worth_stays(struct worth *worth, double value) {
    double size = (double)worth->size;
    worth->bytes += worth->bytes != 0 ? MEMORY * (size - worth->bytes) : size;
    if (value >= worth->level) {
        worth->level += ldexp(STEP * GO, (int)(worth->streak / STREAK < 1000 ? worth->streak / STREAK : 1000)) * share(worth);
        worth->streak++;
        return true;
    }
    worth->level -= STEP * (1 - GO) * share(worth);
    worth->streak = 0;
    return false;
}
