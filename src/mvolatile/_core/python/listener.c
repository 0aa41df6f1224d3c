/* Listener, over listener.c. */
#define PY_SSIZE_T_CLEAN
#include "python/python.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/listener.h"
#include "protocol/watch.h"

typedef struct {
    PyObject_HEAD
    struct listener *listener;
} ListenerObject;

static PyTypeObject *listener_type;

/* ---- forks in C ------------------------------------------------------------------------------------------------------------------- *
 *
 * os.fork() makes Python's lock (the GIL) anew in the child; a fork in C does not. The bad schedule: a thread of ours waits for the lock, which the
 * thread that forks holds. The child has a lock that somebody waits for who is not there, and gives way to him for ever. So while somebody forks
 * no thread that listens may want the lock: those that work are waited for, and those that are told meanwhile wait. (A thread of the program's
 * does the same harm, and is the program's affair; so is what a callback of it does in ours, after a while.) */
static _Atomic int working, forking; /* threads that listen, but for those in wait(); forks */
static OF_EACH_THREAD bool listens, by_python; /* it is in os.fork(), which holds more of Python's locks, and makes all of them anew */
static PyThreadState *(*who_has_lock)(void); /* not in the limited API, but in every Python: PyThreadState_GetUnchecked since 3.13 */
#define PATIENCE 1000000000 /* ns */

static bool others_work(void) { return atomic_load(&working) > listens; }

/* Not PyGILState_Check(), which says yes to every thread once there was a subinterpreter. */
static bool has_lock(void) {
    PyThreadState *mine = PyGILState_GetThisThreadState();
    return mine && who_has_lock && who_has_lock() == mine;
}

static void quiet(void) {
    atomic_fetch_add(&forking, 1);
    if (by_python || !others_work() || !has_lock()) return;
    int64_t until = os_now() + PATIENCE;
    Py_BEGIN_ALLOW_THREADS
    while (others_work() && os_now() < until) os_pause();
    Py_END_ALLOW_THREADS
}

static void loud(bool in_child) {
    atomic_fetch_sub(&forking, 1);
    if (!in_child) return;
    atomic_store(&forking, 0);
    atomic_store(&working, listens);
}

static void begin_work(void) {
    while (atomic_fetch_add(&working, 1), atomic_load(&forking)) {
        atomic_fetch_sub(&working, 1);
        os_nap();
    }
}

static void end_work(void) { atomic_fetch_sub(&working, 1); }

PyObject *listener_work(PyObject *module, PyObject *step) {
    (void)module;
    long now = PyLong_AsLong(step);
    if (now == -1 && PyErr_Occurred()) return NULL;
    if (now > 0) {
        Py_BEGIN_ALLOW_THREADS
        begin_work();
        Py_END_ALLOW_THREADS
    }
    if (!now) listens = true;
    if (now < 0) {
        listens = false;
        end_work();
    }
    Py_RETURN_NONE;
}

PyObject *listener_forks_by_python(PyObject *module, PyObject *begins) {
    (void)module;
    by_python = begins == Py_True;
    Py_RETURN_NONE;
}

/* One source of a tuple, its texts copied to `*at`, or with `at` NULL how much room they take; -1 with an exception set. */
static Py_ssize_t read_source(PyObject *described, struct source *source, char **at) {
    int kind;
    const char *parts[3];
    Py_ssize_t length;
    if (!PyArg_ParseTuple(described, "iyyy#;a source is (kind, path, control, text)", &kind, &parts[0], &parts[1], &parts[2], &length)) return -1;
    size_t sizes[] = {strlen(parts[0]) + 1, strlen(parts[1]) + 1, (size_t)length + 1};
    const char **into[] = {&source->path, &source->control, &source->text};
    if (at) {
        source->kind = (enum source_kind)kind;
        source->length = (size_t)length;
        source->fd = -1;
        for (int i = 0; i < 3; i++) {
            *into[i] = memcpy(*at, parts[i], sizes[i]);
            *at += sizes[i];
        }
    }
    return (Py_ssize_t)(sizes[0] + sizes[1] + sizes[2]);
}

static struct listener *read_sources(PyObject *described) {
    Py_ssize_t count = PyTuple_Size(described), needed = 1, size;
    if (count < 0) return NULL;
    if (count > LISTENER_SOURCES) {
        PyErr_Format(PyExc_ValueError, "a listener has at most %d sources", LISTENER_SOURCES);
        return NULL;
    }
    struct source scrap;
    for (Py_ssize_t i = 0; i < count; i++, needed += size)
        if ((size = read_source(PyTuple_GetItem(described, i), &scrap, NULL)) < 0) return NULL;
    struct listener *listener = calloc(1, sizeof *listener);
    char *at = listener ? listener->texts = malloc((size_t)needed) : NULL;
    if (!at) {
        free(listener);
        PyErr_NoMemory();
        return NULL;
    }
    listener->count = (unsigned)count;
    for (Py_ssize_t i = 0; i < count; i++) read_source(PyTuple_GetItem(described, i), &listener->sources[i], &at);
    return listener;
}

