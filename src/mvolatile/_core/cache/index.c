/* Index: a dictionary in parts, so that no step of its growth takes much memory.
 *
 * A dict that is two thirds full, with what was deleted counted in, moves to a new table beside the old one: at a million entries that is tens
 * of megabytes at once of memory that is not volatile, which under a limit there may be nothing left to pay for. Here a part has some
 * thousands of entries, and one part is split, or two are made one, at a time (spiral hashing: Martin, 1979).
 *
 * One thread writes at a time, under the cache's lock; any may read. A part that is split or joined is copied, and the copies take its place
 * in one step under the GIL: a reader is in the old one, which is as it was when the read began, or in the new. Never in place: a key that
 * stands in two parts after an error half way would bring back the older of two values. */
#include "cache/cache.h"

#define ENTRIES 7400 /* of a part, on average; 1.44 times that, in the fullest, just fit a table of 320 KB */

typedef struct {
    PyObject_HEAD
    PyObject **parts; /* dicts; from the first to the last always one */
    size_t count;
    size_t entries; /* roughly: a fork in the middle of a change leaves it behind. Counted anew when it matters */
} IndexObject;

static PyTypeObject *index_type;

static PyObject *index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    IndexObject *self = (IndexObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    self->parts = PyMem_Malloc(sizeof *self->parts);
    if (self->parts && (self->parts[0] = PyDict_New())) {
        self->count = 1;
        return (PyObject *)self;
    }
    if (!self->parts) PyErr_NoMemory();
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int index_traverse(IndexObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    for (size_t i = 0; i < self->count; i++) Py_VISIT(self->parts[i]);
    return 0;
}

/* Finalizers that come later still find an index. */
static int index_clear_cycle(IndexObject *self) {
    for (size_t i = 0; i < self->count; i++) PyDict_Clear(self->parts[i]);
    self->entries = 0;
    return 0;
}

static void index_dealloc(IndexObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    for (size_t i = 0; i < self->count; i++) Py_DECREF(self->parts[i]);
    PyMem_Free(self->parts);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Spiral hashing. There are buckets count .. 2 count - 1; splitting bucket k makes 2k and 2k + 1 of it, and there is one more. A key's hash
 * gives it a number v in [1, 2), and it is in bucket v * 2^i, for the one i that fits. Were v uniform, all parts would be as full, and under
 * churn all tables move in the same moment, which is the spike again; 2^x of a uniform x spreads the parts evenly from full to half full. */
static size_t bucket_of(Py_hash_t hash, size_t count) {
    uint64_t x = ((uint64_t)hash * 0x9E3779B97F4A7C15u) >> 32; /* small integers are their own hashes: mixed */
    uint64_t v = ((uint64_t)1 << 32) + (x * (2689 + (x * 1407 >> 32)) >> 12); /* 2^x = 1 + 0.6565 x + 0.3435 x^2 */
    unsigned bits = 63 - (unsigned)__builtin_clzll(count);
    size_t bucket = v >> (32 - bits);
    return bucket < count ? v >> (31 - bits) : bucket;
}

/* Where a bucket's part is: 2k has that of k, and 2k + 1 a new one. */
static size_t place_of(size_t bucket) { return bucket >> __builtin_ctzll(bucket) >> 1; }

/* The part for a key: a new reference, or NULL with an exception for a key without a hash. */
static PyObject *part_of(IndexObject *self, PyObject *key) {
    PyObject *part;
    Py_hash_t hash = 0;
    if (self->count > 1 && (hash = PyObject_Hash(key)) == -1) return NULL;
    LOCK(self);
    part = Py_NewRef(self->parts[self->count > 1 ? place_of(bucket_of(hash, self->count)) : 0]);
    UNLOCK();
    return part;
}

PyObject *find_in_dict(PyObject *dictionary, PyObject *key) {
#ifdef Py_GIL_DISABLED /* a borrowed one may be gone by now */
    PyObject *value;
    return PyDict_GetItemRef(dictionary, key, &value) < 0 ? NULL : value;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dictionary, key));
#endif
}

PyObject *find_in_index(PyObject *index, PyObject *key) {
    PyObject *part = part_of((IndexObject *)index, key), *value;
    if (!part) return NULL;
    value = find_in_dict(part, key);
    Py_DECREF(part);
    return value;
}

static size_t entries_of(IndexObject *self) {
    size_t all = 0;
    LOCK(self);
    for (size_t i = 0; i < self->count; i++) all += (size_t)PyDict_Size(self->parts[i]);
    UNLOCK();
    return all;
}

