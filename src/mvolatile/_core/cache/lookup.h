/* Between lookup.c and put.c. */
#ifndef MVOLATILE_CACHE_LOOKUP_H
#define MVOLATILE_CACHE_LOOKUP_H

#include "cache/cache.h"

#define KIND_BITS 4
#define NUMBER_SHIFT 21
#define SLOTS (1u << (NUMBER_SHIFT - KIND_BITS))
enum {
    BYTES,
    STR
};

/* What a plain store needs; see put.c. Changed under the cache's lock. */
struct plain {
    PyObject *acquire, *release;   /* of the lock */
    PyObject *calls, *later;       /* makings under way, a dict; changes that wait for this one's end, a list */
    PyObject *weigh;               /* the overhead of a key that is neither int nor str */
    PyObject *table, *keys;        /* of the open segment */
    unsigned long long number;     /* its region's */
    Py_ssize_t credit;             /* bytes, of values and overhead, that may be stored before the long way is to be gone */
    uint64_t forks;                /* when that was said */
};

typedef struct {
    PyObject_HEAD
    PyObject *index, *tables, *engine; /* the engine: NULL until there is one */
    unsigned long long hits, misses;
    Py_ssize_t nbytes, overhead; /* of all regions */
    char behind; /* the engine is asked for what is missing, too */
    char torn; /* in the middle of a change, or it was cut short there */
    struct plain plain;
} LookupObject;

PyObject *lookup_arm(LookupObject *self, PyObject *args);
PyObject *lookup_disarm(LookupObject *self, PyObject *unused);
PyObject *lookup_put(LookupObject *self, PyObject *const *args, Py_ssize_t count);
int put(LookupObject *self, PyObject *key, PyObject *value, PyObject *call); /* 1: stored; 0: the long way is to be gone; -1 with an exception set */
void plain_clear(struct plain *plain);

#endif