static PyObject *listener_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *described;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!:Listener", &PyTuple_Type, &described)) return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ListenerObject *self = (ListenerObject *)alloc(type, 0);
    if (!self) return NULL;
    struct listener *listener = self->listener = read_sources(described);
    int err = 0;
    if (listener && (err = listener_start(listener))) fail(err, "pthread_create");
    /* An interrupt while it opens leaves the object, whose end is the watcher's. */
    while (listener && !err && !PyErr_Occurred()) {
        int interrupted;
        Py_BEGIN_ALLOW_THREADS
        interrupted = listener_wait_until_opened(listener);
        Py_END_ALLOW_THREADS
        if (!interrupted) {
            if (listener->err) fail(listener->err, "close_range(CLOSE_RANGE_UNSHARE)");
            break;
        }
        PyErr_CheckSignals();
    }
    if (!PyErr_Occurred()) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void listener_dealloc(ListenerObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->listener) listener_drop(self->listener);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *listener_wait_method(ListenerObject *self, PyObject *nanoseconds) {
    long long left = PyLong_AsLongLong(nanoseconds);
    if (left == -1 && PyErr_Occurred()) return NULL;
    int64_t deadline = left < 0 ? -1 : os_now() + left;
    for (;;) {
        unsigned source = 0;
        int err;
        Py_BEGIN_ALLOW_THREADS
        if (listens) end_work();
        err = listener_wait(self->listener, left, &source);
        if (listens) begin_work();
        Py_END_ALLOW_THREADS
        if (!err) return Py_BuildValue("(iL)", (int)source, (long long)atomic_load(&self->listener->when[source]));
        if (err != EINTR) Py_RETURN_NONE;
        if (PyErr_CheckSignals()) return NULL;
        if (deadline >= 0 && (left = deadline - os_now()) < 0) left = 0;
    }
}

static PyObject *listener_end_method(ListenerObject *self, PyObject *unused) {
    (void)unused;
    listener_end(self->listener);
    Py_RETURN_NONE;
}

static PyObject *listener_get_ended(ListenerObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(listener_ended(self->listener));
}

static PyObject *listener_get_refused(ListenerObject *self, void *unused) {
    (void)unused;
    PyObject *refused = PyTuple_New((Py_ssize_t)self->listener->count);
    for (unsigned i = 0; refused && i < self->listener->count; i++) {
        PyObject *err = PyLong_FromLong(atomic_load(&self->listener->refused[i]));
        if (!err || PyTuple_SetItem(refused, (Py_ssize_t)i, err)) Py_CLEAR(refused);
    }
    return refused;
}

static PyMethodDef listener_methods[] = {
    {"wait", (PyCFunction)listener_wait_method, METH_O,
     "wait($self, nanoseconds, /)\n--\n\n(source, when in nanoseconds) of pressure that nobody was told of; None after so long (-1: never), when it has "
     "ended, and in a forked child."},
    {"end", (PyCFunction)listener_end_method, METH_NOARGS, "end($self, /)\n--\n\nWake who waits; the watcher goes within a second."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef listener_getset[] = {
    {"ended", (getter)listener_get_ended, NULL, "Whether nothing will be told any more; also in a forked child.", NULL},
    {"refused", (getter)listener_get_refused, NULL, "For each source 0, or the errno by which it was refused or has ended.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot listener_slots[] = {
    {Py_tp_new, listener_new},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_methods, listener_methods},
    {Py_tp_getset, listener_getset},
    {Py_tp_doc, "Listener(sources, /)\n--\n\nWatches (kind, path, control, text) in a thread with descriptors of its own; OSError where there can be none."},
    {0, NULL},
};
static PyType_Spec listener_spec = {
    .name = "mvolatile._core.Listener",
    .basicsize = sizeof(ListenerObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = listener_slots,
};

int add_listener_type(PyObject *module) {
    void *found = dlsym(RTLD_DEFAULT, "PyThreadState_GetUnchecked");
    if (!found) found = dlsym(RTLD_DEFAULT, "_PyThreadState_UncheckedGet");
    who_has_lock = (PyThreadState * (*)(void))(uintptr_t)found;
    watch_quiet = quiet;
    watch_loud = loud;
    listener_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
    return !listener_type || PyModule_AddObjectRef(module, "Listener", (PyObject *)listener_type) ? -1 : 0;
}
