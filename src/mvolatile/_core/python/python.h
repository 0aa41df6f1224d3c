/* Shared by the files that know Python, which are those here and in cache/. */
#ifndef MVOLATILE_PYTHON_PYTHON_H
#define MVOLATILE_PYTHON_PYTHON_H

#include <Python.h>
#include <stdbool.h>

#include "protocol/range.h"

/* What Python objects hold is changed under the GIL. Where there is none (a free-threaded build), the lock of the object stands for it: like
 * the GIL, it is let go while its thread waits for anything. No return in between. */
#ifdef Py_GIL_DISABLED
#define LOCK(object) Py_BEGIN_CRITICAL_SECTION(object)
#define UNLOCK() Py_END_CRITICAL_SECTION()
#else
#define LOCK(object) {
#define UNLOCK() }
#endif

typedef struct {
    PyObject_HEAD
    struct range *_Atomic range; /* NULL: not open yet, or closed. What close() has taken away stays a range, of nobody or another's */
    PyObject *name;      /* str or None */
    PyObject *weak;
    Py_ssize_t nbytes;
    uint64_t generation; /* when it was closed */
    bool warned;
} RangeObject;

/* Counts the call in, so that close() in another thread cannot pull the range away while the GIL is released. NULL with ValueError set when
 * closed. */
static inline struct range *use_range(RangeObject *self) {
    struct range *range;
    LOCK(self);
    range = self->range;
    if (range) atomic_fetch_add(&range->users, 1);
    UNLOCK();
    if (!range) PyErr_SetString(PyExc_ValueError, "the memory is closed");
    return range;
}

static inline void unuse_range(struct range *range) { atomic_fetch_sub(&range->users, 1); }

extern PyObject *unpin_hook; /* called with a Range that has just become volatile; for mvolatile.testing. Under the lock of range_type */
void after_use(RangeObject *self);
int pin_released(RangeObject *self, bool write); /* with the GIL released where it may take long; -1 with an exception set */
void unpin_released(RangeObject *self, bool write);

PyObject *fail(int err, const char *call); /* OSError naming the call, also for ENOMEM; NULL */
int ready(void);                           /* opens the kernel's side once; -1 with an exception set */
int watch_signals(void);                   /* our handler runs first; -1 with an exception set */
bool traps_here(void);                     /* this thread may read without a hold, as of its last watch_signals() */
bool traps_everywhere(void);               /* and so may every thread that it hands a view to */

/* copies.c */
#define TO_THE_END PY_SSIZE_T_MIN /* a length that no caller gives */
int window(struct range *range, Py_ssize_t offset, Py_ssize_t *length); /* -1 with ValueError set */
bool two_sizes(PyObject *const *args, Py_ssize_t count, Py_ssize_t *first, Py_ssize_t *second, const char *usage); /* or TypeError */
/* Copy from a range as read() does; 0, EFAULT (lost), EAGAIN (another thread writes) or another errno. May release the GIL. */
int copy_out(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to);
bool peek_tail(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to, Py_ssize_t few);
PyObject *range_read_method(RangeObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *range_readinto_method(RangeObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *range_write_method(RangeObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *range_peek_method(RangeObject *self, PyObject *const *args, Py_ssize_t count);

/* pin.c */
PyObject *hold_new(RangeObject *memory, bool write);
PyObject *pin_new(RangeObject *memory, bool write, PyObject *on_purge);
void release_view(PyObject *view); /* and the reference; one that others were made of stays as it is */

/* peek.c */
PyObject *peek_new(PyTypeObject *type, RangeObject *memory, Py_ssize_t offset, Py_ssize_t length);

extern PyType_Spec range_spec, hold_spec, pin_spec, peek_spec, window_spec;
extern PyObject *release_name; /* "release", made once: the hot paths call it */
extern PyTypeObject *range_type, *hold_type, *pin_type, *peek_type, *window_type;

int add_lookup_types(PyObject *module); /* lookup.c, slot_table.c, sketch.c, miniatures.c and index.c */
/* listener.c */
int add_listener_type(PyObject *module);
PyObject *listener_work(PyObject *module, PyObject *step);
PyObject *listener_forks_by_python(PyObject *module, PyObject *begins);

/* slot_table.c */
extern PyTypeObject *slot_table_type;
int add_slot_table_type(PyObject *module);
PyObject *slot_table_read(PyObject *table, uint32_t slot); /* its bytes, and a visit counted; NULL, with or without an exception, if that is not so simple */

/* sketch.c, miniatures.c */
int add_sketch_type(PyObject *module);
int add_miniatures_type(PyObject *module);

/* index.c. Found values are new references; NULL with or without an exception. */
int add_index_type(PyObject *module);
PyObject *index_make(void);
PyObject *find_in_index(PyObject *index, PyObject *key);
PyObject *find_in_dict(PyObject *dictionary, PyObject *key);

#endif
