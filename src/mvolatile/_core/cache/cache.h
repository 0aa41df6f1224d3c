/* Between the files of a cache's hit. */
#ifndef MVOLATILE_CACHE_CACHE_H
#define MVOLATILE_CACHE_CACHE_H

#include "python/python.h"

int add_lookup_types(PyObject *module); /* and those of the other files here */

#define KIND_BITS 4
#define NUMBER_SHIFT 21
#define SLOTS (1 << (NUMBER_SHIFT - KIND_BITS)) /* of a segment: who has more would reach into the next one's numbers */

/* slot_table.c */
extern PyTypeObject *slot_table_type;
int add_slot_table_type(PyObject *module);
/* Whether n bytes may be appended now, where there are `count` slots; append them. Whether it stays as it is without a slot's value; the value is dead. */
bool slot_table_fits(PyObject *table, Py_ssize_t n, Py_ssize_t count);
bool slot_table_append(PyObject *table, const char *data, Py_ssize_t n, uint8_t visits, uint8_t cost, Py_ssize_t overhead,
                       uint32_t *slot);
bool slot_table_may_lose(PyObject *table, uint32_t slot);
void slot_table_lose(PyObject *table, uint32_t slot);
/* Where a slot ends, and the overhead of all; false if there is no such slot. */
bool slot_table_end(PyObject *table, Py_ssize_t slot, Py_ssize_t *end, Py_ssize_t *overhead);
/* By value: in two registers, where an address to write the cost to was a hundredth of a hit. */
struct found {
    PyObject *bytes; /* a new reference; NULL, with or without an exception, if that is not so simple */
    unsigned cost;   /* its class */
};
struct found slot_table_read(PyObject *table, uint32_t slot); /* counts a visit */

/* one_value.c */
struct one_value { /* all are Python's, too, which says when they change: under the cache's lock, but for read_since, of which a reader may lose one */
    Py_ssize_t number, queue, used, read_since, took;
};
int add_one_value_type(PyObject *module);
struct one_value *one_value_of(PyObject *region); /* NULL where it is another kind of region */

extern PyObject *missing;
int add_missing(PyObject *module);

/* memoized.c, tinylfu.c */
int add_memoized_type(PyObject *module); /* after lookup.c's */
int add_tinylfu_types(PyObject *module); /* and the types of sketch.c and miniatures.c */

/* index.c. Found values are new references; NULL with or without an exception. */
int add_index_type(PyObject *module);
PyObject *index_make(void);
PyObject *find_in_index(PyObject *index, PyObject *key);
PyObject *find_in_dict(PyObject *dictionary, PyObject *key);
bool only_the_keys_fault(void); /* of an exception that is set: then it is none any more */

#endif
