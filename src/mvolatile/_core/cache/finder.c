/* Finder: a cache's hit, in one call. What a shelf is, and all that is not a plain hit, is told in mvolatile/cache.
 *
 * A locator is shelf number << 21 | slot << 4 | kind. `index` (key to locator; index.c) and the dictionary `shelves` (number to Shelf, or to
 * what is none) are changed by Python under the cache's lock; a hit takes no lock but the GIL. Whatever is not as usual (no such key, no such
 * shelf, a loss, a value that must be decoded) goes to the methods _find_carefully(key) and _decoded(key, locator, bytes). */
#include "cache/cache.h"

#include <structmember.h>

#define KIND_BITS 4
#define NUMBER_SHIFT 21
enum { BYTES, STR };

typedef struct {
    PyObject_HEAD
    PyObject *index, *shelves;
    unsigned long long hits, misses;
} FinderObject;

static PyObject *missing, *find_carefully, *decoded;

#define COUNT(self, what) \
    do {                  \
        LOCK(self);       \
        (self)->what++;   \
        UNLOCK();         \
    } while (0)

static PyObject *finder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    FinderObject *self = (FinderObject *)allocate(type, 0);
    if (!self) return NULL;
    self->index = index_make();
    self->shelves = PyDict_New();
    if (self->index && self->shelves) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int finder_traverse(FinderObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->index);
    Py_VISIT(self->shelves);
    return 0;
}

static int finder_clear(FinderObject *self) {
    Py_CLEAR(self->index);
    Py_CLEAR(self->shelves);
    return 0;
}

static void finder_dealloc(FinderObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    finder_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* The bytes of a small value; NULL without an exception for all that is not that simple. */
static PyObject *find_bytes(FinderObject *self, unsigned long long locator) {
    PyObject *number = PyLong_FromUnsignedLongLong(locator >> NUMBER_SHIFT), *bytes = NULL;
    PyObject *shelf = number ? find_in_dict(self->shelves, number) : NULL;
    Py_XDECREF(number);
    if (!shelf) return NULL;
    uint32_t slot = (uint32_t)(locator >> KIND_BITS) & ((1u << (NUMBER_SHIFT - KIND_BITS)) - 1);
    if (Py_TYPE(shelf) == shelf_type) bytes = shelf_use(shelf, slot);
    Py_DECREF(shelf);
    return bytes;
}

/* Perhaps there was no memory to decode it in: Python gives others up then, and looks again. */
__attribute__((noinline, cold)) static PyObject *find_again(FinderObject *self, PyObject *key) {
    PyErr_Clear();
    return PyObject_CallMethodObjArgs((PyObject *)self, find_carefully, key, NULL);
}

/* A new reference to the value or to `missing`. */
static PyObject *find(FinderObject *self, PyObject *key) {
    PyObject *locator = find_in_index(self->index, key), *value;
    if (!locator) return PyErr_Occurred() ? NULL : Py_NewRef(missing);
    unsigned long long packed = PyLong_AsUnsignedLongLong(locator);
    unsigned kind = packed & ((1u << KIND_BITS) - 1);
    PyObject *bytes = find_bytes(self, packed);
    if (!bytes) {
        value = PyErr_Occurred() ? NULL : PyObject_CallMethodObjArgs((PyObject *)self, find_carefully, key, NULL);
    } else if (kind == BYTES) {
        value = Py_NewRef(bytes);
    } else if (kind == STR) {
        value = PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), PyBytes_Size(bytes), "surrogatepass");
    } else {
        value = PyObject_CallMethodObjArgs((PyObject *)self, decoded, key, locator, bytes, NULL);
    }
    if (!value && (PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_OSError))) value = find_again(self, key);
    Py_XDECREF(bytes);
    Py_DECREF(locator);
    if (value && value != missing) COUNT(self, hits);
    return value;
}

static PyObject *finder_find(FinderObject *self, PyObject *key) { return find(self, key); }

