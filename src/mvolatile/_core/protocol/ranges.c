/* All ranges: the list of them; and what is done to all at once, for a fork or at the end of the watch. */
#include <stdlib.h>

#include "protocol/parts.h"
#include "protocol/pool.h"
#include "protocol/residence.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct range *range_list;
static struct range *spare; /* spare ones stay typed as ranges: a trap may hold a stale pointer to one */

struct range *ranges_take(void) {
    pthread_mutex_lock(&list_lock);
    struct range *range = spare;
    if (range) spare = range->next;
    pthread_mutex_unlock(&list_lock);
    if (!range && (range = calloc(1, sizeof *range))) pthread_mutex_init(&range->lock, NULL);
    return range;
}

void ranges_give(struct range *range) {
    if (range->noted != &range->one_word) free((void *)range->noted);
    range->noted = &range->one_word;
    residence_count(range, 0);
    pthread_mutex_lock(&list_lock);
    range->next = spare;
    spare = range;
    pthread_mutex_unlock(&list_lock);
}

void ranges_enlist(struct range *range) {
    pthread_mutex_lock(&list_lock);
    range->prev = NULL;
    range->next = range_list;
    if (range_list) range_list->prev = range;
    range_list = range;
    pthread_mutex_unlock(&list_lock);
}

void ranges_delist(struct range *range) {
    pthread_mutex_lock(&list_lock);
    if (range->next) range->next->prev = range->prev;
    if (range->prev)
        range->prev->next = range->next;
    else
        range_list = range->next;
    pthread_mutex_unlock(&list_lock);
}

void ranges_visit(void (*visit)(struct range *, void *), void *context) {
    pthread_mutex_lock(&list_lock);
    for (struct range *range = range_list; range; range = range->next) visit(range, context);
    pthread_mutex_unlock(&list_lock);
}

/* ---- the gate is shut, and no other thread of this process is in the core ---------------------------------------------------------- */

void range_shut_gate(void) {
    gate_shut();
    pthread_mutex_lock(&list_lock);
}

void range_open_gate(bool in_child) {
    pthread_mutex_unlock(&list_lock);
    gate_open(in_child);
}

void range_shut_out_traps(void) {
    atomic_store(&gate_shut_by, os_thread_id());
    for (struct range *range = range_list; range; range = range->next)
        while (atomic_load(&range->traps)) os_pause();
}

bool range_watch_again(bool touched) {
    for (struct range *range = range_list; range && !touched; range = range->next) {
        if (!range->watched) continue;
        if (!range->marked)
            (void)os_populate_read(range->base, range->mapped); /* nothing of it can be lost */
        else if (!extents_cover(&range->data, 0, range->mapped))
            fill_never_written(range, 0, range->mapped);
    }
    bool watching = range_tier == OS_TIER_USERFAULTFD && !pool_watch_again();
    for (struct range *range = range_list; range && watching; range = range->next) {
        if (!range->watched) continue;
        if (!range->small && os_watch_again(range->base, range->mapped)) watching = false;
        if (touched && range->marked) loss_take_stock(range, 0, range->mapped); /* once watched: from here on a touch traps */
    }
    return watching;
}

void range_do_without_watch(void) {
    for (struct range *range = range_list; range; range = range->next) {
        if (range->marked) loss_take_stock(range, 0, range->mapped);
        if (range->watched) loss_fill_unwatched(range, 0, range->mapped);
        atomic_fetch_add(&range->changes, 1); /* a peek that is open reads zeros from here on, and no trap tells */
        range->watched = false;
        if (range_tier == OS_TIER_UNSUPPORTED)
            range->marked = false; /* what was volatile is lost: nothing could tell what the kernel takes of it from here on */
        else if (range->marked)
            (void)forbid_collapse(range);
    }
}

/* What the range may have held there: a mark has noted it; of what is held, anything. */
static void lose_part(struct range *range, size_t start, size_t end) {
    struct extent part;
    uint64_t generation = range->generation + 1;
    if (!range->marked) extents_add(&range->data, start, end);
    range->may_collapse = range->huge; /* what is mapped anew is as range_open() leaves it */
    for (size_t at = start; extents_next(&range->data, at, end, &part); at = part.end) {
        loss_record_all(range, part.start, part.end);
        range->generation = generation; /* one loss */
    }
}

static void lose_addresses(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    for (struct range *range = range_list; range; range = range->next) {
        uintptr_t base = (uintptr_t)range->base, from = start > base ? start : base;
        uintptr_t to = end < base + range->mapped ? end : base + range->mapped;
        if (from < to) lose_part(range, from - base, to - base);
    }
}

void range_map_again(void) {
    pool_map_again(lose_addresses);
    for (struct range *range = range_list; range; range = range->next)
        if (!range->small) pool_map_block_again(range->block, range->huge, range->options, lose_addresses);
}

/* A mark has noted what holds data. A range that nobody has held yet is asked; one that is held may be written to until the child is there,
 * so all of it counts. (MADV_DONTFORK would leave the child's objects without memory under them, and its addresses to others.) */
void range_before_wipe(void) {
    for (struct range *range = range_list; range; range = range->next)
        if ((range->options & RANGE_WIPE) && !range->marked && (range->pins || note_data(range))) extents_add(&range->data, 0, range->mapped);
}

void range_after_wipe(void) {
    struct extent part;
    for (struct range *range = range_list; range; range = range->next) {
        uint64_t generation = range->generation + 1;
        while ((range->options & RANGE_WIPE) && extents_next(&range->data, 0, range->mapped, &part)) {
            loss_record_all(range, part.start, part.end);
            range->generation = generation; /* one loss */
        }
        if (range->options & RANGE_WIPE) residence_count(range, 0);
    }
}

void range_forget_other_threads(void) {
    for (struct range *range = range_list; range; range = range->next) {
        atomic_store(&range->peeks, 0);
        atomic_store(&range->users, 0);
        atomic_store(&range->traps, 0); /* one that has found the gate shut may be counted, and does no more */
    }
    peek_keep_only(os_thread_id());
}
