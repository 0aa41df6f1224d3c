/* A range: page-aligned memory of the pool with pins, peeks, and the record of what was lost. The protocol, and nothing of Python.
 *
 *   data    where the range may hold bytes that are not zero. What is outside reads as zeros whatever the kernel does, so it is
 *           neither held on a pin nor ever lost.
 *   lost    the sticky report, in bytes from the start; a rebuild, a write over it, or accepting zeros takes from it.
 *   noted   pages that a trap repaired with a zero page inside a peek, not yet folded into `lost`. The trap can set a bit and count;
 *           it cannot allocate.
 *
 * Locks, outermost first: the fork gate (shared, held by every operation that changes a range or calls the kernel for it, so that a
 * fork never sees one half done); the range's lock. Peeks and the trap take neither.
 *
 * Why a peek can be trusted. peek_begin() remembers `changes`; writers, rebuilds and every detected loss count it up. The bad schedules:
 *   - a page is lost, a pin rebuilds it, the peek ends: nothing is missing then, but `changes` moved;
 *   - a second peek reads a page that an earlier peek's trap filled with zeros: no trap comes, but `notes` is not 0;
 *   - a trap has mapped the zero page and not noted it yet, and another thread reads the zeros and ends its peek: `traps` is not 0, and
 *     peek_end() waits for it; the trap counts `traps` up before it maps anything;
 *   - a fold takes the notes between peek_end()'s look at `notes` and at `changes`: it counts `changes` first, and peek_end() looks at
 *     `notes` first.
 * A trap notes only what its own UFFDIO_ZEROPAGE filled: that page was missing at that instant, so the note is true when it is made. A pin
 * that settles a loss folds the notes once more before it answers, so no note outlives the loss it belongs to. */
#ifndef MVOLATILE_PROTOCOL_RANGE_H
#define MVOLATILE_PROTOCOL_RANGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/extents.h"
#include "platform/os.h"

struct block;

struct range {
    char *base;
    size_t nbytes;  /* as asked for */
    size_t mapped;  /* rounded up to pages */
    struct block *block;
    bool small;     /* shares an arena, which is watched as a whole */
    bool huge;
    bool stored;       /* by range_open_stored() */
    bool aged;         /* its pages were marked for another before it was stored, and not since; store.c */
    bool foreign;      /* raw.c: not of the pool, may be mapped anew behind our back; offsets are addresses */
    bool may_collapse; /* khugepaged is allowed */
    unsigned options;  /* of enum range_options */
    _Atomic bool live;
    pthread_mutex_t lock; /* all below, but the atomics */
    _Atomic bool marked; /* volatile now; range_pin() asks before it has the lock, to know whether the watch matters */
    bool watched;   /* registered, and without holes but for lost pages */
    uint32_t pins, writers;
    _Atomic uint64_t writer; /* the thread, if all writers are one; else 0 */
    uint64_t fork_count;  /* forks seen when the pages were last held; faultcount tier */
    _Atomic int refusal;  /* why the kernel last refused to mark, or 0; read without the lock, to warn */
    uint64_t generation;  /* grows by one with each detected loss */
    _Atomic size_t counted;   /* residence.h */
    _Atomic uint64_t touched; /* by residence.c's clock, when it was last made or let go */
    bool lingers;         /* not marked, though nobody pins it; linger.c */
    _Atomic int64_t used; /* when it was stored or let go, by os_now(); of stored ones */
    struct range *linger_next, *linger_prev; /* under that list's lock */
    struct extents data;  /* byte offsets, whole pages */
    struct extents lost;  /* byte offsets */
    _Atomic uint64_t changes;
    _Atomic uint32_t writing; /* `writers`, for peeks */
    _Atomic bool lossy;       /* `lost` is not empty, for peeks */
    _Atomic uint32_t peeks, traps, notes;
    _Atomic uint32_t users; /* calls under way; one that waits for the lock must not find the range closed or another's */
    _Atomic uint64_t *noted; /* a bit a page; `one_word` while that is enough */
    _Atomic uint64_t one_word;
    struct range *next, *prev; /* all live ranges */
};

extern _Atomic enum os_tier range_tier; /* set by range_init(); a forked child that cannot watch falls back. Changes under the shut gate */
int range_init(enum os_tier most); /* once; after an error (see os_open()) again */

/* `options`: of enum range_options. What the kernel refuses of them is the answer, and nothing is open. */
enum range_options {
    RANGE_DUMP = 1, /* it is part of core dumps */
    RANGE_WIPE = 2, /* a forked child gets none of its bytes, and is told that they are lost */
    RANGE_OPTIONS = 4,
};
int range_open(size_t nbytes, bool huge, unsigned options, const char *name, struct range **out);
/* The same with bytes in it, one part after another; volatile on return, unless `refusal` says why not. Memory of one that was closed with
 * range_close_and_keep() serves again. `parts` may be anywhere, also in volatile memory, and of no bytes. `kept`: only such memory; ENOENT if there is
 * none. */
struct part {
    const char *bytes;
    size_t length;
};
int range_open_stored(const struct part *parts, size_t count, bool huge, unsigned options, const char *name, bool kept,
                      struct range **out);