static PyObject *finder_subscript(FinderObject *self, PyObject *key) {
    PyObject *value = find(self, key);
    if (!value || value != missing) return value;
    Py_DECREF(value);
    COUNT(self, misses);
    PyObject *error = PyTuple_Pack(1, key); /* a tuple as key must stay one */
    if (error) PyErr_SetObject(PyExc_KeyError, error);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *finder_get(FinderObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    PyObject *fallback = count > 1 ? args[1] : Py_None;
    if (named == 1 && count == 1 && !PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "default")) {
        fallback = args[1];
    } else if (count < 1 || count > 2 || named) {
        PyErr_SetString(PyExc_TypeError, "get(key, /, default=None)");
        return NULL;
    }
    PyObject *value = find(self, args[0]);
    if (!value || value != missing) return value;
    Py_DECREF(value);
    COUNT(self, misses);
    return Py_NewRef(fallback);
}

static PyObject *finder_count_miss(FinderObject *self, PyObject *unused) {
    (void)unused;
    COUNT(self, misses);
    Py_RETURN_NONE;
}

static PyObject *finder_count_hit(FinderObject *self, PyObject *unused) {
    (void)unused;
    COUNT(self, hits);
    Py_RETURN_NONE;
}

static PyObject *finder_counts(FinderObject *self, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("(KK)", self->hits, self->misses);
}

static PyObject *finder_reset(FinderObject *self, PyObject *unused) {
    (void)unused;
    self->hits = self->misses = 0;
    Py_RETURN_NONE;
}

static PyMethodDef finder_methods[] = {
    {"_find", (PyCFunction)finder_find, METH_O, "_find($self, key, /)\n--\n\nThe value, or MISSING. Counts hits."},
    {"get", (PyCFunction)(void (*)(void))finder_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, key, /, default=None)\n--\n\nThe value, or `default`."},
    {"_count_miss", (PyCFunction)finder_count_miss, METH_NOARGS, "_count_miss($self, /)\n--\n\nOne miss more."},
    {"_count_hit", (PyCFunction)finder_count_hit, METH_NOARGS, "_count_hit($self, /)\n--\n\nOne hit more."},
    {"_counts", (PyCFunction)finder_counts, METH_NOARGS, "_counts($self, /)\n--\n\n(hits, misses)."},
    {"_reset_counts", (PyCFunction)finder_reset, METH_NOARGS, "_reset_counts($self, /)\n--\n\nBegin to count anew."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef finder_members[] = {
    {"_index", T_OBJECT_EX, offsetof(FinderObject, index), READONLY, "key -> locator"},
    {"_shelves", T_OBJECT_EX, offsetof(FinderObject, shelves), READONLY, "number -> Shelf, or something else"},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot finder_slots[] = {
    {Py_tp_new, finder_new},
    {Py_tp_dealloc, finder_dealloc},
    {Py_tp_traverse, finder_traverse},
    {Py_tp_clear, finder_clear},
    {Py_tp_methods, finder_methods},
    {Py_tp_members, finder_members},
    {Py_mp_subscript, finder_subscript},
    {Py_tp_doc, "The reading half of VolatileCache."},
    {0, NULL},
};
static PyType_Spec finder_spec = {
    .name = "mvolatile._core.Finder",
    .basicsize = sizeof(FinderObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = finder_slots,
};

/* ---- MISSING ------------------------------------------------------------------------------------------------------------------------ */

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

static PyObject *make_missing(void) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&missing_spec);
    PyObject *made = type ? PyObject_New(PyObject, type) : NULL;
    Py_XDECREF((PyObject *)type);
    return made;
}

int add_finder_type(PyObject *module) {
    if (add_index_type(module) || add_shelf_type(module)) return -1;
    missing = make_missing();
    find_carefully = PyUnicode_InternFromString("_find_carefully");
    decoded = PyUnicode_InternFromString("_decoded");
    if (!missing || !find_carefully || !decoded || PyModule_AddObjectRef(module, "MISSING", missing)) return -1;
    PyObject *finder = PyType_FromModuleAndSpec(module, &finder_spec, NULL);
    int failed = !finder || PyModule_AddObjectRef(module, "Finder", finder);
    Py_XDECREF(finder);
    return failed ? -1 : 0;
}
