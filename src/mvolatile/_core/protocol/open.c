/* Ranges come and go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/giveback.h"
#include "protocol/linger.h"
#include "protocol/parts.h"
#include "protocol/pool.h"
#include "protocol/residence.h"
#include "protocol/spare.h"
#include "protocol/watch.h"

static void reset(struct range *range) {
    range->marked = range->watched = range->stored = range->aged = range->lingers = false;
    range->used = 0;
    range->pins = range->writers = 0;
    range->generation = 0;
    range->refusal = 0;
    range->fork_count = gate_forks;
    residence_touch(range);
    extents_init(&range->data);
    extents_init(&range->lost);
    atomic_store(&range->writer, 0);
    atomic_store(&range->writing, 0);
    atomic_store(&range->lossy, false);
    atomic_store(&range->notes, 0);
    atomic_store(&range->one_word, 0);
    atomic_store(&range->users, 0);
}

static void name_mapping(struct range *range, const char *name) {
    char label[80];
    if (range->small) return;
    snprintf(label, sizeof label, "mvolatile:%s", name);
    os_name(range->base, range->mapped, label);
}

/* Nobody finds it any more, and its memory is still its own. */
static void end_life(struct range *range) {
    atomic_store(&range->live, false);
    /* A trap that found this range before may still be at work; a later one sees that it is not live. */
    while (atomic_load(&range->traps)) os_pause();
    ranges_delist(range);
    linger_no_more(range);
    if (range->stored) spare_count_closed(range->mapped);
    extents_clear(&range->data);
    extents_clear(&range->lost);
}

static int fill_new(struct range *range, const struct part *parts, size_t count, bool kept) {
    enum beginning of_kept = range->marked ? BEGINS_KEPT : BEGINS_HELD;
    range->stored = true;
    spare_count_stored(range->mapped);
    return store_parts(range, parts, count, kept ? of_kept : range->watched ? BEGINS_MISSING
                                                                            : BEGINS_ORDINARY);
}

/* `parts`: what it is to hold, or NULL. A fork finds it whole, or not there. */
static int try_open(size_t nbytes, bool huge, unsigned options, const char *name, const struct part *parts, size_t count, bool only_kept,
                    struct range **out) {
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
    bool kept = !err && parts && range_tier == OS_TIER_USERFAULTFD && spare_take(range);
    if (!err && !kept && only_kept) err = ENOENT;
    if (!err && parts) giveback_charge(range, mapped);
    if (!err && !kept) err = pool_take(range, mapped, range->huge, watched, !parts, options, &range->block, &range->base);
    if (err) {
        ranges_give(range);
    } else {
        if (!kept) range->watched = watched;
        name_mapping(range, name);
        ranges_enlist(range);
        atomic_store(&range->live, true);
        if (parts && (err = fill_new(range, parts, count, kept))) {
            end_life(range);
            pool_give(range->block, range->base, mapped);
            ranges_give(range);
        }
    }
    gate_leave();
    *out = err ? NULL : range;
    return err;
}

static int open_new(size_t nbytes, bool huge, unsigned options, const char *name, const struct part *parts, size_t count, bool kept,
                    struct range **out) {
    int err;
    unsigned watch = watch_renewals;
    watch_check(); /* the pool watches what it hands out, and the program may have closed the descriptor since it last did */
    do err = try_open(nbytes, huge, options, name, parts, count, kept, out);
    while (err && ((err == ENOMEM && range_give_back_kept()) || watch_renewed(&watch)));
    return err;
}

int range_open(size_t nbytes, bool huge, unsigned options, const char *name, struct range **out) {
    return open_new(nbytes, huge, options, name, NULL, 0, false, out);
}

int range_open_stored(const struct part *parts, size_t count, bool huge, unsigned options, const char *name, bool kept,
                      struct range **out) {
    size_t nbytes = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(nbytes, parts[i].length, &nbytes)) return ENOMEM;
    return nbytes ? open_new(nbytes, huge, options, name, parts, count, kept, out) : EINVAL;
}

/* Callers first: one that opens a peek or a pin is counted as a caller until that is counted. */
bool range_is_busy(struct range *range) {
    return atomic_load(&range->users) > 1 || atomic_load(&range->peeks) || range->pins;
}

static int close_it(struct range *range, bool keep) {
    range_enter(range);
    if (range_is_busy(range)) {
        range_leave(range);
        return EBUSY;
    }
    bool held = range->lingers;
    end_life(range);
    if (!keep || !spare_keep(range, held)) pool_give(range->block, range->base, range->mapped);
    pthread_mutex_unlock(&range->lock);
    ranges_give(range);
    gate_leave();
    return 0;
}

int range_close(struct range *range) { return close_it(range, false); }
int range_close_and_keep(struct range *range) { return close_it(range, true); }

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
