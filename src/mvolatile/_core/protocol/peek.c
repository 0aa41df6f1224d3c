/* Peeks, which read without a hold. The argument is in range.h. */
#include "protocol/parts.h"
#include "protocol/watch.h"

static bool another_writes(struct range *range) {
    return atomic_load(&range->writing) && atomic_load(&range->writer) != os_thread_id();
}

static enum peek_verdict begin(struct peek *peek, struct range *range, size_t offset, size_t length, void (*open)(struct peek *)) {
    peek->range = range;
    peek->offset = offset;
    peek->length = length;
    open(peek);
    /* First `changes`, then the rest: a loss or a writer announced after this moves it, one announced before is seen below. */
    peek->changes = atomic_load(&range->changes);
    if (!atomic_load(&range->writing) && !atomic_load(&range->lossy) && !atomic_load(&range->notes) &&
        range_tier == OS_TIER_USERFAULTFD) /* falling from it moves `changes` afterwards */
        return PEEK_WHOLE;
    peek_close(peek);
    return PEEK_UNSURE;
}

enum peek_verdict range_peek_begin(struct peek *peek, struct range *range, size_t offset, size_t length) {
    return begin(peek, range, offset, length, peek_open);
}

enum peek_verdict range_copy_begin(struct peek *peek, struct range *range, size_t offset, size_t length) {
    return begin(peek, range, offset, length, peek_open_copy);
}

enum peek_verdict range_peek_begin_carefully(struct peek *peek, struct range *range, size_t offset, size_t length) {
    peek->range = range;
    peek->offset = offset;
    peek->length = length;
    enum peek_verdict verdict = PEEK_WHOLE;
    range_enter(range);
    loss_fold_notes(range);
    peek->changes = atomic_load(&range->changes);
    if (extents_overlap(&range->lost, offset, offset + length))
        verdict = PEEK_LOST;
    else if (another_writes(range))
        verdict = PEEK_OVERWRITTEN;
    else if (range_tier != OS_TIER_USERFAULTFD && !range->pins)
        verdict = PEEK_OVERWRITTEN; /* it has fallen since the caller looked: again, with a pin */
    else
        peek_open(peek);
    range_leave(range);
    return verdict;
}

enum peek_verdict range_peek_end(struct peek *peek) {
    struct range *range = peek->range;
    atomic_thread_fence(memory_order_seq_cst); /* the reads of the data come first */
    while (atomic_load(&range->traps)) os_pause();
    if (atomic_load(&os_watch_ended)) return PEEK_UNSURE; /* before `changes`, which moves before this is taken back */
    if (atomic_load(&range->notes) || atomic_load(&range->changes) != peek->changes) return PEEK_UNSURE;
    peek_close(peek);
    return PEEK_WHOLE;
}

enum peek_verdict range_peek_end_carefully(struct peek *peek) {
    struct range *range = peek->range;
    enum peek_verdict verdict = PEEK_WHOLE;
    watch_check(); /* where a trap has ended the watch, what is lost is known by then */
    range_enter(range);
    while (atomic_load(&range->traps)) os_pause();
    bool changed = atomic_load(&range->changes) != peek->changes;
    loss_fold_notes(range);
    if (extents_overlap(&range->lost, peek->offset, peek->offset + peek->length))
        verdict = PEEK_LOST;
    else if (changed)
        verdict = PEEK_OVERWRITTEN;
    range_leave(range);
    peek_close(peek);
    return verdict;
}
