/* The limit on what volatile memory adds to RSS, as the library's own Python sets and asks it. */
#include "protocol/giveback.h"
#include "protocol/marker.h"
#include "protocol/residence.h"
#include "protocol/spare.h"
#include "python/python.h"

static PyObject *limit_residence(PyObject *module, PyObject *nbytes) {
    (void)module;
    size_t most = SIZE_MAX, given;
    if (nbytes != Py_None && (most = PyLong_AsSize_t(nbytes)) == (size_t)-1 && PyErr_Occurred()) return NULL;
    if (ready()) return NULL;
    atomic_store(&residence_limit, most);
    Py_BEGIN_ALLOW_THREADS
    marker_give_up();
    given = giveback_look();
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(given);
}

static PyObject *residence(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (ready()) return NULL;
    size_t most = atomic_load(&residence_limit), total = atomic_load(&residence_total), kept = spare_bytes();
    PyObject *limit = most == SIZE_MAX ? Py_NewRef(Py_None) : PyLong_FromSize_t(most);
    return limit ? Py_BuildValue("(nnN)", (Py_ssize_t)total, (Py_ssize_t)kept, limit) : NULL;
}

static PyObject *resident_limit(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    size_t most = atomic_load(&residence_limit);
    return most == SIZE_MAX ? Py_NewRef(Py_None) : PyLong_FromSize_t(most);
}

static PyObject *give_back(PyObject *module, PyObject *most) {
    (void)module;
    size_t bytes = PyLong_AsSize_t(most), given;
    if ((bytes == (size_t)-1 && PyErr_Occurred()) || ready()) return NULL;
    Py_BEGIN_ALLOW_THREADS
    marker_give_up();
    given = giveback_until(bytes);
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(given);
}

static PyObject *held_bytes(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (ready()) return NULL;
    size_t held;
    Py_BEGIN_ALLOW_THREADS
    marker_give_up();
    held = giveback_held();
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(held);
}

static PyObject *pageout_of(PyObject *module, PyObject *args) {
    (void)module;
    int pidfd, err;
    Py_ssize_t start, nbytes;
    if (!PyArg_ParseTuple(args, "inn:pageout_of", &pidfd, &start, &nbytes)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = os_pageout_of(pidfd, (uintptr_t)start, (size_t)nbytes);
    Py_END_ALLOW_THREADS
    if (err) return fail(err, "process_madvise(MADV_PAGEOUT)");
    Py_RETURN_NONE;
}

PyMethodDef residence_functions[] = {
    {"resident_limit", resident_limit, METH_NOARGS, "resident_limit($module, /)\n--\n\nBytes that volatile memory may take of RSS now; None for any."},
    {"limit_residence", limit_residence, METH_O,
     "limit_residence($module, nbytes, /)\n--\n\nVolatile memory may take so much of RSS from now on, None: any. Keeps it now; the bytes that went."},
    {"residence", residence, METH_NOARGS, "residence($module, /)\n--\n\n(bytes there at most, those of them that are kept for the next, the limit or None)."},
    {"give_back", give_back, METH_O, "give_back($module, most, /)\n--\n\nHave no more than that there now, the oldest going first; the bytes that went."},
    {"pageout_of", pageout_of, METH_VARARGS,
     "pageout_of($module, pidfd, address, nbytes, /)\n--\n\nHave the kernel reclaim that of another process now, as far as it can."},
    {"held_bytes", held_bytes, METH_NOARGS, "held_bytes($module, /)\n--\n\nBytes that cannot be given back now: held, or refused to be volatile."},
    {NULL, NULL, 0, NULL},
};