/* ---- growing and shrinking: nothing has changed when these fail ----------------------------------------------------------------------- */

/* A key of a user's whose __hash__ or __eq__ fails now stays behind: it costs no other key anything, and its value was not to be had anyway.
 * What is no Exception is an interrupt, and nobody's fault. */
bool only_the_keys_fault(void) {
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) return false;
    PyErr_Clear();
    return true;
}

static int split(IndexObject *self) {
    size_t at = place_of(self->count);
    PyObject **parts = PyMem_Malloc((self->count + 1) * sizeof *parts), **old;
    PyObject *stays = PyDict_New(), *goes = PyDict_New(), *key, *value;
    Py_ssize_t position = 0;
    if (!parts) PyErr_NoMemory();
    if (!parts || !stays || !goes) goto failed;
    while (PyDict_Next(self->parts[at], &position, &key, &value)) {
        Py_hash_t hash = PyObject_Hash(key);
        bool failed = hash == -1 || PyDict_SetItem(bucket_of(hash, self->count + 1) & 1 ? goes : stays, key, value);
        if (failed && !only_the_keys_fault()) goto failed;
    }
    LOCK(self);
    for (size_t i = 0; i < self->count; i++) parts[i] = self->parts[i];
    old = self->parts;
    key = parts[at]; /* in the way of the new one; let go last, since it may run finalizers */
    parts[at] = stays;
    parts[self->count] = goes;
    self->parts = parts;
    self->count++;
    UNLOCK();
    PyMem_Free(old);
    Py_DECREF(key);
    return 0;
failed:
    PyMem_Free(parts);
    Py_XDECREF(stays);
    Py_XDECREF(goes);
    return -1;
}

static int join(IndexObject *self) {
    size_t last = self->count - 1, at = place_of(last);
    PyObject *both = PyDict_New(), *first, *second;
    if (!both || PyDict_Update(both, self->parts[at]) || PyDict_Update(both, self->parts[last])) {
        Py_XDECREF(both);
        return -1;
    }
    LOCK(self);
    first = self->parts[at];
    second = self->parts[last];
    self->parts[at] = both;
    self->count--;
    UNLOCK();
    Py_DECREF(first);
    Py_DECREF(second);
    return 0;
}

static bool wants_split(IndexObject *self) { return self->entries > self->count * ENTRIES; }
static bool wants_join(IndexObject *self) { return self->count > 1 && self->entries < (self->count - 1) * (ENTRIES / 2); }

/* ---- methods ---------------------------------------------------------------------------------------------------------------------------- */

static int index_ass_subscript(IndexObject *self, PyObject *key, PyObject *value) {
    PyObject *part = part_of(self, key);
    if (!part) return -1;
    Py_ssize_t before = PyDict_Size(part);
    int failed = value ? PyDict_SetItem(part, key, value) : PyDict_DelItem(part, key);
    self->entries += (size_t)(PyDict_Size(part) - before);
    Py_DECREF(part);
    if (failed) return -1;
    if (!wants_split(self) && !wants_join(self)) return 0;
    self->entries = entries_of(self);
    failed = wants_split(self) ? split(self) : wants_join(self) ? join(self)
                                                                : 0;
    if (failed && !PyErr_ExceptionMatches(PyExc_Exception)) return -1;
    if (failed) PyErr_Clear(); /* no memory, or a key's fault: the entry is in, or out, and the parts can wait */
    return 0;
}

static PyObject *index_subscript(IndexObject *self, PyObject *key) {
    PyObject *value = find_in_index((PyObject *)self, key);
    if (!value && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
    return value;
}

static Py_ssize_t index_length(IndexObject *self) { return (Py_ssize_t)entries_of(self); }

static int index_contains(IndexObject *self, PyObject *key) {
    PyObject *value = find_in_index((PyObject *)self, key);
    if (!value) return PyErr_Occurred() ? -1 : 0;
    Py_DECREF(value);
    return 1;
}

static PyObject *index_get(IndexObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "get(key, default=None, /)");
        return NULL;
    }
    PyObject *value = find_in_index((PyObject *)self, args[0]);
    return value || PyErr_Occurred() ? value : Py_NewRef(count > 1 ? args[1] : Py_None);
}

static PyObject *listed(IndexObject *self, PyObject *(*list_of)(PyObject *)) {
    PyObject *all = PyList_New(0);
    for (size_t i = 0; all && i < self->count; i++) {
        PyObject *some = list_of(self->parts[i]);
        Py_ssize_t end = PyList_Size(all);
        if (!some || PyList_SetSlice(all, end, end, some)) Py_CLEAR(all);
        Py_XDECREF(some);
    }
    return all;
}

