/* Between the files of a cache's hit. */
#ifndef MVOLATILE_CACHE_CACHE_H
#define MVOLATILE_CACHE_CACHE_H

#include "python/python.h"

int add_lookup_types(PyObject *module); /* and those of the other files here */

/* slot_table.c */
extern PyTypeObject *slot_table_type;
int add_slot_table_type(PyObject *module);
/* Whether n bytes may be appended now, where there are `count` slots; append them. Whether it stays as it is without a slot's value; the value is dead. */
bool slot_table_fits(PyObject *table, Py_ssize_t n, Py_ssize_t count);
bool slot_table_append(PyObject *table, const char *data, Py_ssize_t n, uint8_t cost, Py_ssize_t overhead, uint32_t *slot);
bool slot_table_may_lose(PyObject *table, uint32_t slot);
void slot_table_lose(PyObject *table, uint32_t slot);
/* Its bytes and its cost, and a visit counted; NULL, with or without an exception, if that is not so simple. */
PyObject *slot_table_read(PyObject *table, uint32_t slot, uint8_t *cost);

/* memoized.c, sketch.c, miniatures.c */
int add_memoized_type(PyObject *module); /* after lookup.c's */
int add_sketch_type(PyObject *module);
int add_miniatures_type(PyObject *module);

/* index.c. Found values are new references; NULL with or without an exception. */
int add_index_type(PyObject *module);
PyObject *index_make(void);
PyObject *find_in_index(PyObject *index, PyObject *key);
PyObject *find_in_dict(PyObject *dictionary, PyObject *key);

#endif
