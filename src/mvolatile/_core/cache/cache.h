/* Between the files of a cache's hit. */
#ifndef MVOLATILE_CACHE_CACHE_H
#define MVOLATILE_CACHE_CACHE_H

#include "python/python.h"

int add_lookup_types(PyObject *module); /* lookup.c, and what it needs of slot_table.c and index.c */

/* slot_table.c */
extern PyTypeObject *slot_table_type;
int add_slot_table_type(PyObject *module);
PyObject *slot_table_read(PyObject *table, uint32_t slot); /* its bytes, and a visit counted; NULL, with or without an exception, if that is not so simple */

/* index.c. Found values are new references; NULL with or without an exception. */
int add_index_type(PyObject *module);
PyObject *index_make(void);
PyObject *find_in_index(PyObject *index, PyObject *key);
PyObject *find_in_dict(PyObject *dictionary, PyObject *key);

#endif
