/* Shelf and Finder: a cache's hit, in one call. What a shelf is, and all that is not a plain hit, is told in mvolatile/cache.
 *
 * A locator is shelf number << 21 | slot << 4 | kind. `index` (key to locator; index.c) and the dictionary `shelves` (number to Shelf, or to
 * what is none) are changed by Python under the cache's lock; a hit takes no lock but the GIL. Whatever is not as usual (no such key, no such
 * shelf, a loss, a value that must be decoded) goes to the methods _find_carefully(key) and _decoded(key, locator, bytes). */
#include "python.h"

#include <string.h>
#include <structmember.h>

#define KIND_BITS 4
#define NUMBER_SHIFT 21
enum { BYTES, STR };

/* ---- Shelf: many small values in one Range ----------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    RangeObject *memory; /* NULL: given to another shelf */
    bool open; /* somebody holds a write pin: published bytes may be read in place */
    uint32_t count, room;
    uint32_t *ends; /* of each slot */
    uint8_t *marks; /* read since the hand passed */
} ShelfObject;

static PyTypeObject *shelf_type;

static PyObject *shelf_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    PyObject *memory;
    if (!PyArg_ParseTuple(args, "O!", range_type, &memory)) return NULL;
    ShelfObject *self = PyObject_New(ShelfObject, type);
    if (!self) return NULL;
    self->memory = (RangeObject *)Py_NewRef(memory);
    self->open = true;
    self->count = self->room = 0;
    self->ends = NULL;
    self->marks = NULL;
    return (PyObject *)self;
}

static void shelf_dealloc(ShelfObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->ends);
    PyMem_Free(self->marks);
    Py_XDECREF((PyObject *)self->memory);
    PyObject_Free(self);
    Py_DECREF(type);
}

static bool make_room(ShelfObject *self) {
    if (self->count < self->room) return true;
    uint32_t room = self->room ? self->room * 2 : 16;
    uint32_t *ends = PyMem_Realloc(self->ends, room * sizeof *ends);
    if (ends) self->ends = ends;
    uint8_t *marks = ends ? PyMem_Realloc(self->marks, room) : NULL;
    if (!marks) return false;
    self->marks = marks;
    self->room = room;
    return true;
}

static size_t used(ShelfObject *self) { return self->count ? self->ends[self->count - 1] : 0; }

static PyObject *shelf_append(ShelfObject *self, PyObject *args) {
    Py_buffer data;
    int mark = 0;
    if (!PyArg_ParseTuple(args, "y*|p", &data, &mark)) return NULL;
    size_t at = used(self), n = (size_t)data.len;
    PyObject *slot = NULL;
    if (!self->open || !self->memory || !self->memory->range || n > (size_t)self->memory->nbytes - at) {
        PyErr_SetString(PyExc_ValueError, "the shelf is sealed or full");
    } else if (!make_room(self)) {
        PyErr_NoMemory();
    } else if ((slot = PyLong_FromUnsignedLong(self->count))) {
        memcpy(self->memory->range->base + at, data.buf, n);
        self->ends[self->count] = (uint32_t)(at + n);
        self->marks[self->count++] = (uint8_t)mark;
    }
    PyBuffer_Release(&data);
    return slot;
}

static bool find_slot(ShelfObject *self, PyObject *number, uint32_t *slot) {
    unsigned long value = PyLong_AsUnsignedLong(number);
    if (value == (unsigned long)-1 && PyErr_Occurred()) return false;
    if (value >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such slot");
        return false;
    }
    *slot = (uint32_t)value;
    return true;
}

static uint32_t start_of(ShelfObject *self, uint32_t slot) { return slot ? self->ends[slot - 1] : 0; }

static PyObject *shelf_bounds(ShelfObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return Py_BuildValue("(kk)", (unsigned long)start_of(self, slot), (unsigned long)(self->ends[slot] - start_of(self, slot)));
}

static PyObject *shelf_marked(ShelfObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return PyBool_FromLong(self->marks[slot]);
}

static PyObject *shelf_mark(ShelfObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    self->marks[slot] = 1;
    Py_RETURN_NONE;
}

static PyObject *shelf_close(ShelfObject *self, PyObject *unused) {
    (void)unused;
    self->open = false;
    Py_RETURN_NONE;
}

static PyObject *shelf_let_go(ShelfObject *self, PyObject *unused) {
    (void)unused;
    self->open = false;
    Py_CLEAR(self->memory);
    Py_RETURN_NONE;
}

static PyObject *get_used(ShelfObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(used(self));
}

static PyObject *get_count(ShelfObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->count);
}

static PyObject *get_has_memory(ShelfObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->memory != NULL);
}

/* The bytes of a slot; NULL without an exception where only Python can tell.
 *
 * The bad schedule: we found our locator, the shelf is retired and its memory given to another, which writes and is sealed, and then we
 * copy: a whole peek of another's bytes. The memory is let go before it is given away, so who still has it after copying read its own. */
