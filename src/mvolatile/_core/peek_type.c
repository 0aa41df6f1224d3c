/* Peek: the context manager over peek.c. */
#include <errno.h>

#include "python.h"

typedef struct {
    PyObject_HEAD
    RangeObject *memory;
    struct peek peek;
    PyObject *view;
    Py_ssize_t offset, length;
    Py_ssize_t exports;
    bool open, pinned;
} PeekObject;

PyObject *peek_new(PyTypeObject *type, RangeObject *memory, Py_ssize_t offset, Py_ssize_t length) {
    PeekObject *self = PyObject_New(PeekObject, type);
    if (!self) return NULL;
    self->memory = (RangeObject *)Py_NewRef((PyObject *)memory);
    self->view = NULL;
    self->offset = offset;
    self->length = length;
    self->exports = 0;
    self->open = self->pinned = false;
    return (PyObject *)self;
}

static PyObject *raise_verdict(PeekObject *self, enum peek_verdict verdict) {
    return PyObject_CallMethod((PyObject *)self->memory, "_raise_purged", "O", verdict == PEEK_OVERWRITTEN ? Py_True : Py_False);
}

/* Part of the window is lost; only for a pin, where losses are final. */
static bool window_lost(PeekObject *self) {
    return atomic_load(&self->memory->range->lossy) &&
           range_any_lost(self->memory->range, (size_t)self->offset, (size_t)self->length);
}

static void unpin(PeekObject *self) {
    if (!self->pinned) return;
    self->pinned = false;
    unpin_released(self->memory, false);
}

static int begin(PeekObject *self) {
    struct range *range = self->memory->range;
    enum peek_verdict verdict = range_peek_begin(&self->peek, range, (size_t)self->offset, (size_t)self->length);
    if (verdict == PEEK_UNSURE) {
        Py_BEGIN_ALLOW_THREADS
        verdict = range_peek_begin_carefully(&self->peek, range, (size_t)self->offset, (size_t)self->length);
        Py_END_ALLOW_THREADS
    }
    self->open = verdict == PEEK_WHOLE;
    if (!self->open) Py_XDECREF(raise_verdict(self, verdict));
    return self->open ? 0 : -1;
}

static int begin_pinned(PeekObject *self) {
    if (pin_released(self->memory, false)) return -1;
    self->pinned = true;
    if (!begin(self)) return 0; /* writers must be noticed here too */
    unpin(self);
    return -1;
}

static PyObject *peek_enter(PeekObject *self, PyObject *unused) {
    (void)unused;
    if (self->open || self->pinned) {
        PyErr_SetString(PyExc_RuntimeError, "this peek is entered already");
        return NULL;
    }
    if (watch_signals()) return NULL;
    struct range *range = use_range(self->memory);
    if (!range) return NULL;
    int failed = window(range, self->offset, &self->length);
    if (!failed) failed = range_tier == OS_TIER_USERFAULTFD ? begin(self) : begin_pinned(self);
    unuse_range(range);
    if (failed) return NULL;
    self->view = PyMemoryView_FromObject((PyObject *)self);
    return Py_XNewRef(self->view);
}

/* Views are left. Keep what they show from going: the peek becomes a pin. */
static int turn_into_pin(PeekObject *self) {
    if (pin_released(self->memory, false)) return -1;
    self->pinned = true;
    return 0;
}

static enum peek_verdict end(PeekObject *self) {
    if (!self->open) return PEEK_WHOLE;
    enum peek_verdict verdict = range_peek_end(&self->peek);
    if (verdict == PEEK_UNSURE) {
        Py_BEGIN_ALLOW_THREADS
        verdict = range_peek_end_carefully(&self->peek);
        Py_END_ALLOW_THREADS
    }
    self->open = false;
    return verdict;
}

/* A system call that met a lost page answers EFAULT and does not trap, so nothing was noted. */
static bool is_efault(PyObject *error) {
    if (error == Py_None || !PyErr_GivenExceptionMatches(error, PyExc_OSError)) return false;
    PyObject *number = PyObject_GetAttrString(error, "errno");
    bool answer = number && PyLong_Check(number) && PyLong_AsLong(number) == EFAULT;
    Py_XDECREF(number);
    PyErr_Clear();
    return answer;
}

static void survey(PeekObject *self) {
    struct range *range = self->memory->range;
    Py_BEGIN_ALLOW_THREADS
    range_survey(range);
    Py_END_ALLOW_THREADS
}

static PyObject *peek_exit(PeekObject *self, PyObject *const *args, Py_ssize_t count) {
    if (!self->open) {
        PyErr_SetString(PyExc_RuntimeError, "this peek is not entered");
        return NULL;
    }
    if (self->view) {
        release_view(self->view);
        self->view = NULL;
    }
    bool kept = self->exports > 0;
    if (kept && !self->pinned && turn_into_pin(self)) return NULL;
    if (count == 3 && is_efault(args[1])) survey(self); /* while the open peek keeps the range from being closed */
    enum peek_verdict verdict = end(self);
    if (verdict == PEEK_WHOLE && kept && window_lost(self)) verdict = PEEK_LOST;
    if (!kept) unpin(self);
    if (verdict != PEEK_WHOLE) return raise_verdict(self, verdict);
    Py_RETURN_FALSE;
}

static int peek_getbuffer(PeekObject *self, Py_buffer *view, int flags) {
    view->obj = NULL;
    if (!self->open && !self->pinned) {
        PyErr_SetString(PyExc_BufferError, "a peek has bytes only inside its with block");
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, self->memory->range->base + self->offset, self->length, 1, flags)) return -1;
    self->exports++;
    return 0;
}

static void peek_releasebuffer(PeekObject *self, Py_buffer *view) {
    (void)view;
    if (!--self->exports && !self->open) unpin(self);
}

static void peek_dealloc(PeekObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF(self->view);
    if (self->open) end(self);
    unpin(self);
    Py_DECREF((PyObject *)self->memory);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef peek_methods[] = {
    {"__enter__", (PyCFunction)peek_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))peek_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot peek_slots[] = {
    {Py_tp_dealloc, peek_dealloc},
    {Py_tp_methods, peek_methods},
    {Py_bf_getbuffer, peek_getbuffer},
    {Py_bf_releasebuffer, peek_releasebuffer},
    {Py_tp_doc, "What peek() returns: a validated look at a memory, as a context manager."},
    {0, NULL},
};
PyType_Spec peek_spec = {
    .name = "mvolatile._core.Peek",
    .basicsize = sizeof(PeekObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = peek_slots,
};
