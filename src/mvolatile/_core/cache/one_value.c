/* OneValue: what is asked of a large value each time that it is read, stored or passed over, the base of LargeValue (mvolatile/cache/store). As a class in
 * Python it took a call for each answer, a microsecond of each store in a cache full of them. */
#include "cache/cache.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    struct one_value value;
} OneValueObject;

static PyTypeObject *one_value_type;

struct one_value *one_value_of(PyObject *region) {
    return PyObject_TypeCheck(region, one_value_type) ? &((OneValueObject *)region)->value : NULL;
}

static PyObject *visits(OneValueObject *self, PyObject *slot) {
    (void)slot;
    return PyLong_FromSsize_t(self->value.read_since);
}

static PyObject *cost(OneValueObject *self, PyObject *slot) {
    (void)slot;
    return PyLong_FromSsize_t(self->value.took);
}

static PyObject *size(OneValueObject *self, PyObject *slot) {
    (void)slot;
    return PyLong_FromSsize_t(self->value.used);
}

static PyObject *visit(OneValueObject *self, PyObject *slot) {
    (void)slot;
    self->value.read_since++;
    Py_RETURN_NONE;
}

static PyObject *stay(OneValueObject *self, PyObject *args) {
    return PyArg_ParseTuple(args, "nn", &self->value.queue, &self->value.read_since) ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef one_value_methods[] = {
    {"visits", (PyCFunction)visits, METH_O, "visits($self, slot, /)\n--\n\nHow often it was read since it was stored, or since the evictor passed."},
    {"cost", (PyCFunction)cost, METH_O, "cost($self, slot, /)\n--\n\nThe class of what it took to make."},
    {"size", (PyCFunction)size, METH_O, "size($self, slot, /)\n--\n\nIts bytes."},
    {"visit", (PyCFunction)visit, METH_O, "visit($self, slot, /)\n--\n\nIt was read."},
    {"stay", (PyCFunction)stay, METH_VARARGS, "stay($self, queue, visits, /)\n--\n\nThe evictor passed, and left it."},
    {NULL, NULL, 0, NULL},
};
#define OF(field) offsetof(OneValueObject, value.field)
static PyMemberDef one_value_members[] = {
    {"number", T_PYSSIZET, OF(number), 0, "As a region."},
    {"queue", T_PYSSIZET, OF(queue), 0, "Into which it was stored, or in which it stays."},
    {"used", T_PYSSIZET, OF(used), 0, "Its bytes."},
    {"read_since", T_PYSSIZET, OF(read_since), 0, "How often."},
    {"took", T_PYSSIZET, OF(took), 0, "The class of what it took to make."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot one_value_slots[] = {
    {Py_tp_methods, one_value_methods},
    {Py_tp_members, one_value_members},
    {Py_tp_doc, "OneValue()\n--\n\nWhat is asked of a large value by who evicts; its one slot is 0."},
    {0, NULL},
};
static PyType_Spec one_value_spec = {
    .name = "mvolatile._core.OneValue",
    .basicsize = sizeof(OneValueObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = one_value_slots,
};

int add_one_value_type(PyObject *module) {
    one_value_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &one_value_spec, NULL);
    return !one_value_type || PyModule_AddObjectRef(module, "OneValue", (PyObject *)one_value_type) ? -1 : 0;
}