static PyObject *fetch(ShelfObject *self, uint32_t slot) {
    RangeObject *memory = self->memory;
    if (!memory) return NULL;
    uint32_t at = start_of(self, slot);
    Py_ssize_t n = (Py_ssize_t)(self->ends[slot] - at);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n);
    if (!bytes) return NULL;
    Py_INCREF((PyObject *)memory); /* copying may release the GIL */
    struct range *range = use_range(memory);
    int err = range ? 0 : -1;
    if (range && self->open && !atomic_load(&range->lossy)) /* a forked child may not have inherited what is held */
        memcpy(PyBytes_AsString(bytes), range->base + at, (size_t)n);
    else if (range)
        err = copy_out(range, (Py_ssize_t)at, n, PyBytes_AsString(bytes));
    if (range) unuse_range(range);
    if (self->memory != memory) err = -1;
    Py_DECREF((PyObject *)memory);
    if (!err) return bytes;
    PyErr_Clear();
    Py_DECREF(bytes);
    return NULL;
}

/* The offsets move when they grow. */
#define LOCKED(method)                                                      \
    static PyObject *method##_locked(ShelfObject *self, PyObject *argument) { \
        PyObject *result;                                                   \
        LOCK(self);                                                         \
        result = method(self, argument);                                    \
        UNLOCK();                                                           \
        return result;                                                      \
    }
LOCKED(shelf_append)
LOCKED(shelf_bounds)
LOCKED(shelf_marked)
LOCKED(shelf_mark)
LOCKED(shelf_close)
LOCKED(shelf_let_go)

static PyMethodDef shelf_methods[] = {
    {"append", (PyCFunction)shelf_append_locked, METH_VARARGS,
     "append($self, data, mark=False, /)\n--\n\nThe slot. ValueError when sealed or full."},
    {"bounds", (PyCFunction)shelf_bounds_locked, METH_O, "bounds($self, slot, /)\n--\n\n(offset, length)."},
    {"marked", (PyCFunction)shelf_marked_locked, METH_O,
     "marked($self, slot, /)\n--\n\nWhether the slot was read since it was stored or moved."},
    {"mark", (PyCFunction)shelf_mark_locked, METH_O, "mark($self, slot, /)\n--\n\nNote that the slot was read."},
    {"close", (PyCFunction)shelf_close_locked, METH_NOARGS,
     "close($self, /)\n--\n\nNo more is appended, and reads no longer rely on a pin."},
    {"let_go", (PyCFunction)shelf_let_go_locked, METH_NOARGS,
     "let_go($self, /)\n--\n\nThe memory is another's from now on: reads under way find nothing."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef shelf_attributes[] = {
    {"used", (getter)get_used, NULL, "Bytes taken.", NULL},
    {"count", (getter)get_count, NULL, "Slots taken.", NULL},
    {"has_memory", (getter)get_has_memory, NULL, "Whether it has not been let go.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot shelf_slots[] = {
    {Py_tp_new, shelf_new},
    {Py_tp_dealloc, shelf_dealloc},
    {Py_tp_methods, shelf_methods},
    {Py_tp_getset, shelf_attributes},
    {Py_tp_doc, "Shelf(memory, /)\n--\n\n"
                "Small values one after another in a memory that the caller holds for writing until close()."},
    {0, NULL},
};
static PyType_Spec shelf_spec = {
    .name = "mvolatile._core.Shelf",
    .basicsize = sizeof(ShelfObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = shelf_slots,
};

/* ---- Finder: from key to value ------------------------------------------------------------------------------------------------------ */

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
    ShelfObject *shelf = number ? (ShelfObject *)find_in_dict(self->shelves, number) : NULL;
    Py_XDECREF(number);
    if (!shelf) return NULL;
    uint32_t slot = (uint32_t)(locator >> KIND_BITS) & ((1u << (NUMBER_SHIFT - KIND_BITS)) - 1);
    if (Py_TYPE((PyObject *)shelf) == shelf_type) {
        LOCK(shelf);
        bool there = slot < shelf->count && (shelf->open || !watch_signals()); /* what is held does not trap */
        bytes = there ? fetch(shelf, slot) : NULL;
        if (bytes) shelf->marks[slot] = 1;
        UNLOCK();
    }
    Py_DECREF((PyObject *)shelf);
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

int add_shelf_types(PyObject *module) {
    if (add_index_type(module)) return -1;
    missing = make_missing();
    find_carefully = PyUnicode_InternFromString("_find_carefully");
    decoded = PyUnicode_InternFromString("_decoded");
    if (!missing || !find_carefully || !decoded || PyModule_AddObjectRef(module, "MISSING", missing)) return -1;
    PyObject *finder = PyType_FromModuleAndSpec(module, &finder_spec, NULL);
    shelf_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shelf_spec, NULL);
    int failed = !finder || !shelf_type || PyModule_AddObjectRef(module, "Finder", finder) ||
                 PyModule_AddObjectRef(module, "Shelf", (PyObject *)shelf_type);
    Py_XDECREF(finder);
    return failed ? -1 : 0;
}
