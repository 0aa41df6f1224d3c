/* What every use of a memory is made of: it is held, and let go. */
#include <errno.h>

#include "python/python.h"

int pin_released(MemoryObject *self, bool write) {
    struct range *range = use_range(self);
    if (!range) return -1;
    int err;
    for (;;) {
        if (range_pin_is_quick(range)) {
            err = range_pin(range, write);
        } else {
            Py_BEGIN_ALLOW_THREADS
            err = range_pin(range, write);
            Py_END_ALLOW_THREADS
        }
        if (err != EINTR || PyErr_CheckSignals()) break;
    }
    unuse_range(range);
    if (!err) return 0;
    if (!PyErr_Occurred()) fail(err, "madvise(MADV_POPULATE_WRITE)");
    return -1;
}

PyObject *unpin_hook;

/* A pin may end while an exception is on its way, or in a finalizer: what goes wrong then is reported, not raised. */
#define QUIETLY(self, call)                                   \
    do {                                                      \
        PyObject *type, *value, *traceback;                   \
        PyErr_Fetch(&type, &value, &traceback);               \
        PyObject *done = call;                                \
        if (!done) PyErr_WriteUnraisable((PyObject *)(self)); \
        Py_XDECREF(done);                                     \
        PyErr_Restore(type, value, traceback);                \
    } while (0)

void after_use(MemoryObject *self) {
    struct range *range = self->range;
    if (range && range->refusal && !self->warned) {
        self->warned = true;
        QUIETLY(self, PyObject_CallMethod((PyObject *)self, "_warn_refusal", "i", range->refusal));
    }
    if (!unpin_hook || !range || !range->marked) return;
    PyObject *hook;
    LOCK(memory_type);
    hook = Py_XNewRef(unpin_hook);
    UNLOCK();
    if (hook) QUIETLY(self, PyObject_CallFunctionObjArgs(hook, (PyObject *)self, NULL));
    Py_XDECREF(hook);
}

void unpin_released(MemoryObject *self, bool write) {
    struct range *range = self->range;
    atomic_fetch_add(&range->users, 1); /* the last pin may be gone before this call is */
    Py_BEGIN_ALLOW_THREADS
    range_unpin(range, write);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    after_use(self);
}
