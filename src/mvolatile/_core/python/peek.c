/* Peek: the context manager over peek.c. */
#include <errno.h>

#include "python/python.h"

/* The bytes of a peek: what its views, and what is made of them, refer to. numpy.ndarray(buffer=view) gives the buffer back and keeps a bare
 * reference to this object, so what outlives the block is told by references, not by counting exports. */
typedef struct {
    PyObject_HEAD
    MemoryObject *memory;
    Py_ssize_t offset, length;
    struct peek peek;
    bool open; /* the peek is; also that of a Peek that is gone, where its pin was refused */
    bool pinned;
} WindowObject;

/* One thread at a time enters or leaves. Both wait for other locks on their way, and let the GIL go meanwhile: a second thread would end the
 * same peek once more. */
enum {
    OUTSIDE,
    ENTERING,
    INSIDE,
    LEAVING
};

typedef struct {
    PyObject_HEAD
    MemoryObject *memory;
    _Atomic int phase;
    WindowObject *window; /* NULL outside the block */
    PyObject *view;
    Py_ssize_t offset, length;
    int errno_before; /* the block: see failed_meanwhile() */
} PeekObject;

static enum peek_verdict end(WindowObject *self) {
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

static void window_dealloc(WindowObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)end(self);
    if (self->pinned) unpin_released(self->memory, false);
    Py_DECREF((PyObject *)self->memory);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static int window_traverse(WindowObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->memory);
    return 0;
}

static int window_getbuffer(WindowObject *self, Py_buffer *view, int flags) {
    return PyBuffer_FillInfo(view, (PyObject *)self, self->memory->range->base + self->offset, self->length, 1, flags);
}

