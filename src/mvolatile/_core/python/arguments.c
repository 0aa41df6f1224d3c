/* What is wrong with a call, and what the kernel refused. */
#include <string.h>

#include "python/python.h"

PyObject *fail(int err, const char *call) {
    PyObject *args = Py_BuildValue("(iN)", err, PyUnicode_FromFormat("%s: %s", call, strerror(err)));
    if (args) PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    return NULL;
}

int window(struct range *range, Py_ssize_t offset, Py_ssize_t *length) {
    Py_ssize_t nbytes = (Py_ssize_t)range->nbytes;
    bool begins = offset >= 0 && offset <= nbytes, rest = *length == TO_THE_END;
    if (begins && rest) *length = nbytes - offset;
    if (begins && *length >= 0 && *length <= nbytes - offset) return 0;
    if (rest)
        PyErr_Format(PyExc_ValueError, "offset %zd is not within a memory of %zd bytes", offset, nbytes);
    else
        PyErr_Format(PyExc_ValueError, "%zd bytes from offset %zd are not within a memory of %zd bytes", *length, offset, nbytes);
    return -1;
}

bool two_sizes(PyObject *const *args, Py_ssize_t count, Py_ssize_t *first, Py_ssize_t *second, const char *usage) {
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, usage);
        return false;
    }
    *first = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    if (*first == -1 && PyErr_Occurred()) return false;
    if (count == 2 && args[1] != Py_None) {
        *second = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
        if (*second == -1 && PyErr_Occurred()) return false;
        if (*second == TO_THE_END) *second = -1; /* as wrong */
    }
    return true;
}
