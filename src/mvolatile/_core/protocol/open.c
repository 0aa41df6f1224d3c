/* Ranges come and go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/parts.h"
#include "protocol/pool.h"
#include "protocol/watch.h"

static void reset(struct range *range) {
    range->marked = range->watched = false;
    range->pins = range->writers = 0;
    range->generation = 0;
    range->refusal = 0;
    range->fork_count = gate_forks;
    extents_init(&range->data);
    extents_init(&range->lost);
    atomic_store(&range->writer, 0);
    atomic_store(&range->writing, 0);
    atomic_store(&range->lossy, false);
    atomic_store(&range->notes, 0);
    atomic_store(&range->one_word, 0);
    atomic_store(&range->users, 0);
}

static int try_open(size_t nbytes, bool huge, unsigned options, const char *name, struct range **out) {
    size_t mapped = page_up(nbytes);
    if (mapped < nbytes) return ENOMEM;
    struct range *range = ranges_take();
    if (!range) return ENOMEM;
    gate_enter(); /* before reset(), which asks how many forks there were */
    reset(range);
    range->nbytes = nbytes;
    range->mapped = mapped;
    range->small = mapped < CHUNK_SIZE;
    range->huge = range->may_collapse = huge && !range->small;
    range->options = options;
    size_t words = (mapped / os_page_size + 63) / 64;
    range->noted = words > 1 ? calloc(words, sizeof *range->noted) : &range->one_word;
    int err = range->noted ? 0 : ENOMEM;
    bool watched = range->small && range_tier == OS_TIER_USERFAULTFD;
    if (!err) err = pool_take(range, mapped, range->huge, watched, options, &range->block, &range->base);
    if (err) {
        ranges_give(range);
    } else {
        range->watched = watched;
        if (!range->small) {
            char label[80];
            snprintf(label, sizeof label, "mvolatile:%s", name);
            os_name(range->base, mapped, label);
        }
        ranges_enlist(range);
        atomic_store(&range->live, true);
    }
    gate_leave();
    *out = err ? NULL : range;
    return err;
}

int range_open(size_t nbytes, bool huge, unsigned options, const char *name, struct range **out) {
    int err;
    unsigned watch = watch_renewals;
    watch_check(); /* the pool watches what it hands out, and the program may have closed the descriptor since it last did */
    do err = try_open(nbytes, huge, options, name, out);
    while (err && watch_renewed(&watch));
    return err;
}

/* Callers first: one that opens a peek or a pin is counted as a caller until that is counted. */
bool range_is_busy(struct range *range) {
    return atomic_load(&range->users) > 1 || atomic_load(&range->peeks) || range->pins;
}

int range_close(struct range *range) {
    range_enter(range);
    if (range_is_busy(range)) {
        range_leave(range);
        return EBUSY;
    }
    atomic_store(&range->live, false);
    /* A trap that found this range before may still be at work; a later one sees that it is not live. */
    while (atomic_load(&range->traps)) os_pause();
    ranges_delist(range);
    pool_give(range->block, range->base, range->mapped);
    extents_clear(&range->data);
    extents_clear(&range->lost);
    pthread_mutex_unlock(&range->lock);
    ranges_give(range);
    gate_leave();
    return 0;
}

bool range_is_valid(struct range *range) {
    range_enter(range);
    bool valid = extents_valid(&range->data) && extents_valid(&range->lost) && range->writers <= range->pins &&
                 !(range->marked && range->pins) && atomic_load(&range->writing) == range->writers &&
                 atomic_load(&range->lossy) >= (range->lost.count > 0) &&
                 (!range->small || range_tier != OS_TIER_USERFAULTFD || range->watched) &&
                 !(range_tier == OS_TIER_USERFAULTFD && range->marked && !range->watched && !range->refusal);
    range_leave(range);
    return valid;
}
