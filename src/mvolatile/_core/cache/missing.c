/* MISSING: what a lookup answers for a key that is not there. */
#include "cache/cache.h"

PyObject *missing;

/* By name, as None does. The bad schedule: cloudpickle sends a function that compares with MISSING, by value; at the other end it would compare
 * with an object that nobody else has, and take a miss for a value. */
static PyObject *missing_reduce(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyUnicode_FromString("MISSING");
}

static PyMethodDef missing_methods[] = {
    {"__reduce__", missing_reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\nIts name."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot missing_slots[] = {{Py_tp_methods, missing_methods}, {Py_tp_doc, "The type of MISSING."}, {0, NULL}};
static PyType_Spec missing_spec = {
    .name = "mvolatile._core.Missing",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = missing_slots,
};

int add_missing(PyObject *module) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&missing_spec);
    missing = type ? PyObject_New(PyObject, type) : NULL;
    Py_XDECREF((PyObject *)type);
    return !missing || PyModule_AddObjectRef(module, "MISSING", missing) ? -1 : 0;
}
