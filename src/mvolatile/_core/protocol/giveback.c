#include "protocol/giveback.h"

#include "protocol/parts.h"
#include "protocol/residence.h"
#include "protocol/spare.h"

#define AT_ONCE 16                  /* ranges found in one pass over all */
#define VERY_LARGE ((size_t)64 << 20)
#define STEP ((size_t)8 << 20)      /* of a very large range; the kernel takes 2 ms for that much */

struct oldest {
    struct range *ranges[AT_ONCE];
    uint64_t touched[AT_ONCE];
    size_t count;
};

static void sort_in(struct range *range, void *context) {
    struct oldest *found = context;
    uint64_t touched = atomic_load_explicit(&range->touched, memory_order_relaxed);
    if (!atomic_load(&range->marked) || !atomic_load(&range->counted) || atomic_load(&range->refusal)) return;
    if (found->count == AT_ONCE && touched >= found->touched[AT_ONCE - 1]) return;
    size_t at = found->count < AT_ONCE ? found->count++ : AT_ONCE - 1;
    for (; at && found->touched[at - 1] > touched; at--) {
        found->ranges[at] = found->ranges[at - 1];
        found->touched[at] = found->touched[at - 1];
    }
    found->ranges[at] = range;
    found->touched[at] = touched;
}

/* Structs of ranges are never freed, so one that closed since, or is another by now, is safe to lock. Whoever has the lock of a range, be it the one
 * for which all this is done, may wait for a lock of ours: so ours are tried, never waited for. */
static size_t take_back(struct range *range, uint64_t touched, size_t nbytes) {
    if (pthread_mutex_trylock(&range->lock)) return 0;
    size_t before = atomic_load(&range->counted);
    bool same = atomic_load(&range->live) && atomic_load_explicit(&range->touched, memory_order_relaxed) == touched;
    if (same) range_take_back(range, range->mapped > VERY_LARGE ? (nbytes > STEP ? nbytes : STEP) : range->mapped);
    size_t after = atomic_load(&range->counted);
    pthread_mutex_unlock(&range->lock);
    return same && before > after ? before - after : 0;
}

static size_t excess_over(size_t most) {
    size_t total = atomic_load(&residence_total);
    return total > most ? total - most : 0;
}

/* Each pass gives something back, or is the last. */
static size_t give_back(size_t most) {
    size_t given = 0, excess, piece;
    while ((excess = excess_over(most)) && (piece = spare_give_back_oldest())) given += piece;
    for (size_t before = given - 1; excess && given != before;) {
        struct oldest found = {.count = 0};
        before = given;
        ranges_visit(sort_in, &found);
        for (size_t i = 0; i < found.count && (excess = excess_over(most)); i++)
            given += take_back(found.ranges[i], found.touched[i], excess);
        excess = excess_over(most);
    }
    return given;
}

void giveback_charge(struct range *range, size_t bytes) {
    if (bytes <= atomic_load(&range->counted)) return;
    residence_count(range, bytes);
    (void)give_back(atomic_load(&residence_limit));
}

void giveback_charge_whole(struct range *range) {
    if (range->mapped <= VERY_LARGE) giveback_charge(range, range->mapped);
}

size_t giveback_until(size_t most) {
    gate_enter();
    size_t given = give_back(most);
    gate_leave();
    return given;
}

/* ---- what is held ----------------------------------------------------------------------------------------------------------------- */

static void add_held(struct range *range, void *context) {
    if (!atomic_load(&range->marked) || atomic_load(&range->refusal)) *(size_t *)context += atomic_load(&range->counted);
}

size_t giveback_held(void) {
    size_t held = 0;
    gate_enter();
    ranges_visit(add_held, &held);
    gate_leave();
    return held;
}

static void sort_held(struct range *range, void *context) {
    struct oldest *found = context;
    if (range->mapped > VERY_LARGE && !atomic_load(&range->marked) && found->count < AT_ONCE) found->ranges[found->count++] = range;
}

size_t giveback_look(void) {
    struct oldest found = {.count = 0};
    gate_enter();
    ranges_visit(sort_held, &found);
    for (size_t i = 0; i < found.count; i++) {
        struct range *range = found.ranges[i];
        if (pthread_mutex_trylock(&range->lock)) continue;
        if (atomic_load(&range->live) && !atomic_load(&range->marked)) range_recount(range);
        pthread_mutex_unlock(&range->lock);
    }
    size_t given = give_back(atomic_load(&residence_limit));
    gate_leave();
    return given;
}