/* EBUSY, and nothing changed, while a pin, a peek or another call lives; the caller counts in `users`. A trap of an open peek must not find
 * the range half closed, so this is decided before anything is touched. */
int range_close(struct range *range);
int range_close_and_keep(struct range *range); /* its memory may serve for another that is stored */
bool range_give_back_kept(void);               /* to the kernel, all of it; whether there was any */
bool range_is_busy(struct range *range); /* the same question, for a caller that can keep others out */

/* Hold the range non-volatile. On success the pin counts, even if something was lost: the caller looks at range_lost(). EINTR and other
 * errors: nothing is held. Answers quickly (no kernel call) when somebody holds it already. */
int range_pin(struct range *range, bool write);
void range_unpin(struct range *range, bool write); /* volatile again after the last; see `refusal` */
bool range_pin_is_quick(struct range *range);     /* a hint: neither range_pin nor range_unpin would call the kernel */

/* Copy under a short hold of the pages concerned. EFAULT: part of [offset, offset+n) is lost, nothing is promised of `to`; EAGAIN: another
 * thread writes. */
int range_read(struct range *range, size_t offset, size_t n, void *to);
/* Overwritten bytes are no longer lost. */
int range_write(struct range *range, size_t offset, size_t n, const void *from);

struct peek {
    struct range *range;
    size_t offset, length;
    uint64_t changes, thread;
    struct peek *next, *prev;
    unsigned shard, forks;
};
enum peek_verdict {
    PEEK_WHOLE,
    PEEK_LOST,        /* part of the window is lost, or was while it was read */
    PEEK_OVERWRITTEN, /* a writer or a rebuild was there meanwhile; read again */
    PEEK_UNSURE,      /* ask the _carefully twin, which may wait for a lock */
};
/* Open a window for reading without a hold. Only PEEK_WHOLE opens it. Not for the faultcount tier, where nothing traps. */
enum peek_verdict range_peek_begin(struct peek *peek, struct range *range, size_t offset, size_t length);
/* The same for a thread that copies the window and ends it at once, and calls nothing meanwhile. */
enum peek_verdict range_copy_begin(struct peek *peek, struct range *range, size_t offset, size_t length);
enum peek_verdict range_peek_begin_carefully(struct peek *peek, struct range *range, size_t offset, size_t length);
/* Close it; no kernel call and no lock of the range unless something is wrong. After PEEK_UNSURE it is still open. */
enum peek_verdict range_peek_end(struct peek *peek);
enum peek_verdict range_peek_end_carefully(struct peek *peek);

/* Fold in what traps noted and what is missing now; a loss found here counts like any other. */
int range_survey(struct range *range);
int range_survey_window(struct range *range, size_t offset, size_t length);
/* Which of many have to be surveyed: what small ranges that lie side by side have lost shows in one walk of the kernel's. Puts them in order of their
 * addresses; the caller counts in `users`. Of the others nothing is missing, but perhaps what they never had. */
struct suspect {
    struct range *range;
    size_t number; /* the caller's */
    bool is_suspect;
};
void range_sweep(struct suspect *suspects, size_t count);
/* Visit the lost byte ranges within [offset, offset+length) under the lock, in order; answers the generation. */
uint64_t range_lost(struct range *range, size_t offset, size_t length, os_found *found, void *context);
bool range_any_lost(struct range *range, size_t offset, size_t length);
void range_forgive(struct range *range, size_t offset, size_t length); /* rebuilt, or zeros accepted */

int range_purge(struct range *range, size_t offset, size_t length, size_t *bytes); /* EDEADLK while pinned; `bytes` went */
int range_resident(struct range *range, size_t *bytes);

bool range_is_valid(struct range *range); /* the invariants, for tests and debugging; takes the lock */

/* The trap's part: true when the access at `address` may be tried again: inside a peek, or anywhere in a range when `raw`. [signal] */
bool range_repair(uintptr_t address, bool raw);
bool range_covers(uintptr_t address); /* some range's memory, peeked at or not [signal] */

/* Every range, for watch.c: */
void range_shut_gate(void); /* and keep their list as it is */
void range_open_gate(bool in_child);
/* No trap is half done either, until the gate opens: a child copied between a trap's zero page and its note would read zeros and never know. */
void range_shut_out_traps(void);
/* Nothing watches our memory now: watch it again, or answer false. `touched`: the program may have run since the watch ended, so holes may
 * read as zeros by now. */
bool range_watch_again(bool touched);
void range_do_without_watch(void); /* from now on it is a lower tier */
/* In a forked child: what MADV_DONTFORK kept from it is mapped anew, and lost. The bad schedules without: the child touches nothing at all, or what
 * others have mapped there by then. */
void range_map_again(void);
/* RANGE_WIPE. Before: what such ranges hold, where no mark has told. After, in the child: it is lost there. */
void range_before_wipe(void);
void range_after_wipe(void);
void range_forget_other_threads(void); /* in a forked child: their peeks and calls are gone. Their pins stay, and lose nothing */

#endif
