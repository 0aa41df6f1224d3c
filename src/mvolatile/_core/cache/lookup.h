/* Between lookup.c, put.c, passing.c and memoized.c. */
#ifndef MVOLATILE_CACHE_LOOKUP_H
#define MVOLATILE_CACHE_LOOKUP_H

#include "cache/cache.h"

enum {
    BYTES,
    STR,
    PICKLE = 5 /* as in cache/values.py */
};

/* What a plain store needs; see put.c. Changed under the cache's lock. */
struct plain {
    PyObject *acquire, *release;   /* of the lock */
    PyObject *calls, *later;       /* makings under way, a dict; changes that wait for this one's end, a list */
    PyObject *weigh;               /* the overhead of a key that is neither int nor str */
    PyObject *table, *keys;        /* of the open segment */
    PyObject *full;                /* where the cache is full: put_full(key, kind, data), which makes room; NULL where it is not */
    unsigned long long number;     /* its region's */
    Py_ssize_t credit;             /* bytes, of values and overhead, that may be stored before the long way is to be gone */
    uint64_t forks;                /* when that was said */
    unsigned dear;                 /* from this class of cost on a value goes into another segment */
};

typedef struct {
    PyObject_HEAD
    PyObject *index, *tables, *engine; /* the engine: NULL until there is one */
    unsigned long long hits, misses, stores;
    double saved, spent; /* seconds of making that hits saved, and that makers took */
    Py_ssize_t nbytes, overhead; /* of all regions */
    char behind; /* the engine is asked for what is missing, too */
    char torn; /* in the middle of a change, or it was cut short there */
    struct plain plain;
} LookupObject;

typedef struct {
    PyObject_HEAD
    LookupObject *lookup;
} ReaderObject;

extern PyTypeObject *reader_type;
bool is_lookup(PyObject *object);
PyObject *find(LookupObject *self, PyObject *key); /* a new reference to the value or to `missing` */
PyObject *take_error(void); /* the exception that is set, with its traceback; a new reference, and none is set any more */

PyObject *lookup_arm(LookupObject *self, PyObject *args);
PyObject *lookup_arm_full(LookupObject *self, PyObject *args);
PyObject *lookup_disarm(LookupObject *self, PyObject *unused);
PyObject *lookup_put(LookupObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *lookup_put_laid_out(LookupObject *self, PyObject *args);
int put(LookupObject *self, PyObject *key, PyObject *value, PyObject *call, uint8_t cost); /* 1: stored; 0: the long way is to be gone; -1 with an exception set */
void plain_clear(struct plain *plain);
PyObject *lookup_enter(LookupObject *self, PyObject *const *args, Py_ssize_t count);

/* passing.c */
int make_passing_names(void);
PyObject *lookup_lives(LookupObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *lookup_visits(LookupObject *self, PyObject *key);
PyObject *lookup_emptied(LookupObject *self, PyObject *const *args, Py_ssize_t count);

#endif
