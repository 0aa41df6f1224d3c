/* Hold, a pin that exports the bytes, and Pin, the context manager over it. */
#include "python/python.h"

typedef struct {
    PyObject_HEAD
    MemoryObject *memory;
    bool write, pinned;
} HoldObject;

/* Memory stays pinned while anything made of the view lives: a view holds its Hold. */
static void hold_dealloc(HoldObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->pinned) unpin_released(self->memory, self->write);
    Py_DECREF((PyObject *)self->memory);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static int hold_traverse(HoldObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->memory);
    return 0;
}

static int hold_getbuffer(HoldObject *self, Py_buffer *view, int flags) {
    if (!self->write && (flags & PyBUF_WRITABLE)) {
        PyErr_SetString(PyExc_BufferError, "the pin is for reading; pin(write=True) gives a writable view");
        return -1;
    }
    struct range *range = self->memory->range;
    return PyBuffer_FillInfo(view, (PyObject *)self, range->base, (Py_ssize_t)range->nbytes, !self->write, flags);
}

PyObject *hold_new(MemoryObject *memory, bool write) {
    /* The object first: an interrupt after the pin then finds an owner, which unpins. */
    HoldObject *hold = PyObject_GC_New(HoldObject, hold_type);
    if (!hold) return NULL;
    hold->memory = (MemoryObject *)Py_NewRef((PyObject *)memory);
    hold->write = write;
    hold->pinned = false;
    PyObject_GC_Track(hold);
    if (watch_signals() || pin_released(memory, write)) {
        Py_DECREF(hold);
        return NULL;
    }
    hold->pinned = true;
    return (PyObject *)hold;
}

static PyType_Slot hold_slots[] = {
    {Py_tp_dealloc, hold_dealloc},
    {Py_tp_traverse, hold_traverse},
    {Py_bf_getbuffer, hold_getbuffer},
    {Py_tp_doc, "A pin of a Memory. memoryview(hold) is its bytes; the pin ends when the hold and all views of it are gone."},
    {0, NULL},
};
PyType_Spec hold_spec = {
    .name = "mvolatile._core.Hold",
    .basicsize = sizeof(HoldObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = hold_slots,
};

/* ---- the context manager ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    MemoryObject *memory;
    PyObject *on_purge; /* None: the memory's own `fill` */
    PyObject *view;     /* NULL outside the block */
    bool write;
} PinObject;

PyObject *pin_new(MemoryObject *memory, bool write, PyObject *on_purge) {
    PinObject *self = PyObject_GC_New(PinObject, pin_type);
    if (!self) return NULL;
    self->memory = (MemoryObject *)Py_NewRef((PyObject *)memory);
    self->on_purge = Py_NewRef(on_purge);
    self->view = NULL;
    self->write = write;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *enter(PinObject *self) {
    if (self->view) {
        PyErr_SetString(PyExc_RuntimeError, "this pin is entered already; ask the memory for another");
        return NULL;
    }
    PyObject *hold = hold_new(self->memory, self->write);
    if (!hold) return NULL;
    if (atomic_load(&self->memory->range->lossy)) {
        PyObject *done = PyObject_CallMethod((PyObject *)self->memory, "_settle", "OO", self->on_purge, self->write ? Py_True : Py_False);
        if (!done) {
            Py_DECREF(hold);
            return NULL;
        }
        Py_DECREF(done);
    }
    PyObject *view = PyMemoryView_FromObject(hold);
    Py_DECREF(hold);
    PyObject *other = self->view; /* pinning may have let another thread enter it */
    self->view = Py_XNewRef(view);
    Py_XDECREF(other);
    return view;
}

static PyObject *pin_enter(PinObject *self, PyObject *unused) {
    (void)unused;
    PyObject *view;
    LOCK(self);
    view = enter(self);
    UNLOCK();
    return view;
}

void release_view(PyObject *view) {
    PyObject *released = PyObject_CallMethodObjArgs(view, release_name, NULL);
    if (!released) PyErr_Clear(); /* BufferError: an array was made of it, which keeps the memory as it is */
    Py_XDECREF(released);
    Py_DECREF(view);
}

static PyObject *pin_exit(PinObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)args, (void)count;
    PyObject *view;
    LOCK(self);
    view = self->view;
    self->view = NULL;
    UNLOCK();
    if (view) release_view(view);
    Py_RETURN_NONE;
}

static int pin_traverse(PinObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->memory);
    Py_VISIT(self->on_purge);
    Py_VISIT(self->view);
    return 0;
}

static int pin_clear(PinObject *self) {
    Py_CLEAR(self->on_purge);
    return 0;
}

static void pin_dealloc(PinObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->view);
    Py_XDECREF(self->on_purge);
    Py_DECREF((PyObject *)self->memory);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef pin_methods[] = {
    {"__enter__", (PyCFunction)pin_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nThe view."},
    {"__exit__", (PyCFunction)(void (*)(void))pin_exit, METH_FASTCALL, "__exit__($self, kind, error, trace, /)\n--\n\nLet go."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pin_slots[] = {
    {Py_tp_dealloc, pin_dealloc},
    {Py_tp_traverse, pin_traverse},
    {Py_tp_clear, pin_clear},
    {Py_tp_methods, pin_methods},
    {Py_tp_doc, "What VolatileMemory.pin returns: a context manager whose value is the view. It may be entered again after leaving."},
    {0, NULL},
};
PyType_Spec pin_spec = {
    .name = "mvolatile._core.Pin",
    .basicsize = sizeof(PinObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = pin_slots,
};
