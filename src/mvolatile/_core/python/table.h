/* Between table.c and slot_index.c. */
#ifndef MVOLATILE_PYTHON_TABLE_H
#define MVOLATILE_PYTHON_TABLE_H

#include "python/python.h"

#include "platform/shared.h"
#include "protocol/slots.h"

#define HINTS_HEADER 64

typedef struct {
    PyObject_HEAD
    struct slots slots;
    pid_t pid; /* the keeper */
    /* of a client: */
    PyObject *encode, *allocate;
    double ahead; /* the keeper's clock, where it has another time namespace */
    unsigned char *hints;
    size_t hints_mapped;
} TableObject;

/* What the keeper may read in each client's hints, before a byte a slot. They are counts of one process, and may lose some. */
struct hints_header {
    _Atomic uint64_t hits, misses, purged;
    _Atomic double saved; /* seconds of making */
};

/* A hint is the uses of a slot since the keeper forgot them. Threads of the client and the keeper write to it without a word; some are lost. */
#define MOST_USES 255
static inline unsigned hint_read(const unsigned char *hint) { return __atomic_load_n(hint, __ATOMIC_RELAXED); }
static inline void hint_write(unsigned char *hint, unsigned uses) { __atomic_store_n(hint, (unsigned char)uses, __ATOMIC_RELAXED); }
static inline void hint_use(unsigned char *hint) {
    unsigned uses = hint_read(hint);
    if (uses < MOST_USES) hint_write(hint, uses + 1);
}

int table_open_slots(struct slots *slots, int fd, size_t nbytes, bool write);
TableObject *table_alloc(PyTypeObject *type);
void table_dealloc(TableObject *self);
PyObject *table_get_capacity(TableObject *self, void *unused);
PyObject *table_get_used(TableObject *self, void *unused);
PyObject *table_get_filled(TableObject *self, void *unused);

extern PyType_Spec table_spec, slot_index_spec, hints_spec;

#endif