static PyObject *index_items(IndexObject *self, PyObject *unused) { return (void)unused, listed(self, PyDict_Items); }
static PyObject *index_values(IndexObject *self, PyObject *unused) { return (void)unused, listed(self, PyDict_Values); }

static PyObject *index_iter(IndexObject *self) {
    PyObject *keys = listed(self, PyDict_Keys), *iterator = keys ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

/* dict.popitem() is the one way to the end of a dict that does not pass all that was deleted there; so the key is put back. */
static PyObject *index_last(IndexObject *self, PyObject *unused) {
    (void)unused;
    for (size_t i = self->count; i-- > 0;) {
        PyObject *part = self->parts[i], *item, *key;
        if (!PyDict_Size(part)) continue;
        if (!(item = PyObject_CallMethod(part, "popitem", NULL))) return NULL;
        key = Py_NewRef(PyTuple_GetItem(item, 0));
        if (PyDict_SetItem(part, key, PyTuple_GetItem(item, 1))) {
            self->entries--;
            Py_CLEAR(key);
        }
        Py_DECREF(item);
        return key;
    }
    PyErr_SetString(PyExc_KeyError, "the index is empty");
    return NULL;
}

static PyObject *index_clear(IndexObject *self, PyObject *unused) {
    (void)unused;
    PyObject *empty = PyDict_New(), **parts = PyMem_Malloc(sizeof *parts), **old = NULL;
    size_t count = 0;
    if (!empty || !parts) {
        Py_XDECREF(empty);
        PyMem_Free(parts);
        return PyErr_NoMemory();
    }
    parts[0] = empty;
    LOCK(self);
    old = self->parts;
    count = self->count;
    self->parts = parts;
    self->count = 1;
    self->entries = 0;
    UNLOCK();
    for (size_t i = 0; i < count; i++) Py_DECREF(old[i]);
    PyMem_Free(old);
    Py_RETURN_NONE;
}

static PyObject *index_sizeof(IndexObject *self, PyObject *unused) {
    (void)unused;
    size_t bytes = sizeof *self + self->count * sizeof *self->parts;
    for (size_t i = 0; i < self->count; i++) {
        PyObject *size = PyObject_CallMethod(self->parts[i], "__sizeof__", NULL);
        if (!size) return NULL;
        bytes += PyLong_AsSize_t(size);
        Py_DECREF(size);
    }
    return PyLong_FromSize_t(bytes);
}

static PyMethodDef index_methods[] = {
    {"get", (PyCFunction)(void (*)(void))index_get, METH_FASTCALL, "get($self, key, default=None, /)\n--\n\nAs a dict's."},
    {"items", (PyCFunction)index_items, METH_NOARGS, "items($self, /)\n--\n\nA list."},
    {"values", (PyCFunction)index_values, METH_NOARGS, "values($self, /)\n--\n\nA list."},
    {"last", (PyCFunction)index_last, METH_NOARGS,
     "last($self, /)\n--\n\nA key: of few, the one entered last. KeyError when empty. Counts as a change."},
    {"clear", (PyCFunction)index_clear, METH_NOARGS, "clear($self, /)\n--\n\nForget all, and give the memory back."},
    {"__sizeof__", (PyCFunction)index_sizeof, METH_NOARGS, "__sizeof__($self, /)\n--\n\nBytes of all parts."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot index_slots[] = {
    {Py_tp_new, index_new},
    {Py_tp_dealloc, index_dealloc},
    {Py_tp_traverse, index_traverse},
    {Py_tp_clear, index_clear_cycle},
    {Py_tp_methods, index_methods},
    {Py_tp_iter, index_iter},
    {Py_mp_subscript, index_subscript},
    {Py_mp_ass_subscript, index_ass_subscript},
    {Py_mp_length, index_length},
    {Py_sq_contains, index_contains},
    {Py_tp_doc, "Index()\n--\n\nA dictionary in parts: it grows and shrinks by a few thousand entries at a time."},
    {0, NULL},
};
static PyType_Spec index_spec = {
    .name = "mvolatile._core.Index",
    .basicsize = sizeof(IndexObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = index_slots,
};

PyObject *index_make(void) { return PyObject_CallNoArgs((PyObject *)index_type); }

int add_index_type(PyObject *module) {
    index_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &index_spec, NULL);
    return !index_type || PyModule_AddObjectRef(module, "Index", (PyObject *)index_type) ? -1 : 0;
}
