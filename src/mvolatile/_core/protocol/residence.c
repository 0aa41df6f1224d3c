#include "protocol/residence.h"

#include "protocol/range.h"

_Atomic size_t residence_limit = SIZE_MAX, residence_total;

static _Atomic uint64_t last_touch;

void residence_count(struct range *range, size_t bytes) {
    size_t before = atomic_exchange(&range->counted, bytes);
    atomic_fetch_add(&residence_total, bytes - before); /* also where that is less than nothing */
}

void residence_leave(size_t bytes) { atomic_fetch_sub(&residence_total, bytes); }

void residence_touch(struct range *range) {
    atomic_store_explicit(&range->touched, atomic_fetch_add_explicit(&last_touch, 1, memory_order_relaxed), memory_order_relaxed);
}
