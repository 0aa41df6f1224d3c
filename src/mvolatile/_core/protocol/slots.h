/* The slot table of a shared cache, and the records that it tells of: the keeper writes, others read while it does. Nothing of Python.
 *
 * The keeper's side of a store: write the record into memory that no slot points to; slots_put(); answer; only then touch what the slot
 * pointed to before. A version is even, grows with each store, and is never used twice, so a reader that finds it unchanged after its copy
 * has what belongs to it. It is odd while the other words are written. docs/shared.md has the schedules. */
#ifndef MVOLATILE_PROTOCOL_SLOTS_H
#define MVOLATILE_PROTOCOL_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SLOTS_MAGIC 0x32736c6f76766dULL /* "mvvols2" */
#define SLOTS_HEADER 4096
#define LONGEST_KEY 0xffff
#define LONGEST_VALUE ((1ULL << 40) - 1)

struct slot {
    _Atomic uint64_t version;
    _Atomic uint64_t hash;    /* 0: never used, where a search ends; 1: deleted */
    _Atomic uint64_t address; /* and the kind in the uppermost byte */
    _Atomic uint64_t length;  /* 40 bits; then the class of what it took to make; the key's in the upper two bytes */
    _Atomic uint64_t expires; /* a double, of os_boot_seconds(); 0: never */
};

struct slots_header {
    uint64_t magic, capacity, nonce, hash_key[2], stamped, page_size; /* `stamped`: each page of a record begins with the stamp */
    _Atomic uint64_t moved; /* there is a newer table, and this one tells nothing any more */
    _Atomic uint64_t used, filled; /* slots; `filled` has the deleted ones, too */
};

struct slots {
    struct slots_header *header;
    struct slot *slot;
    uint64_t mask;
    size_t mapped;
};

struct found {
    uint64_t index, version, hash, length;
    uintptr_t address;
    double expires;
    uint16_t key_length;
    uint8_t kind, cost;
};

enum answer {
    SLOT_FOUND,
    SLOT_MISS,
    SLOT_MOVED,
    SLOT_GONE,
    SLOT_REFUSED,
    SLOT_PURGED,
    SLOT_BUSY
};

uint64_t slots_hash(const struct slots *slots, const void *key, size_t length); /* keyed; never 0 or 1 */
size_t slots_bytes(uint64_t capacity);

/* Of a reader, who is never made to wait: */
enum answer slots_find(const struct slots *slots, uint64_t hash, double now, struct found *found); /* SLOT_FOUND, SLOT_MISS, SLOT_MOVED, SLOT_BUSY */
bool slots_take(const struct slots *slots, uint64_t index, struct found *found); /* false: it is empty, or being written */
bool slots_stand(const struct slots *slots, const struct found *found); /* what was found was so all the while until now */
/* Copies key and value. SLOT_FOUND is to be believed once slots_stand(); so is SLOT_PURGED. */
enum answer record_copy(const struct slots *slots, pid_t pid, const struct found *found, char *key, char *value);
enum answer record_probe(const struct slots *slots, pid_t pid, const struct found *found, char *key); /* all pages are there */

/* Of the keeper: */
uint64_t slots_put(struct slots *slots, const struct found *found); /* over an older one of the hash; answers the index */
void slots_remove(struct slots *slots, uint64_t index);
void slots_clear(struct slots *slots);
void slots_expire(struct slots *slots, uint64_t index, double expires);
size_t record_bytes(const struct slots *slots, const struct found *found); /* what it takes at its address */
/* Lays the record out; the value comes from `value`, or from the file. 0 or an errno; EIO: the file is too short. */
int record_write(const struct slots *slots, const struct found *found, const char *key, const char *value, int fd);

#endif
