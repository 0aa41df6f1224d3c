#include "protocol/linger.h"

#include <pthread.h>

#include "platform/apart.h"
#include "protocol/parts.h"
#include "protocol/residence.h"

#define RECENT (2 * LINGER_PERIOD) /* what was used so shortly before is in use: it will be held again, and need not be marked in between */
#define CALM 1000000000            /* after pressure */
#define TRY_AGAIN 10000000000      /* after a thread was refused */
#define IDLE_TIME 1000000000       /* then the marker ends */

enum {
    NONE,
    IDLE,
    BUSY
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* innermost */
static struct range *newest, *oldest;
static size_t ranges, held;      /* on the list; bytes that are held for it, or for spare.c */
static _Atomic uint32_t marker;  /* changes under the lock; sleeps on it while it is IDLE */
static _Atomic uint32_t pressed; /* the marker naps on it while it is BUSY */
static _Atomic size_t most;
static _Atomic int forbidden;
static _Atomic int64_t not_before; /* nothing begins to linger */
static void (*work)(void *);

void linger_worked_by(void (*run)(void *)) { work = run; }
void linger_allow(size_t bytes) { atomic_store(&most, bytes); }
void linger_forbid(bool more) { atomic_fetch_add(&forbidden, more ? 1 : -1); }

void linger_press(void) {
    atomic_store(&not_before, os_now() + CALM);
    atomic_store(&pressed, 1);
    os_wake(&pressed);
}

size_t linger_bytes(void) {
    pthread_mutex_lock(&lock);
    size_t bytes = held;
    pthread_mutex_unlock(&lock);
    return bytes;
}

/* ---- under the lock ----------------------------------------------------------------------------------------------------------------- */

/* Whether somebody will see to what lingers. */
static bool have_marker(int64_t now) {
    if (marker == BUSY) return true;
    uint32_t before = atomic_exchange(&marker, BUSY);
    if (before == IDLE) {
        os_wake(&marker);
    } else if (!work || os_apart(work, NULL)) {
        marker = NONE;
        atomic_store(&not_before, now + TRY_AGAIN);
    }
    return marker == BUSY;
}

/* What lingers cannot be given back for others, so it is a small part of what there may be. */
static size_t may_hold(void) {
    size_t part = atomic_load(&residence_limit) / 8, allowed = atomic_load(&most);
    return part < allowed ? part : allowed;
}

static bool count(size_t bytes, int64_t now) {
    if (now < atomic_load(&not_before) || atomic_load(&forbidden) || held + bytes > may_hold() || !have_marker(now)) return false;
    held += bytes;
    return true;
}

static void push(struct range *range) {
    range->linger_prev = NULL;
    range->linger_next = newest;
    if (newest)
        newest->linger_prev = range;
    else
        oldest = range;
    newest = range;
    ranges++;
}

static void drop(struct range *range) {
    if (range->linger_next)
        range->linger_next->linger_prev = range->linger_prev;
    else
        oldest = range->linger_prev;
    if (range->linger_prev)
        range->linger_prev->linger_next = range->linger_next;
    else
        newest = range->linger_next;
    ranges--;
}

/* ---- ranges ------------------------------------------------------------------------------------------------------------------------- */

bool linger_count(size_t bytes) {
    pthread_mutex_lock(&lock);
    bool counted = count(bytes, os_now());
    pthread_mutex_unlock(&lock);
    return counted;
}

void linger_discount(size_t bytes) {
    pthread_mutex_lock(&lock);
    held -= bytes;
    pthread_mutex_unlock(&lock);
}

static bool begin(struct range *range, int64_t now) {
    pthread_mutex_lock(&lock);
    range->lingers = count(range->mapped, now);
    if (range->lingers) push(range);
    pthread_mutex_unlock(&lock);
    return range->lingers;
}

/* All of it is there. And its mark will be one system call: what else may be refused, such as to split a mapping, somebody waits to hear. */
static bool is_fit(struct range *range) {
    return range->watched && !range->may_collapse && !range->refusal && !range->lost.count && !atomic_load(&range->notes);
}

/* Only what is read again and again: to wake the marker costs more than one mark. */
bool linger_after_use(struct range *range) {
    if (!range->stored) return false;
    int64_t now = os_now(), before = atomic_exchange(&range->used, now);
    return range->lingers || (now - before < RECENT && is_fit(range) && begin(range, now));
}

bool linger_after_store(struct range *range) {
    int64_t now = os_now();
    atomic_store(&range->used, now);
    return is_fit(range) && begin(range, now);
}

void linger_no_more(struct range *range) {
    if (!range->lingers) return;
    pthread_mutex_lock(&lock);
    drop(range);
    held -= range->mapped;
    range->lingers = false;
    pthread_mutex_unlock(&lock);
}

/* ---- the marker --------------------------------------------------------------------------------------------------------------------- */

struct range *linger_next(void) {
    pthread_mutex_lock(&lock);
    struct range *range = oldest;
    if (range) {
        drop(range);
        push(range);
    }
    pthread_mutex_unlock(&lock);
    return range;
}

size_t linger_count_ranges(void) {
    pthread_mutex_lock(&lock);
    size_t found = ranges;
    pthread_mutex_unlock(&lock);
    return found;
}

bool linger_nap(void) {
    (void)os_sleep_while(&pressed, 0, LINGER_PERIOD);
    return atomic_exchange(&pressed, 0);
}

bool linger_rests(void) {
    pthread_mutex_lock(&lock);
    if (!held) marker = IDLE;
    bool rests = !held;
    pthread_mutex_unlock(&lock);
    return rests;
}

void linger_sleep(void) {
    while (marker == IDLE && !os_sleep_while(&marker, IDLE, IDLE_TIME)) continue;
}

bool linger_is_over(void) {
    pthread_mutex_lock(&lock);
    bool over = marker == IDLE;
    if (over) marker = NONE;
    pthread_mutex_unlock(&lock);
    return over;
}

void linger_in_child(void) {
    atomic_store(&marker, NONE);
    atomic_store(&pressed, 0);
    atomic_store(&most, 0); /* nobody tells of pressure there yet */
}
