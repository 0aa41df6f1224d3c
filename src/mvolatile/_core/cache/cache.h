/* Between the files of a cache's hit. */
#ifndef MVOLATILE_CACHE_CACHE_H
#define MVOLATILE_CACHE_CACHE_H

#include "python/python.h"

int add_finder_type(PyObject *module); /* finder.c, and what it needs of shelf.c and index.c */

/* shelf.c */
extern PyTypeObject *shelf_type;
int add_shelf_type(PyObject *module);
PyObject *shelf_use(PyObject *shelf, uint32_t slot); /* its bytes, which count as used; NULL, with or without an exception, if that is not so simple */

/* index.c. Found values are new references; NULL with or without an exception. */
int add_index_type(PyObject *module);
PyObject *index_make(void);
PyObject *find_in_index(PyObject *index, PyObject *key);
PyObject *find_in_dict(PyObject *dictionary, PyObject *key);

#endif
