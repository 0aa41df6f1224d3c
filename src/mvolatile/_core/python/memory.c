/* Range, the base of VolatileMemory. What to do about a loss is decided in Python: the methods named in HOOKS below are looked up on the
 * object. */
#include "python/python.h"

#include <errno.h>
#include <structmember.h>

/* HOOKS: _read_lost(offset, n) -> bytes; _readinto_lost(buffer, offset) -> int; _settle(on_purge, write); _settle_export(); _warn_refusal(errno) */

/* ---- pins ------------------------------------------------------------------------------------------------------------------------- */

int pin_released(RangeObject *self, bool write) {
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
#define QUIETLY(self, call)                                            \
    do {                                                               \
        PyObject *type, *value, *traceback;                            \
        PyErr_Fetch(&type, &value, &traceback);                        \
        PyObject *done = call;                                         \
        if (!done) PyErr_WriteUnraisable((PyObject *)(self));          \
        Py_XDECREF(done);                                              \
        PyErr_Restore(type, value, traceback);                         \
    } while (0)

void after_use(RangeObject *self) {
    struct range *range = self->range;
    if (range && range->refusal && !self->warned) {
        self->warned = true;
        QUIETLY(self, PyObject_CallMethod((PyObject *)self, "_warn_refusal", "i", range->refusal));
    }
    if (!unpin_hook || !range || !range->marked) return;
    PyObject *hook;
    LOCK(range_type);
    hook = Py_XNewRef(unpin_hook);
    UNLOCK();
    if (hook) QUIETLY(self, PyObject_CallFunctionObjArgs(hook, (PyObject *)self, NULL));
    Py_XDECREF(hook);
}

void unpin_released(RangeObject *self, bool write) {
    struct range *range = self->range;
    atomic_fetch_add(&range->users, 1); /* the last pin may be gone before this call is */
    Py_BEGIN_ALLOW_THREADS
    range_unpin(range, write);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    after_use(self);
}

static PyObject *range_hold(RangeObject *self, PyObject *write) {
    int wanted = PyObject_IsTrue(write);
    return wanted < 0 ? NULL : hold_new(self, wanted);
}

static PyObject *range_pin_method(RangeObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "_pin(write, on_purge) takes two arguments");
        return NULL;
    }
    int write = PyObject_IsTrue(args[0]);
    return write < 0 ? NULL : pin_new(self, write, args[1]);
}

/* ---- export ----------------------------------------------------------------------------------------------------------------------- */

static int range_getbuffer(RangeObject *self, Py_buffer *view, int flags) {
    bool write = flags & PyBUF_WRITABLE;
    view->obj = NULL;
    if (pin_released(self, write)) return -1;
    struct range *range = self->range;
    if (atomic_load(&range->lossy)) {
        PyObject *done = PyObject_CallMethod((PyObject *)self, "_settle_export", NULL);
        if (!done) {
            unpin_released(self, write);
            return -1;
        }
        Py_DECREF(done);
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, range->base, (Py_ssize_t)range->nbytes, !write, flags)) {
        unpin_released(self, write);
        return -1;
    }
    view->internal = write ? self : NULL;
    return 0;
}

static void range_releasebuffer(RangeObject *self, Py_buffer *view) { unpin_released(self, view->internal != NULL); }

/* ---- losses ----------------------------------------------------------------------------------------------------------------------- */

static void append_extent(void *context, uintptr_t start, uintptr_t end) {
    struct extents *set = context;
    extents_add(set, start, end);
}

