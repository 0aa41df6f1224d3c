/* Memory, the base of VolatileMemory. What to do about a loss is decided in Python: the methods named in HOOKS below are looked up on the
 * object. */
#include "python/python.h"

#include <structmember.h>

/* HOOKS: _read_lost(offset, n) -> bytes; _readinto_lost(buffer, offset) -> int; _raise_purged(overwritten); _settle(on_purge, write);
 * _settle_export(); _warn_refusal(errno) */

/* ---- export ----------------------------------------------------------------------------------------------------------------------- */

static int memory_getbuffer(MemoryObject *self, Py_buffer *view, int flags) {
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

static void memory_releasebuffer(MemoryObject *self, Py_buffer *view) { unpin_released(self, view->internal != NULL); }

static void memory_dealloc(MemoryObject *self) {
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

static int memory_traverse(MemoryObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->name);
    return 0;
}

/* ---- attributes ------------------------------------------------------------------------------------------------------------------- */

static PyObject *get_address(MemoryObject *self, void *unused) {
    (void)unused;
    struct range *range = use_range(self);
    if (!range) return NULL;
    unuse_range(range);
    return PyLong_FromVoidPtr(range->base);
}

static PyObject *get_nbytes(MemoryObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSsize_t(self->nbytes);
}

static PyObject *get_name(MemoryObject *self, void *unused) {
    (void)unused;
    return Py_NewRef(self->name ? self->name : Py_None);
}

static PyObject *get_closed(MemoryObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(!self->range);
}

static PyObject *get_generation(MemoryObject *self, void *unused) {
    (void)unused;
    uint64_t generation;
    LOCK(self);
    struct range *range = self->range;
    generation = range ? range->generation : self->generation;
    UNLOCK();
    return PyLong_FromUnsignedLongLong(generation);
}

static PyGetSetDef memory_attributes[] = {
    {"address", (getter)get_address, NULL, "Where the memory begins.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Its size in bytes, as asked for.", NULL},
    {"name", (getter)get_name, NULL, "Its name, or None.", NULL},
    {"closed", (getter)get_closed, NULL, "Whether close() has given the memory back.", NULL},
    {"generation", (getter)get_generation, NULL, "Grows by one with each detected loss; after close() what it was.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef memory_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(MemoryObject, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define METHOD(name, function, flags, doc) {name, (PyCFunction)(void (*)(void))function, flags, PyDoc_STR(doc)}

static PyMethodDef memory_methods[] = {
    METHOD("read", memory_read, METH_FASTCALL,
           "read($self, offset=0, n=None, /)\n--\n\nCopy n bytes from offset, by default all to the end.\n\n"
           "No system call while the bytes are whole. A loss elsewhere in the memory does not matter. If one of these bytes\n"
           "was lost, `fill` decides: Purged is raised, or zeros or rebuilt bytes come back. Overwritten: another thread holds a\n"
           "write pin. Safe from any thread."),
    METHOD("readinto", memory_readinto, METH_FASTCALL,
           "readinto($self, buffer, offset=0, /)\n--\n\nFill a writable buffer from offset; returns its length in bytes. Losses as in read()."),
    METHOD("write", memory_write, METH_FASTCALL,
           "write($self, data, offset=0, /)\n--\n\nCopy bytes in at offset; the memory is volatile afterwards, unless it is pinned.\n\n"
           "Overwritten bytes are no longer lost. A read in another thread never returns half of a write."),
    METHOD("peek", memory_peek, METH_FASTCALL,
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
    {NULL, NULL, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, memory_dealloc},
    {Py_tp_traverse, memory_traverse},
    {Py_tp_methods, memory_methods},
    {Py_tp_members, memory_members},
    {Py_tp_getset, memory_attributes},
    {Py_bf_getbuffer, memory_getbuffer},
    {Py_bf_releasebuffer, memory_releasebuffer},
    {Py_tp_doc, "Volatile bytes; the base of VolatileMemory, which adds what to do about a loss."},
    {0, NULL},
};
PyType_Spec memory_spec = {
    .name = "mvolatile._core.Memory",
    .basicsize = sizeof(MemoryObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = memory_slots,
};
