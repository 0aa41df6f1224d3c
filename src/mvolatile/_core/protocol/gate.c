/* The gate, which every operation passes and a fork shuts; and what all of them go by: the tier, and how many forks there were. */
#include "protocol/parts.h"

_Atomic enum os_tier range_tier;
_Atomic uint64_t gate_shut_by;
uint64_t gate_forks;
unsigned fork_depth;

static pthread_rwlock_t gate;

void gate_enter(void) { pthread_rwlock_rdlock(&gate); }
bool gate_try_to_enter(void) { return !pthread_rwlock_tryrdlock(&gate); }
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

void gate_shut(void) { pthread_rwlock_wrlock(&gate); }

void gate_open(bool in_child) {
    atomic_store(&gate_shut_by, 0);
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
