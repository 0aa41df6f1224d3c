/* Between the files that know Python, which are those here, in cache/ and module.c. */
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
} MemoryObject;

/* Counts the call in, so that close() in another thread cannot pull the range away while the GIL is released. NULL with ValueError set when
 * closed. */
static inline struct range *use_range(MemoryObject *self) {
    struct range *range;
    LOCK(self);
    range = self->range;
    if (range) atomic_fetch_add(&range->users, 1);
    UNLOCK();
    if (!range) PyErr_SetString(PyExc_ValueError, "the memory is closed");
    return range;
}

static inline void unuse_range(struct range *range) { atomic_fetch_sub(&range->users, 1); }

/* use.c */
extern PyObject *unpin_hook; /* called with a Memory that has just become volatile; for mvolatile.testing. Under the lock of memory_type */
void after_use(MemoryObject *self);
int pin_released(MemoryObject *self, bool write); /* with the GIL released where it may take long; -1 with an exception set */
void unpin_released(MemoryObject *self, bool write);

/* start.c */
extern PyTypeObject *memory_type, *hold_type, *pin_type, *peek_type, *window_type;
extern PyObject *release_name; /* "release", made once: the hot paths call it */
extern const char *const tier_names[];
int ready(void); /* opens the kernel's side once; -1 with an exception set */

/* signals.c */
int find_watched(void);      /* once, before the next; -1 with an exception set */
int watch_signals(void);     /* our handler runs first; -1 with an exception set */
bool traps_here(void);       /* this thread may read without a hold, as of its last watch_signals() */
bool traps_everywhere(void); /* and so may every thread that it hands a view to */

/* arguments.c */
PyObject *fail(int err, const char *call); /* OSError naming the call, also for ENOMEM; NULL */
#define TO_THE_END PY_SSIZE_T_MIN /* a length that no caller gives */
int window(struct range *range, Py_ssize_t offset, Py_ssize_t *length); /* -1 with ValueError set */
bool two_sizes(PyObject *const *args, Py_ssize_t count, Py_ssize_t *first, Py_ssize_t *second, const char *usage); /* or TypeError */

/* copies.c */
/* Copy from a range as read() does; 0, EFAULT (lost), EAGAIN (another thread writes) or another errno. May release the GIL. */
int copy_out(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to);
bool peek_tail(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to, Py_ssize_t few);
PyObject *memory_read(MemoryObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *memory_readinto(MemoryObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *memory_write(MemoryObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *memory_peek(MemoryObject *self, PyObject *const *args, Py_ssize_t count);

/* pin.c */
PyObject *hold_new(MemoryObject *memory, bool write);
PyObject *pin_new(MemoryObject *memory, bool write, PyObject *on_purge);
void release_view(PyObject *view); /* and the reference; one that others were made of stays as it is */

/* inner.c */
extern PyMethodDef inner_functions[];
enum closing {
    CLOSED,
    REFUSED,
    BUSY,
    OURS
};
enum closing begin_closing(MemoryObject *self, struct range **out); /* OURS: the range is the caller's, to be closed */

/* stored.c */
extern PyMethodDef stored_functions[];
extern PyMethodDef residence_functions[];

/* peek.c */
PyObject *peek_new(PyTypeObject *type, MemoryObject *memory, Py_ssize_t offset, Py_ssize_t length);

extern PyType_Spec memory_spec, hold_spec, pin_spec, peek_spec, window_spec;

/* slot_index.c, channel.c */
int add_table_types(PyObject *module);
int add_channel_types(PyObject *module);

/* listener.c */
int add_listener_type(PyObject *module);
PyObject *listener_work(PyObject *module, PyObject *step);
PyObject *listener_forks_by_python(PyObject *module, PyObject *begins);

#endif
