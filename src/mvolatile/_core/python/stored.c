/* Memories that begin with a value in them, and what their memory is used for afterwards. */
#include "python/python.h"

#include <errno.h>

#include "protocol/linger.h"
#include "protocol/marker.h"
#include "protocol/spare.h"

#define FEW 16 /* parts: more are allocated */

struct views {
    Py_buffer *buffers;
    struct part *parts;
    Py_ssize_t count;
};

static void release_all(struct views *views) {
    while (views->count) PyBuffer_Release(&views->buffers[--views->count]);
}

static int open_all(struct views *views, PyObject *list, Py_ssize_t most, Py_ssize_t *nbytes) {
    for (*nbytes = 0; views->count < most; views->count++) {
        PyObject *item = PyList_GetItem(list, views->count);
        Py_buffer *buffer = &views->buffers[views->count];
        if (!item || PyObject_GetBuffer(item, buffer, PyBUF_SIMPLE)) return -1;
        views->parts[views->count] = (struct part){buffer->buf, (size_t)buffer->len};
        *nbytes += buffer->len;
    }
    return 0;
}

/* 1; 0 where there is no memory that was kept, and none else is wanted; or -1 with an exception set. */
static int open_range(MemoryObject *self, struct views *views, Py_ssize_t nbytes, unsigned options, const char *label, bool kept) {
    struct range *range;
    int err;
    if (!nbytes || self->range) {
        PyErr_SetString(PyExc_ValueError, nbytes ? "the memory is open already" : "nothing to store");
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    err = range_open_stored(views->parts, (size_t)views->count, true, options, label, kept, &range);
    Py_END_ALLOW_THREADS
    if (err == ENOENT && kept) return 0;
    if (err) {
        fail(err, "mmap, madvise or UFFDIO_COPY");
        return -1;
    }
    self->range = range;
    self->nbytes = nbytes;
    return 1;
}

static PyObject *open_stored(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 7 || !PyObject_TypeCheck(args[0], memory_type) || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "open_stored(memory, parts, dump, inherit, name, label, kept)");
        return NULL;
    }
    MemoryObject *self = (MemoryObject *)args[0];
    PyObject *list = args[1], *name = args[4];
    int dump = PyObject_IsTrue(args[2]), inherit = PyObject_IsTrue(args[3]), kept = PyObject_IsTrue(args[6]);
    const char *label = PyUnicode_AsUTF8AndSize(args[5], NULL);
    if (!label || dump < 0 || inherit < 0 || kept < 0 || ready() || watch_signals()) return NULL;
    Py_buffer few[FEW];
    struct part few_parts[FEW];
    struct views views = {few, few_parts, 0};
    Py_ssize_t most = PyList_Size(list), nbytes;
    if (most > FEW) {
        views.buffers = PyMem_Malloc((size_t)most * sizeof *views.buffers);
        views.parts = PyMem_Malloc((size_t)most * sizeof *views.parts);
    }
    int opened = -1;
    if (!views.buffers || !views.parts)
        PyErr_NoMemory();
    else if (!open_all(&views, list, most, &nbytes))
        opened = open_range(self, &views, nbytes, (dump ? RANGE_DUMP : 0) | (inherit ? 0 : RANGE_WIPE), label, kept);
    release_all(&views);
    if (most > FEW) {
        PyMem_Free(views.buffers);
        PyMem_Free(views.parts);
    }
    if (opened < 0) return NULL;
    if (!opened) Py_RETURN_FALSE;
    self->name = Py_NewRef(name);
    after_use(self);
    Py_RETURN_TRUE;
}

/* A call that is under way is not waited for: it may take as long as a copy, and the caller has a lock that others want. */
static PyObject *close_and_keep(PyObject *module, PyObject *memory) {
    (void)module;
    struct range *range;
    if (!PyObject_TypeCheck(memory, memory_type)) {
        PyErr_SetString(PyExc_TypeError, "close_and_keep() takes a Memory");
        return NULL;
    }
    if (begin_closing((MemoryObject *)memory, &range) != OURS) Py_RETURN_FALSE;
    Py_BEGIN_ALLOW_THREADS
    range_close_and_keep(range);
    Py_END_ALLOW_THREADS
    Py_RETURN_TRUE;
}

static PyObject *give_back_kept(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (ready()) return NULL;
    bool any;
    Py_BEGIN_ALLOW_THREADS
    any = range_give_back_kept();
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(any);
}

static PyObject *kept_bytes(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromSize_t(spare_bytes());
}

static PyObject *let_linger(PyObject *module, PyObject *number) {
    (void)module;
    size_t most = PyLong_AsSize_t(number);
    if (PyErr_Occurred()) return NULL;
    linger_allow(most);
    Py_RETURN_NONE;
}

static PyObject *mark_lingering(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (ready()) return NULL;
    Py_BEGIN_ALLOW_THREADS
    if (linger_bytes()) marker_give_up();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *lingering_bytes(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromSize_t(linger_bytes());
}

PyMethodDef stored_functions[] = {
    {"let_linger", let_linger, METH_O,
     "let_linger($module, most, /)\n--\n\nSo many bytes of stored values at most stay held for some milliseconds after their use."},
    {"mark_lingering", mark_lingering, METH_NOARGS, "mark_lingering($module, /)\n--\n\nWhat lingers is made volatile now."},
    {"lingering_bytes", lingering_bytes, METH_NOARGS, "lingering_bytes($module, /)\n--\n\nHow much is held so now."},
    {"open_stored", (PyCFunction)(void (*)(void))open_stored, METH_FASTCALL,
     "open_stored($module, memory, parts, dump, inherit, name, label, kept, /)\n--\n\nTake memory with `parts` in it, once. `kept`: only what was kept of others; "
     "False if there is none."},
    {"close_and_keep", close_and_keep, METH_O,
     "close_and_keep($module, memory, /)\n--\n\nClose it, and let its memory serve for the next that is stored. False, and nothing changed, if anybody uses it."},
    {"give_back_kept", give_back_kept, METH_NOARGS,
     "give_back_kept($module, /)\n--\n\nWhat is kept of closed memories goes back to the kernel; whether there was any."},
    {"kept_bytes", kept_bytes, METH_NOARGS, "kept_bytes($module, /)\n--\n\nHow much is kept now."},
    {NULL, NULL, 0, NULL},
};
