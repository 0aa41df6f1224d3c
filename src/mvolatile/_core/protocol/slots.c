/* slots.h tells what holds. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "platform/shared.h"
#include "platform/stream.h"
#include "protocol/slots.h"

#define NEVER_USED 0
#define DELETED 1
#define ADDRESS_BITS 56
#define COST_AT 40
#define KEY_LENGTH_AT 48
#define LOOKS 2000 /* at a slot that is being written. Its writer needs nanoseconds, or was killed */
#define YIELDS 20

/* ---- hashing: SipHash-1-3 --------------------------------------------------------------------------------------------------------- */

static inline uint64_t turn(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void round_of(uint64_t v[4]) {
    v[0] += v[1], v[1] = turn(v[1], 13) ^ v[0], v[0] = turn(v[0], 32);
    v[2] += v[3], v[3] = turn(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = turn(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = turn(v[1], 17) ^ v[2], v[2] = turn(v[2], 32);
}

uint64_t slots_hash(const struct slots *slots, const void *key, size_t length) {
    const uint64_t *secret = slots->header->hash_key;
    const unsigned char *at = key;
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575, secret[1] ^ 0x646f72616e646f6d, secret[0] ^ 0x6c7967656e657261,
                     secret[1] ^ 0x7465646279746573};
    for (size_t left = length;; at += 8, left -= 8) {
        uint64_t word = 0;
        memcpy(&word, at, left < 8 ? left : 8);
        if (left < 8) word |= (uint64_t)length << 56;
        v[3] ^= word;
        round_of(v);
        v[0] ^= word;
        if (left < 8) break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) round_of(v);
    uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return hash > DELETED ? hash : hash + 2;
}

size_t slots_bytes(uint64_t capacity) { return SLOTS_HEADER + capacity * sizeof(struct slot); }

/* ---- reading ---------------------------------------------------------------------------------------------------------------------- */

static inline uint64_t relaxed(const _Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }

static void take_words(const struct slot *slot, struct found *found) {
    uint64_t address = relaxed(&slot->address), length = relaxed(&slot->length), expires = relaxed(&slot->expires);
    found->hash = relaxed(&slot->hash);
    found->address = address & ((1ULL << ADDRESS_BITS) - 1);
    found->kind = (uint8_t)(address >> ADDRESS_BITS);
    found->length = length & LONGEST_VALUE;
    found->cost = (uint8_t)(length >> COST_AT);
    found->key_length = (uint16_t)(length >> KEY_LENGTH_AT);
    memcpy(&found->expires, &expires, sizeof expires);
}

static bool has_moved(const struct slots *slots) { return atomic_load_explicit(&slots->header->moved, memory_order_acquire); }

bool slots_stand(const struct slots *slots, const struct found *found) {
    atomic_thread_fence(memory_order_acquire);
    return relaxed(&slots->slot[found->index].version) == found->version && !has_moved(slots);
}

bool slots_take(const struct slots *slots, uint64_t index, struct found *found) {
    const struct slot *slot = &slots->slot[index];
    found->index = index;
    found->version = atomic_load_explicit(&slot->version, memory_order_acquire);
    take_words(slot, found);
    return !(found->version & 1) && found->hash > DELETED && slots_stand(slots, found);
}

enum answer slots_find(const struct slots *slots, uint64_t hash, double now, struct found *found) {
    if (has_moved(slots)) return SLOT_MOVED;
    uint64_t index = hash & slots->mask;
    for (uint64_t passed = 0; passed <= slots->mask; passed++, index = (index + 1) & slots->mask) {
        const struct slot *slot = &slots->slot[index];
        for (unsigned looks = 0;; looks++) {
            found->index = index;
            found->version = atomic_load_explicit(&slot->version, memory_order_acquire);
            take_words(slot, found);
            if (!(found->version & 1) && (found->hash != hash || slots_stand(slots, found))) break;
            if (has_moved(slots)) return SLOT_MOVED;
            if (looks >= LOOKS + YIELDS) return SLOT_BUSY;
            if (looks >= LOOKS) (void)sched_yield();
        }
        if (found->hash == NEVER_USED) return SLOT_MISS;
        if (found->hash == hash) return found->expires != 0 && now >= found->expires ? SLOT_MISS : SLOT_FOUND;
    }
    return SLOT_MISS;
}

/* ---- records ---------------------------------------------------------------------------------------------------------------------- */

enum piece {
    STAMP,
    KEY,
    VALUE
};

/* A walk over the pieces of a record, in the order in which they lie. */
struct walk {
    uintptr_t at;
    uint64_t done; /* of key and value */
};

static size_t next_piece(const struct slots *slots, const struct found *found, struct walk *walk, enum piece *what, uint64_t *offset) {
    size_t page = slots->header->page_size, size;
    if (walk->at == found->address || (slots->header->stamped && !(walk->at % page))) {
        *what = STAMP;
        walk->at += sizeof(uint64_t);
        return sizeof(uint64_t);
    }
    uint64_t end = found->key_length;
    *what = walk->done < end ? KEY : VALUE;
    *offset = *what == KEY ? walk->done : walk->done - end;
    if (*what == VALUE) end += found->length;
    size = end - walk->done;
    size_t most = slots->header->stamped ? page - walk->at % page : (size_t)1 << 30; /* one call copies less than 2 GiB */
    if (size > most) size = most;
    walk->at += size;
    walk->done += size;
    return size;
}

static bool at_end(const struct found *found, const struct walk *walk) {
    return walk->at != found->address && walk->done == found->key_length + found->length;
}

/* Not 0, which a purged page may read as: the nonce has the highest bit, and no version has. */
static uint64_t stamp_of(const struct slots *slots, const struct found *found) { return slots->header->nonce ^ found->version; }

static enum answer answer_to(int err) {
    switch (err) {
    case 0: return SLOT_FOUND;
    case EFAULT:
    case ENOMEM: return SLOT_PURGED;
    case ESRCH: return SLOT_GONE;
    default: return SLOT_REFUSED;
    }
}

#define MOST_PIECES 1024 /* IOV_MAX */

static enum answer check_stamps(const uint64_t *stamps, size_t count, uint64_t right) {
    for (size_t i = 0; i < count; i++)
        if (stamps[i] != right) return stamps[i] ? SLOT_GONE : SLOT_PURGED; /* another's memory, or a newer record's: slots_stand() knows */
    return SLOT_FOUND;
}

enum answer record_copy(const struct slots *slots, pid_t pid, const struct found *found, char *key, char *value) {
    struct iovec local[MOST_PIECES];
    uint64_t stamps[MOST_PIECES];
    struct walk walk = {found->address, 0};
    while (!at_end(found, &walk)) {
        size_t count = 0, stamped = 0;
        uintptr_t from = walk.at;
        while (count < MOST_PIECES && !at_end(found, &walk) && walk.at - from < (size_t)1 << 30) {
            enum piece what;
            uint64_t offset = 0;
            size_t size = next_piece(slots, found, &walk, &what, &offset);
            void *to = what == STAMP ? (char *)&stamps[stamped++] : what == KEY ? key + offset
                                                                                : value + offset;
            local[count++] = (struct iovec){to, size};
        }
        enum answer answer = answer_to(os_copy_from(pid, local, count, from, walk.at - from));
        if (answer == SLOT_FOUND) answer = check_stamps(stamps, stamped, stamp_of(slots, found));
        if (answer != SLOT_FOUND) return answer;
    }
    return SLOT_FOUND;
}

enum answer record_probe(const struct slots *slots, pid_t pid, const struct found *found, char *key) {
    struct found first = *found;
    first.length = 0;
    enum answer answer = record_copy(slots, pid, &first, key, NULL);
    size_t page = slots->header->page_size;
    uintptr_t at = (found->address / page + 1) * page, end = found->address + record_bytes(slots, found);
    struct iovec pieces[MOST_PIECES];
    uint64_t words[MOST_PIECES];
    while (answer == SLOT_FOUND && at < end) {
        size_t count = 0;
        for (; count < MOST_PIECES && at < end; at += page) pieces[count++] = (struct iovec){(void *)at, sizeof *words};
        answer = answer_to(os_gather_from(pid, words, pieces, count, count * sizeof *words));
        if (answer == SLOT_FOUND && slots->header->stamped) answer = check_stamps(words, count, stamp_of(slots, found));
    }
    return answer;
}

size_t record_bytes(const struct slots *slots, const struct found *found) {
    size_t page = slots->header->page_size, payload = found->key_length + found->length;
    size_t first = page - found->address % page - sizeof(uint64_t);
    if (!slots->header->stamped || payload <= first) return sizeof(uint64_t) + payload;
    size_t rest = payload - first, room = page - sizeof(uint64_t);
    return sizeof(uint64_t) + payload + (rest + room - 1) / room * sizeof(uint64_t);
}

static int read_file(int fd, struct iovec *pieces, size_t count, uint64_t offset) {
    while (count) {
        ssize_t got = preadv(fd, pieces, (int)count, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got < 0 ? errno : EIO;
        offset += (uint64_t)got;
        for (; count && (size_t)got >= pieces->iov_len; pieces++, count--) got -= (ssize_t)pieces->iov_len;
        if (count) pieces->iov_base = (char *)pieces->iov_base + got, pieces->iov_len -= (size_t)got;
    }
    return 0;
}

int record_write(const struct slots *slots, const struct found *found, const char *key, const char *value, int fd) {
    struct iovec pieces[MOST_PIECES];
    struct walk walk = {found->address, 0};
    uint64_t stamp = stamp_of(slots, found), offset = 0, begun = 0;
    size_t count = 0;
    int err = 0;
    while (!err && !at_end(found, &walk)) {
        char *to = (char *)walk.at;
        enum piece what;
        size_t size = next_piece(slots, found, &walk, &what, &offset);
        if (what == STAMP) memcpy(to, &stamp, size);
        else if (what == KEY) memcpy(to, key + offset, size);
        else if (value) stream_copy(to, value + offset, size);
        else {
            if (!count) begun = offset;
            pieces[count++] = (struct iovec){to, size};
        }
        if (count && (count == MOST_PIECES || at_end(found, &walk))) {
            err = read_file(fd, pieces, count, begun);
            count = 0;
        }
    }
    return err;
}

/* ---- the keeper's changes --------------------------------------------------------------------------------------------------------- */

static void write_words(struct slot *slot, uint64_t hash, uint64_t address, uint64_t length, double expires, uint64_t version) {
    uint64_t bits;
    memcpy(&bits, &expires, sizeof bits);
    atomic_store_explicit(&slot->version, version | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&slot->hash, hash, memory_order_relaxed);
    atomic_store_explicit(&slot->address, address, memory_order_relaxed);
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&slot->expires, bits, memory_order_relaxed);
    atomic_store_explicit(&slot->version, version, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* before memory is used anew, and before the answer */
}

static void count(_Atomic uint64_t *counter, int64_t change) {
    atomic_store_explicit(counter, relaxed(counter) + (uint64_t)change, memory_order_relaxed);
}

uint64_t slots_put(struct slots *slots, const struct found *found) {
    uint64_t index = found->hash & slots->mask, free_one = UINT64_MAX, hash;
    for (;; index = (index + 1) & slots->mask) {
        hash = relaxed(&slots->slot[index].hash);
        if (hash == found->hash || hash == NEVER_USED) break;
        if (hash == DELETED && free_one == UINT64_MAX) free_one = index;
    }
    if (hash != found->hash) {
        if (free_one != UINT64_MAX) index = free_one;
        else count(&slots->header->filled, 1);
        count(&slots->header->used, 1);
    }
    write_words(&slots->slot[index], found->hash, (uint64_t)found->address | (uint64_t)found->kind << ADDRESS_BITS,
                found->length | (uint64_t)found->cost << COST_AT | (uint64_t)found->key_length << KEY_LENGTH_AT, found->expires, found->version);
    return index;
}

/* The version stays the next one's to tell apart: an even one that no record has, since each store takes a new one. */
void slots_remove(struct slots *slots, uint64_t index) {
    struct slot *slot = &slots->slot[index];
    write_words(slot, DELETED, 0, 0, 0, 0);
    count(&slots->header->used, -1);
}

void slots_clear(struct slots *slots) {
    for (uint64_t i = 0; i <= slots->mask; i++)
        if (relaxed(&slots->slot[i].hash) != NEVER_USED) write_words(&slots->slot[i], NEVER_USED, 0, 0, 0, 0);
    atomic_store_explicit(&slots->header->used, 0, memory_order_relaxed);
    atomic_store_explicit(&slots->header->filled, 0, memory_order_relaxed);
}

void slots_expire(struct slots *slots, uint64_t index, double expires) {
    uint64_t bits;
    memcpy(&bits, &expires, sizeof bits);
    atomic_store_explicit(&slots->slot[index].expires, bits, memory_order_seq_cst);
}