static PyType_Slot window_slots[] = {
    {Py_tp_dealloc, window_dealloc},
    {Py_tp_traverse, window_traverse},
    {Py_bf_getbuffer, window_getbuffer},
    {Py_tp_doc, "The bytes of a peek. One that outlives its block holds a pin."},
    {0, NULL},
};
PyType_Spec window_spec = {
    .name = "mvolatile._core.Window",
    .basicsize = sizeof(WindowObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = window_slots,
};

static WindowObject *window_new(PeekObject *peek) {
    WindowObject *window = PyObject_GC_New(WindowObject, window_type);
    if (!window) return NULL;
    window->memory = (MemoryObject *)Py_NewRef((PyObject *)peek->memory);
    window->offset = peek->offset;
    window->length = peek->length;
    window->open = window->pinned = false;
    PyObject_GC_Track(window);
    return window;
}

PyObject *peek_new(PyTypeObject *type, MemoryObject *memory, Py_ssize_t offset, Py_ssize_t length) {
    PeekObject *self = PyObject_GC_New(PeekObject, type);
    if (!self) return NULL;
    self->memory = (MemoryObject *)Py_NewRef((PyObject *)memory);
    self->phase = OUTSIDE;
    self->window = NULL;
    self->view = NULL;
    self->offset = offset;
    self->length = length;
    PyObject_GC_Track(self);
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

static int begin(PeekObject *self) {
    struct range *range = self->memory->range;
    struct peek *peek = &self->window->peek;
    enum peek_verdict verdict = range_peek_begin(peek, range, (size_t)self->offset, (size_t)self->length);
    if (verdict == PEEK_UNSURE) {
        Py_BEGIN_ALLOW_THREADS
        verdict = range_peek_begin_carefully(peek, range, (size_t)self->offset, (size_t)self->length);
        Py_END_ALLOW_THREADS
    }
    self->window->open = verdict == PEEK_WHOLE;
    if (verdict != PEEK_WHOLE) Py_XDECREF(raise_verdict(self, verdict));
    return verdict == PEEK_WHOLE ? 0 : -1;
}

static int pin_window(PeekObject *self) {
    if (pin_released(self->memory, false)) return -1;
    self->window->pinned = true;
    return 0;
}

static int open_window(PeekObject *self) {
    if (!(self->window = window_new(self))) return -1;
    /* Where nothing traps, and where a thread that may be handed the view would die of it, by a pin. Writers must be noticed there, too. */
    if ((traps_everywhere() || !pin_window(self)) && !begin(self)) return 0;
    Py_CLEAR(self->window);
    return -1;
}

static bool begin_phase(PeekObject *self, int from, int to, const char *refusal) {
    if (atomic_compare_exchange_strong(&self->phase, &from, to)) return true;
    PyErr_SetString(PyExc_RuntimeError, refusal);
    return false;
}

static void end_phase(PeekObject *self) { self->phase = self->window ? INSIDE : OUTSIDE; }

static PyObject *enter(PeekObject *self) {
    if (watch_signals()) return NULL;
    struct range *range = use_range(self->memory);
    if (!range) return NULL;
    int failed = window(range, self->offset, &self->length) || open_window(self);
    unuse_range(range);
    if (failed) return NULL;
    self->view = PyMemoryView_FromObject((PyObject *)self->window);
    self->errno_before = errno;
    errno = 0;
    return Py_XNewRef(self->view);
}

static PyObject *peek_enter(PeekObject *self, PyObject *unused) {
    (void)unused;
    if (!begin_phase(self, OUTSIDE, ENTERING, "this peek is entered already")) return NULL;
    PyObject *view = enter(self);
    end_phase(self);
    return view;
}

/* A system call that met a lost page answers EFAULT and does not trap, so nothing was noted. Its error may have become another's on its way (tofile's
 * has no errno), or nobody's: asyncio's transports swallow it. But what fails in this thread leaves an errno behind, which no success takes away;
 * so where any is left, or an error, the kernel is asked. A peek inside of a peek hands on what it found. */
static bool failed_meanwhile(PeekObject *self) {
    if (errno) return true;
    errno = self->errno_before;
    return false;
}

static void survey(PeekObject *self) {
    struct range *range = self->memory->range;
    Py_BEGIN_ALLOW_THREADS
    range_survey_window(range, (size_t)self->offset, (size_t)self->length);
    Py_END_ALLOW_THREADS
}

/* KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError: nobody goes on with what was read, and they must arrive. */
static bool is_no_error(PyObject *error) { return error != Py_None && PyObject_IsInstance(error, PyExc_Exception) == 0; }

static PyObject *leave(PeekObject *self, PyObject *error, bool failed) {
    if (self->view) {
        release_view(self->view);
        self->view = NULL;
    }
    /* Something made of the view is left, and what it shows must not go: the peek becomes a pin, before it ends. */
    bool kept = Py_REFCNT((PyObject *)self->window) > 1;
    if (kept && !self->window->pinned && pin_window(self)) return NULL;
    if (failed || error != Py_None) survey(self); /* while the open peek keeps the range from being closed */
    enum peek_verdict verdict = end(self->window);
    if (verdict == PEEK_WHOLE && kept && window_lost(self)) verdict = PEEK_LOST;
    Py_CLEAR(self->window);
    if (verdict != PEEK_WHOLE && !is_no_error(error)) return raise_verdict(self, verdict);
    Py_RETURN_FALSE;
}

static PyObject *peek_exit(PeekObject *self, PyObject *const *args, Py_ssize_t count) {
    bool failed = failed_meanwhile(self);
    if (!begin_phase(self, INSIDE, LEAVING, "this peek is not entered")) return NULL;
    PyObject *done = leave(self, count == 3 ? args[1] : Py_None, failed);
    end_phase(self);
    return done;
}

/* Never left. Its view, and what was made of it, may live on, over a pin as after a block; nobody can be raised to, so a loss is reported.
 * Where the pin is refused, the peek stays open. */
static void abandon(PeekObject *self) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_CLEAR(self->view);
    if (Py_REFCNT((PyObject *)self->window) > 1) {
        bool held = self->window->pinned || !pin_window(self);
        enum peek_verdict verdict = held ? end(self->window) : PEEK_WHOLE;
        if (held && verdict == PEEK_WHOLE && window_lost(self)) verdict = PEEK_LOST;
        if (verdict != PEEK_WHOLE) Py_XDECREF(raise_verdict(self, verdict));
        if (PyErr_Occurred()) PyErr_WriteUnraisable((PyObject *)self->memory);
    }
    Py_DECREF((PyObject *)self->window);
    PyErr_Restore(type, value, traceback);
}

static void peek_dealloc(PeekObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->window) abandon(self);
    Py_DECREF((PyObject *)self->memory);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static int peek_traverse(PeekObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->memory);
    Py_VISIT(self->window);
    Py_VISIT(self->view);
    return 0;
}

static PyMethodDef peek_methods[] = {
    {"__enter__", (PyCFunction)peek_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nThe view."},
    {"__exit__", (PyCFunction)(void (*)(void))peek_exit, METH_FASTCALL,
     "__exit__($self, kind, error, trace, /)\n--\n\nJudge what was read."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot peek_slots[] = {
    {Py_tp_dealloc, peek_dealloc},
    {Py_tp_traverse, peek_traverse},
    {Py_tp_methods, peek_methods},
    {Py_tp_doc, "What peek() returns: a validated look at a memory, as a context manager."},
    {0, NULL},
};
PyType_Spec peek_spec = {
    .name = "mvolatile._core.Peek",
    .basicsize = sizeof(PeekObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = peek_slots,
};
