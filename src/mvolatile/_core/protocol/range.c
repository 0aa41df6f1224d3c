#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/spare.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

_Atomic enum os_tier range_tier;
_Atomic uint64_t range_gate_shut_by;

static pthread_rwlock_t gate;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
struct range *range_list;
static struct range *spare; /* spare ones stay typed as ranges: a trap may hold a stale pointer to one */
uint64_t range_forks;

void gate_enter(void) { pthread_rwlock_rdlock(&gate); }
void gate_leave(void) { pthread_rwlock_unlock(&gate); }

void range_enter(struct range *range) {
    gate_enter();
    pthread_mutex_lock(&range->lock);
}

void range_leave(struct range *range) {
    pthread_mutex_unlock(&range->lock);
    gate_leave();
}

static void make_gate(void) {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
#ifdef __GLIBC__ /* A fork must not starve behind a stream of pins; musl has no such choice. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&gate, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

void range_shut_gate(void) {
    pthread_rwlock_wrlock(&gate);
    pthread_mutex_lock(&list_lock);
}

void range_open_gate(bool in_child) {
    atomic_store(&range_gate_shut_by, 0);
    pthread_mutex_unlock(&list_lock);
    if (in_child)
        make_gate(); /* glibc knows a writer by its thread id, which is another in the child */
    else
        pthread_rwlock_unlock(&gate);
}

int range_init(enum os_tier most) {
    enum os_tier tier = OS_TIER_UNSUPPORTED;
    int err = os_open(most, &tier);
    if (err) return err;
    make_gate();
    range_tier = tier;
    return 0;
}

/* ---- pins ------------------------------------------------------------------------------------------------------------------------- */

static void begin_writing(struct range *range) {
    uint64_t thread = os_thread_id();
    atomic_store(&range->writer, range->writers++ && atomic_load(&range->writer) != thread ? 0 : thread);
    atomic_store(&range->writing, range->writers);
    atomic_fetch_add(&range->changes, 1);
}

static void end_writing(struct range *range) {
    atomic_fetch_add(&range->changes, 1);
    if (!--range->writers) atomic_store(&range->writer, 0);
    atomic_store(&range->writing, range->writers);
}

/* Through the gate, as whoever takes the lock: a fork at this moment would copy it held, and the child wait for it for ever. */
bool range_pin_is_quick(struct range *range) {
    if (pthread_rwlock_tryrdlock(&gate)) return false;
    bool quick = false;
    if (!pthread_mutex_trylock(&range->lock)) {
        quick = range->pins > 0;
        pthread_mutex_unlock(&range->lock);
    }
    gate_leave();
    return quick;
}

int range_pin(struct range *range, bool write) {
    unsigned watch = watch_renewals;
    if (range->marked) watch_check();
    int err;
    do {
        range_enter(range);
        err = 0;
        if (!range->pins && range->marked && !(err = hold_all(range))) range->marked = false;
        if (!err) {
            range->pins++;
            if (write) begin_writing(range);
        }
        range_leave(range);
    } while (err && watch_renewed(&watch));
    return err;
}

void range_unpin(struct range *range, bool write) {
    unsigned watch = watch_renewals;
    range_enter(range);
    if (write) end_writing(range);
    int err = --range->pins ? 0 : mark(range);
    range_leave(range);
    if (!err || !watch_renewed(&watch)) return;
    range_enter(range);
    if (!range->pins && !range->marked) mark(range);
    range_leave(range);
}

/* The pages under a few bytes. A part of a huge page cannot be marked without splitting it, so there the unit is the huge page. */
static struct extent pages_under(struct range *range, size_t offset, size_t n) {
    size_t unit = range->huge ? os_huge_size : os_page_size;
    size_t start = offset & ~(unit - 1), end = (offset + n + unit - 1) & ~(unit - 1);
    return (struct extent){start, end < range->mapped ? end : range->mapped};
}

/* Make them safe to touch, whoever pins; `again`: mark them afterwards. Not what a pin that failed left unwatched: it is held, all of it, and
 * marked alone it would go unseen. The next mark watches it first. */
static int hold_pages(struct range *range, struct extent pages, bool *again) {
    bool held = !range->pins && range->marked;
    *again = held && (range->watched || range_tier != OS_TIER_USERFAULTFD);
    return held ? hold_part(range, pages.start, pages.end) : 0;
}

static void release_pages(struct range *range, struct extent pages) {
    trap_note_mark();
    range->refusal = os_free_lazily(at_offset(range, pages.start), pages.end - pages.start);
}

int range_read(struct range *range, size_t offset, size_t n, void *to) {
    struct extent pages = pages_under(range, offset, n);
    unsigned watch = watch_renewals;
    int err;
    do {
        range_enter(range);
        bool again = false, foreign = range->writers && atomic_load(&range->writer) != os_thread_id();
        err = foreign ? EAGAIN : hold_pages(range, pages, &again);
        if (!err) {
            if (extents_overlap(&range->lost, offset, offset + n))
                err = EFAULT;
            else
                memmove(to, at_offset(range, offset), n); /* `to` may be a view of the same memory */
            if (again) release_pages(range, pages);
        }
        range_leave(range);
    } while (err && watch_renewed(&watch));
    return err;
}

static int try_write(struct range *range, struct extent pages, size_t offset, size_t n, const void *from) {
    bool again;
    range_enter(range);
    int err = hold_pages(range, pages, &again);
    if (!err) {
        begin_writing(range);
        memmove(at_offset(range, offset), from, n);
        extents_sub(&range->lost, offset, offset + n);
        atomic_store(&range->lossy, range->lost.count > 0);
        end_writing(range);
        extents_add(&range->data, page_down(offset), page_up(offset + n));
        if (again)
            release_pages(range, pages);
        else if (!range->pins)
            mark(range);
    }
    range_leave(range);
    return err;
}

int range_write(struct range *range, size_t offset, size_t n, const void *from) {
    if (!n) return 0; /* its page holds no data by it, and must not count as lost one day */
    struct extent pages = pages_under(range, offset, n);
    unsigned watch = watch_renewals;
    int err;
    do err = try_write(range, pages, offset, n, from);
    while (err && watch_renewed(&watch));
    return err;
}

/* ---- what the kernel has ---------------------------------------------------------------------------------------------------------- */

static void sum_up(void *context, uintptr_t start, uintptr_t end) { *(size_t *)context += end - start; }

static size_t bytes_of(struct range *range, enum os_class class, size_t offset, size_t length) {
    uintptr_t start = (uintptr_t)range->base + page_down(offset), end = (uintptr_t)range->base + page_up(offset + length);
    size_t sum = 0;
    return os_scan(class, start, end, sum_up, &sum) ? 0 : sum;
}

int range_purge(struct range *range, size_t offset, size_t length, size_t *bytes) {
    *bytes = 0;
    size_t start = page_down(offset), len = page_up(offset + length) - start;
    if (range->refusal) (void)watch_renew();
    range_enter(range);
    int err = range->pins ? EDEADLK : 0;
    /* Refused perhaps half way, so some may be gone: held first, or it would be taken for what was never written. */
    if (!err && range->marked && range->refusal && !(err = hold_all(range))) range->marked = false;
    if (!err && !range->marked) err = mark(range);
    if (!err && length && range_tier != OS_TIER_UNSUPPORTED) {
        size_t before = bytes_of(range, OS_DATA, start, len);
        err = os_pageout(at_offset(range, start), len);
        if (!err && before && bytes_of(range, OS_DATA, start, len)) os_reclaim_all(at_offset(range, start), len);
        *bytes = before - bytes_of(range, OS_DATA, start, len);
    }
    range_leave(range);
    return err;
}

int range_resident(struct range *range, size_t *bytes) {
    range_enter(range);
    *bytes = bytes_of(range, OS_RESIDENT, 0, range->mapped);
    int err = os_can_scan() ? 0 : os_probed()->pagemap;
    range_leave(range);
    return err;
}

/* ---- open and close --------------------------------------------------------------------------------------------------------------- */

static void reset(struct range *range) {
    range->marked = range->watched = range->stored = false;
    range->pins = range->writers = 0;
    range->generation = 0;
    range->refusal = 0;
    range->fork_count = range_forks;
    extents_init(&range->data);
    extents_init(&range->lost);
    atomic_store(&range->writer, 0);
    atomic_store(&range->writing, 0);
    atomic_store(&range->lossy, false);
    atomic_store(&range->notes, 0);
    atomic_store(&range->one_word, 0);
    atomic_store(&range->users, 0);
}

static struct range *take_struct(void) {
    pthread_mutex_lock(&list_lock);
    struct range *range = spare;
    if (range) spare = range->next;
    pthread_mutex_unlock(&list_lock);
    if (!range && (range = calloc(1, sizeof *range))) pthread_mutex_init(&range->lock, NULL);
    return range;
}

static void give_struct(struct range *range) {
    if (range->noted != &range->one_word) free((void *)range->noted);
    range->noted = &range->one_word;
    pthread_mutex_lock(&list_lock);
    range->next = spare;
    spare = range;
    pthread_mutex_unlock(&list_lock);
}

static void enlist(struct range *range) {
    pthread_mutex_lock(&list_lock);
    range->prev = NULL;
    range->next = range_list;
    if (range_list) range_list->prev = range;
    range_list = range;
    pthread_mutex_unlock(&list_lock);
}

static void delist(struct range *range) {
    pthread_mutex_lock(&list_lock);
    if (range->next) range->next->prev = range->prev;
    if (range->prev)
        range->prev->next = range->next;
    else
        range_list = range->next;
    pthread_mutex_unlock(&list_lock);
}

static void name_mapping(struct range *range, const char *name) {
    char label[80];
    snprintf(label, sizeof label, "mvolatile:%s", name);
    if (!range->small) os_name(range->base, range->mapped, label);
}

/* Nobody finds it any more, and its memory is still its own. */
static void end_life(struct range *range) {
    atomic_store(&range->live, false);
    /* A trap that found this range before may still be at work; a later one sees that it is not live. */
    while (atomic_load(&range->traps)) os_pause();
    delist(range);
    if (range->stored) spare_count_closed(range->mapped);
    extents_clear(&range->data);
    extents_clear(&range->lost);
}

static int fill_new(struct range *range, const struct part *parts, size_t count, bool kept) {
    range->stored = true;
    spare_count_stored(range->mapped);
    return store_parts(range, parts, count, kept ? BEGINS_KEPT : range->watched ? BEGINS_MISSING : BEGINS_ORDINARY);
}

/* `parts`: what it is to hold, or NULL. A fork finds it whole, or not there. */
static int try_open(size_t nbytes, bool huge, unsigned options, const char *name, const struct part *parts, size_t count, struct range **out) {
    size_t mapped = page_up(nbytes);
    if (mapped < nbytes) return ENOMEM;
    struct range *range = take_struct();
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
    bool kept = !err && parts && range_tier == OS_TIER_USERFAULTFD && trap_catches() && spare_take(range);
    if (!err && !kept) err = pool_take(range, mapped, range->huge, watched, !parts, options, &range->block, &range->base);
    if (err) {
        give_struct(range);
    } else {
        if (!kept) range->watched = watched;
        name_mapping(range, name);
        enlist(range);
        atomic_store(&range->live, true);
        if (parts && (err = fill_new(range, parts, count, kept))) {
            end_life(range);
            pool_give(range->block, range->base, mapped);
            give_struct(range);
        }
    }
    gate_leave();
    *out = err ? NULL : range;
    return err;
}

static int open_new(size_t nbytes, bool huge, unsigned options, const char *name, const struct part *parts, size_t count,
                    struct range **out) {
    int err;
    unsigned watch = watch_renewals;
    watch_check(); /* the pool watches what it hands out, and the program may have closed the descriptor since it last did */
    do err = try_open(nbytes, huge, options, name, parts, count, out);
    while (err && ((err == ENOMEM && range_give_back_kept()) || watch_renewed(&watch)));
    return err;
}

int range_open(size_t nbytes, bool huge, unsigned options, const char *name, struct range **out) {
    return open_new(nbytes, huge, options, name, NULL, 0, out);
}

int range_open_stored(const struct part *parts, size_t count, bool huge, unsigned options, const char *name, struct range **out) {
    size_t nbytes = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(nbytes, parts[i].length, &nbytes)) return ENOMEM;
    return nbytes ? open_new(nbytes, huge, options, name, parts, count, out) : EINVAL;
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
    end_life(range);
    if (!keep || !spare_keep(range)) pool_give(range->block, range->base, range->mapped);
    pthread_mutex_unlock(&range->lock);
    give_struct(range);
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
