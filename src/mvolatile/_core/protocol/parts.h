/* Between the files of the protocol; nothing here is for others. */
#ifndef MVOLATILE_PROTOCOL_PARTS_H
#define MVOLATILE_PROTOCOL_PARTS_H

#include "protocol/gate.h"
#include "protocol/range.h"

static inline size_t page_down(size_t at) { return at & ~(os_page_size - 1); }
static inline size_t page_up(size_t at) { return page_down(at + os_page_size - 1); }

/* Not pointer arithmetic: the raw range begins at address 0. */
static inline char *at_offset(struct range *range, size_t offset) { return (char *)((uintptr_t)range->base + offset); }

/* gate.c */
void range_enter(struct range *range); /* the gate, then the range's lock */
void range_leave(struct range *range);

/* ranges.c */
struct range *ranges_take(void); /* one to open: a new one or a spare one, in no list; or NULL */
void ranges_give(struct range *range);
void ranges_enlist(struct range *range);
void ranges_delist(struct range *range);
void ranges_visit(void (*visit)(struct range *, void *), void *context); /* the newest first; it may take no lock but by trying */

/* loss.c; under the range's lock */
void loss_fold_notes(struct range *range);
bool loss_take_notes(struct range *range); /* the same, without counting it as a loss; whether there was any */
int loss_find_missing(struct range *range, size_t start, size_t end, bool zeroed, bool *any);
void loss_record_all(struct range *range, size_t start, size_t end);
void loss_take_stock(struct range *range, size_t start, size_t end); /* where nothing watched it: what cannot be told counts as lost */
void loss_fill_unwatched(struct range *range, size_t start, size_t end); /* or what is lost would trap under a pin, and nobody repair it */

/* hold.c; under the range's lock */
int hold_all(struct range *range); /* for a pin: nothing of the range is volatile afterwards */
int hold_part(struct range *range, size_t start, size_t end);
int mark(struct range *range);
int forbid_collapse(struct range *range);
void mark_what_collapsed(struct range *range);
void hold_allow_huge(struct range *range); /* in what of it is lost and not watched */
int note_data(struct range *range); /* nothing of it is volatile: sets `data` to what holds bytes now */
/* In a forked child: a mapping that has never held data comes without page tables there, so the zero pages of what was never written are
 * holes. Put them in again, before the holes are watched. */
void fill_never_written(struct range *range, size_t start, size_t end);

/* survey.c; under the range's lock */
void range_take_back(struct range *range, size_t nbytes); /* about so many bytes of it, if it is volatile; and count what is left */
void range_recount(struct range *range);

/* store.c; takes the range's lock. All of it, for the one that knows it */
enum beginning {
    BEGINS_ORDINARY, /* nothing of it is volatile, and a touch fills what is missing */
    BEGINS_MISSING,  /* watched, and all of it is missing */
    BEGINS_KEPT,     /* watched and volatile; what is there and what is missing nobody knows */
    BEGINS_HELD,     /* watched, all there, and not volatile: its last owner lingered */
};
int store_parts(struct range *range, const struct part *parts, size_t count, enum beginning beginning);
int mark_stored(struct range *range, bool touching); /* `touching`: traps of this thread are repaired */

/* peeks.c */
void peek_open(struct peek *peek);
void peek_open_copy(struct peek *peek); /* of a thread that closes it at once */
void peek_close(struct peek *peek);
void peek_lock_all(void); /* over a fork */
void peek_unlock_all(void);
void peek_keep_only(uint64_t thread); /* in the child the other threads' peeks are gone */

/* repair.c */
extern _Atomic bool raw_repaired; /* a trap has filled a page that raw.c marked, so a zero page may stand for a purged one */

/* marked.c; under raw_lock() */
extern struct range raw_range; /* it begins at address 0: its `data` and `lost` are sets of addresses. hold.c and loss.c work on it as on any */
extern struct extents raw_marked;
void raw_set_up(void);
bool raw_next_unmarked(uintptr_t start, uintptr_t end, struct extent *out); /* the first part of [start, end) that is not marked */
void raw_forget_if_mapped_anew(void *context, uintptr_t start, uintptr_t end);
void raw_forget_behind(uintptr_t end);

#endif
