#include "protocol/spare.h"

#include <pthread.h>

#include "platform/apart.h"
#include "protocol/linger.h"
#include "protocol/pool.h"
#include "protocol/parts.h"
#include "protocol/residence.h"
#include "protocol/trap.h"

/* Of what stored values take, such a part; or one piece, since a full cache gives up one value for each that it stores. */
#define PART 8
#define MOST_BYTES ((size_t)32 << 20)
#define MOST 64

struct piece {
    struct block *block;
    char *base;
    size_t len, counted;
    unsigned options;
    bool huge, may_collapse;
    int64_t held_since; /* 0: it is marked */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* before the pool's */
static struct piece pieces[MOST]; /* the oldest first */
static size_t count, kept;
static _Atomic size_t stored;

void spare_count_stored(size_t bytes) { atomic_fetch_add(&stored, bytes); }
void spare_count_closed(size_t bytes) { atomic_fetch_sub(&stored, bytes); }

static struct piece remove_piece(size_t at) {
    struct piece piece = pieces[at];
    for (count--; at < count; at++) pieces[at] = pieces[at + 1];
    kept -= piece.len;
    if (piece.held_since) linger_discount(piece.len);
    return piece;
}

static void give_back(size_t at) {
    struct piece piece = remove_piece(at);
    pool_give(piece.block, piece.base, piece.len);
    residence_leave(piece.counted);
}

static bool is_too_much(size_t more) {
    size_t most = atomic_load(&stored) / PART;
    return count == MOST || kept + more > (most < MOST_BYTES ? most : MOST_BYTES);
}

/* What was refused to be marked would stay; what nobody watches would be read as zeros by who scans it. */
static bool is_fit(struct range *range, bool held) {
    return range_tier == OS_TIER_USERFAULTFD && (range->marked || held) && range->watched && !range->refusal && range->mapped <= MOST_BYTES;
}

bool spare_keep(struct range *range, bool held) {
    if (!is_fit(range, held)) return false;
    if (held && !linger_count(range->mapped)) {
        if (os_free_lazily(range->base, range->mapped)) return false;
        held = false;
    }
    pool_hand_over(range->block, range->base, NULL);
    if (!range->small) os_name(range->base, range->mapped, "mvolatile:spare");
    pthread_mutex_lock(&lock);
    while (count && is_too_much(range->mapped)) give_back(0);
    pieces[count++] = (struct piece){range->block, range->base, range->mapped, atomic_exchange(&range->counted, 0),
                                     range->options, range->huge, range->may_collapse, held ? os_now() : 0};
    kept += range->mapped;
    pthread_mutex_unlock(&lock);
    return true;
}

/* A slot of the same size class serves; a mapping of the same length. */
static bool serves(const struct piece *piece, const struct range *range) {
    if (piece->options != range->options || piece->huge != range->huge) return false;
    return range->small ? pool_fits_slot(piece->block, range->mapped) : piece->len == range->mapped;
}

/* Of a slot the last owner may have filled less. */
static bool is_whole(const struct piece *piece, const struct range *range) { return piece->held_since && piece->len >= range->mapped; }

/* A thread whose traps would kill gets only what is held and all there: nothing of it can go before it is marked. To ask whether they would is two
 * system calls, of which the store of a value into memory that lingered needs none. */
static bool take_piece(const struct range *range, struct piece *piece) {
    bool found = false;
    pthread_mutex_lock(&lock);
    for (size_t i = count; i-- && !found;) { /* the newest: its pages are the likeliest to be there */
        found = serves(&pieces[i], range) && (is_whole(&pieces[i], range) || trap_catches());
        if (found) *piece = remove_piece(i);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

bool spare_take(struct range *range) {
    struct piece piece;
    if (!take_piece(range, &piece)) return false;
    /* What the new owner does not reach is the last one's, and nobody would ask for it or give it back. */
    if (piece.len > range->mapped && os_discard(piece.base + range->mapped, piece.len - range->mapped)) {
        pool_give(piece.block, piece.base, piece.len); /* it is locked: see there */
        residence_leave(piece.counted);
        return false;
    }
    range->block = piece.block;
    range->base = piece.base;
    range->may_collapse = piece.may_collapse;
    atomic_store(&range->counted, piece.counted);
    if (piece.counted > range->mapped) residence_count(range, range->mapped);
    range->marked = !is_whole(&piece, range);
    range->watched = true;
    pool_hand_over(piece.block, piece.base, range);
    return true;
}

size_t spare_give_back_oldest(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = count ? pieces[0].len : 0;
    if (bytes) give_back(0);
    pthread_mutex_unlock(&lock);
    return bytes;
}

bool spare_give_back(void) {
    pthread_mutex_lock(&lock);
    bool any = count > 0;
    while (count) give_back(count - 1);
    pthread_mutex_unlock(&lock);
    return any;
}

void spare_mark(int64_t since) {
    pthread_mutex_lock(&lock);
    for (size_t i = count; i--;) {
        struct piece *piece = &pieces[i];
        if (!piece->held_since || piece->held_since > since) continue;
        if (os_free_lazily(piece->base, piece->len)) {
            give_back(i);
        } else {
            linger_discount(piece->len);
            piece->held_since = 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

size_t spare_bytes(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = kept;
    pthread_mutex_unlock(&lock);
    return bytes;
}

bool range_give_back_kept(void) {
    gate_enter();
    bool any = spare_give_back();
    gate_leave();
    return any;
}