static PyObject *tuple_of(const struct extents *set) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)set->count);
    for (size_t i = 0; tuple && i < set->count; i++) {
        PyObject *pair = Py_BuildValue("(nn)", (Py_ssize_t)set->items[i].start, (Py_ssize_t)(set->items[i].end - set->items[i].start));
        if (!pair || PyTuple_SetItem(tuple, (Py_ssize_t)i, pair)) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *range_lost_method(RangeObject *self, PyObject *survey) {
    struct range *range = use_range(self);
    if (!range) return NULL;
    struct extents set;
    extents_init(&set);
    int look = PyObject_IsTrue(survey), err = 0;
    uint64_t generation;
    Py_BEGIN_ALLOW_THREADS
    if (look) err = range_survey(range);
    generation = range_lost(range, 0, range->nbytes, append_extent, &set);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    PyObject *extents = tuple_of(&set);
    extents_clear(&set);
    if (err) {
        Py_XDECREF(extents);
        return fail(err, "read of /proc/self/pagemap");
    }
    return extents ? Py_BuildValue("(NK)", extents, (unsigned long long)generation) : NULL;
}

static PyObject *range_forgive_method(RangeObject *self, PyObject *unused) {
    (void)unused;
    struct range *range = use_range(self);
    if (!range) return NULL;
    Py_BEGIN_ALLOW_THREADS
    range_forgive(range, 0, range->nbytes);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    Py_RETURN_NONE;
}

static PyObject *range_purge_method(RangeObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t offset = 0, length = TO_THE_END;
    if (count && !two_sizes(args, count, &offset, &length, "_purge(offset=0, length=None) takes two integers")) return NULL;
    struct range *range = use_range(self);
    if (!range) return NULL;
    size_t bytes = 0;
    int err = 0;
    bool marked = true;
    if (!window(range, offset, &length)) {
        Py_BEGIN_ALLOW_THREADS
        err = range_purge(range, (size_t)offset, (size_t)length, &bytes);
        Py_END_ALLOW_THREADS
        marked = !range->refusal;
    }
    unuse_range(range);
    if (PyErr_Occurred()) return NULL;
    if (err == EDEADLK) {
        PyErr_SetString(PyExc_BufferError, "a pinned memory cannot be purged");
        return NULL;
    }
    return err ? fail(err, marked ? "madvise(MADV_PAGEOUT)" : "madvise(MADV_FREE)") : PyLong_FromSize_t(bytes);
}

static PyObject *range_resident_method(RangeObject *self, PyObject *unused) {
    (void)unused;
    struct range *range = use_range(self);
    if (!range) return NULL;
    size_t bytes;
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = range_resident(range, &bytes);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    return err ? fail(err, "read of /proc/self/pagemap") : PyLong_FromSize_t(bytes);
}

/* ---- open and close --------------------------------------------------------------------------------------------------------------- */

static PyObject *range_open_method(RangeObject *self, PyObject *args) {
    Py_ssize_t nbytes;
    int huge, dump, inherit, err;
    PyObject *name;
    const char *label;
    if (!PyArg_ParseTuple(args, "npppOs", &nbytes, &huge, &dump, &inherit, &name, &label) || ready()) return NULL;
    if (nbytes <= 0 || self->range) {
        PyErr_SetString(PyExc_ValueError, self->range ? "the memory is open already" : "nbytes must be positive");
        return NULL;
    }
    struct range *range;
    Py_BEGIN_ALLOW_THREADS
    err = range_open((size_t)nbytes, huge, (dump ? RANGE_DUMP : 0) | (inherit ? 0 : RANGE_WIPE), label, &range);
    Py_END_ALLOW_THREADS
    if (err) return fail(err, dump && inherit ? "mmap" : "mmap, or madvise for dump=False or inherit=False");
    self->range = range;
    self->name = Py_NewRef(name);
    self->nbytes = nbytes;
    Py_RETURN_NONE;
}

/* Decided under the lock under which every use begins: a refused close changes nothing. Calls that are under way (BUSY), such as another
 * thread's status(), end soon and are waited for; of what they open, pins and peeks, is decided then. */
enum closing begin_closing(RangeObject *self, struct range **out) {
    enum closing closing = CLOSED;
    struct range *range;
    LOCK(self);
    range = *out = self->range;
    if (range) {
        atomic_fetch_add(&range->users, 1);
        closing = atomic_load(&range->peeks) || range->pins ? REFUSED : range_is_busy(range) ? BUSY : OURS;
        if (closing == OURS) {
            self->generation = range->generation;
            self->range = NULL;
        } else {
            unuse_range(range);
        }
    }
    UNLOCK();
    return closing;
}

static PyObject *range_close_method(RangeObject *self, PyObject *unused) {
    (void)unused;
    struct range *range;
    enum closing closing;
    while ((closing = begin_closing(self, &range)) == BUSY) {
        if (PyErr_CheckSignals()) return NULL;
        Py_BEGIN_ALLOW_THREADS
        os_pause();
        Py_END_ALLOW_THREADS
    }
    if (closing == REFUSED) {
        PyErr_SetString(PyExc_BufferError, "the memory is pinned, peeked at, or exported");
        return NULL;
    }
    if (closing == CLOSED) Py_RETURN_NONE;
    Py_BEGIN_ALLOW_THREADS
    range_close(range);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static void range_dealloc(RangeObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->weak) PyObject_ClearWeakRefs((PyObject *)self);
    if (self->range) {
        atomic_fetch_add(&self->range->users, 1);
        Py_BEGIN_ALLOW_THREADS
        range_close(self->range); /* every pin, peek and export holds a reference, so none is left */
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->name);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int range_traverse(RangeObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->name);
    return 0;
}

/* ---- attributes ------------------------------------------------------------------------------------------------------------------- */

static PyObject *get_address(RangeObject *self, void *unused) {
    (void)unused;
    struct range *range = use_range(self);
    if (!range) return NULL;
    unuse_range(range);
    return PyLong_FromVoidPtr(range->base);
}

static PyObject *get_nbytes(RangeObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSsize_t(self->nbytes);
}

static PyObject *get_name(RangeObject *self, void *unused) {
    (void)unused;
    return Py_NewRef(self->name ? self->name : Py_None);
}

static PyObject *get_closed(RangeObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(!self->range);
}

static PyObject *get_generation(RangeObject *self, void *unused) {
    (void)unused;
    uint64_t generation;
    LOCK(self);
    struct range *range = self->range;
    generation = range ? range->generation : self->generation;
    UNLOCK();
    return PyLong_FromUnsignedLongLong(generation);
}

static PyObject *get_volatile(RangeObject *self, void *unused) {
    (void)unused;
    struct range *range = self->range;
    return PyBool_FromLong(range && range->marked);
}

static PyObject *get_refusal(RangeObject *self, void *unused) {
    (void)unused;
    struct range *range = self->range;
    return PyLong_FromLong(range ? range->refusal : 0);
}

static PyObject *get_pins(RangeObject *self, void *unused) {
    (void)unused;
    struct range *range = self->range;
    return PyLong_FromUnsignedLong(range ? range->pins : 0);
}

static PyObject *get_lossy(RangeObject *self, void *unused) {
    (void)unused;
    struct range *range = self->range;
    return PyBool_FromLong(range && atomic_load(&range->lossy));
}

static PyObject *range_is_valid_method(RangeObject *self, PyObject *unused) {
    (void)unused;
    struct range *range = self->range;
    return PyBool_FromLong(!range || range_is_valid(range));
}

static PyGetSetDef range_attributes[] = {
    {"address", (getter)get_address, NULL, "Where the memory begins.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Its size in bytes, as asked for.", NULL},
    {"name", (getter)get_name, NULL, "Its name, or None.", NULL},
    {"closed", (getter)get_closed, NULL, "Whether close() has given the memory back.", NULL},
    {"generation", (getter)get_generation, NULL, "Grows by one with each detected loss; after close() what it was.", NULL},
    {"_volatile", (getter)get_volatile, NULL, NULL, NULL},
    {"_refusal", (getter)get_refusal, NULL, "The errno with which the kernel last refused to make it volatile, or 0.", NULL},
    {"_pins", (getter)get_pins, NULL, NULL, NULL},
    {"_lossy", (getter)get_lossy, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef range_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RangeObject, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define METHOD(name, function, flags, doc) {name, (PyCFunction)(void (*)(void))function, flags, PyDoc_STR(doc)}

static PyMethodDef range_methods[] = {
    METHOD("read", range_read_method, METH_FASTCALL,
           "read($self, offset=0, n=None, /)\n--\n\nCopy n bytes from offset, by default all to the end.\n\n"
           "No system call while the bytes are whole. A loss elsewhere in the memory does not matter. If one of these bytes\n"
           "was lost, `fill` decides: Purged is raised, or zeros or rebuilt bytes come back. Overwritten: another thread holds a\n"
           "write pin. Safe from any thread."),
    METHOD("readinto", range_readinto_method, METH_FASTCALL,
           "readinto($self, buffer, offset=0, /)\n--\n\nFill a writable buffer from offset; returns its length in bytes. Losses as in read()."),
    METHOD("write", range_write_method, METH_FASTCALL,
           "write($self, data, offset=0, /)\n--\n\nCopy bytes in at offset; the memory is volatile afterwards, unless it is pinned.\n\n"
           "Overwritten bytes are no longer lost. A read in another thread never returns half of a write."),
    METHOD("peek", range_peek_method, METH_FASTCALL,
           "peek($self, offset=0, length=None, /)\n--\n\nA context manager whose view reads the memory without a pin and without a system call.\n\n"
           "Leaving raises Purged when part of the window was lost, Overwritten when a writer had it meanwhile; what was\n"
           "computed from the view must not be used then. An Exception that ends the block is the context of that; what is none\n"
           "(KeyboardInterrupt, GeneratorExit, asyncio.CancelledError) passes instead.\n\n"
           "A touch of a lost page inside the block reads as zeros and does not trap, from any thread that has not blocked\n"
           "SIGBUS. Views that outlive the block, or a peek that is never left, turn it into a pin that lives as long as they do.\n"
           "Where nothing traps (tier faultcount), and while any thread of the process blocks SIGBUS, as numexpr's workers do,\n"
           "a peek is a pin. Not seen: such a thread made inside the block, which is killed, and the process with it. pin() is\n"
           "the safe way to hand memory to code that you do not know, or that reads it later.\n\n"
           "A system call that meets a lost page fails with EFAULT. Leaving raises Purged for that too, whatever became of the\n"
           "error, if it failed in this thread; a short count is no failure."),
    METHOD("_hold", range_hold, METH_O, "_hold($self, write, /)\n--\n\nPin for reading or writing."),
    METHOD("_pin", range_pin_method, METH_FASTCALL,
           "_pin($self, write, on_purge, /)\n--\n\nA context manager that holds and settles."),
    METHOD("_lost", range_lost_method, METH_O, "_lost($self, survey, /)\n--\n\n(extents, generation)."),
    METHOD("_forgive", range_forgive_method, METH_NOARGS,
           "_forgive($self, /)\n--\n\nThe losses known up to now are rebuilt or accepted."),
    METHOD("_purge", range_purge_method, METH_FASTCALL,
           "_purge($self, offset=0, length=None, /)\n--\n\nReclaim a window now; answers the bytes that went."),
    METHOD("_resident", range_resident_method, METH_NOARGS, "_resident($self, /)\n--\n\nBytes in RAM."),
    METHOD("_open", range_open_method, METH_VARARGS,
           "_open($self, nbytes, huge, dump, inherit, name, label, /)\n--\n\nTake memory, once."),
    METHOD("_open_stored", range_open_stored_method, METH_VARARGS,
           "_open_stored($self, parts, dump, inherit, name, label, /)\n--\n\nTake memory with `parts` in it, once; volatile already."),
    METHOD("_close", range_close_method, METH_NOARGS, "_close($self, /)\n--\n\nGive the memory back."),
    METHOD("_is_valid", range_is_valid_method, METH_NOARGS, "_is_valid($self, /)\n--\n\nWhether the invariants hold."),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot range_slots[] = {
    {Py_tp_dealloc, range_dealloc},
    {Py_tp_traverse, range_traverse},
    {Py_tp_methods, range_methods},
    {Py_tp_members, range_members},
    {Py_tp_getset, range_attributes},
    {Py_bf_getbuffer, range_getbuffer},
    {Py_bf_releasebuffer, range_releasebuffer},
    {Py_tp_doc, "Volatile bytes; the base of VolatileMemory, which adds what to do about a loss."},
    {0, NULL},
};
PyType_Spec range_spec = {
    .name = "mvolatile._core.Range",
    .basicsize = sizeof(RangeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = range_slots,
};
