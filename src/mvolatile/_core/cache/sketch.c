/* Sketch: about how often each of many keys was asked for lately (count-min with conservative update, after TinyLFU: Einziger, Friedman and
 * Manes, 2017). Three counters of four bits a key, of which the least is right or too large. In C: three counters of half a byte took 2 us in
 * Python, as much as all else that a store does. */
#include "cache/cache.h"

#include <string.h>

#define ROWS 3
#define MOST 15
#define LEAST 4096 /* counters of the smallest */
#define AN_ENTRY 12 /* counters for each entry: 6 bytes */
#define PERIOD 20 /* so many counts an entry, and all are halved. With 10 a loop ten times as long as the cache forgets what it knew */

typedef struct {
    PyObject_HEAD
    uint8_t *bytes; /* two counters each */
    uint64_t counters;
    uint64_t entries, counted;
} SketchObject;

static PyTypeObject *sketch_type;

static uint64_t counters_for(uint64_t entries) {
    uint64_t wanted = entries < UINT32_MAX ? entries * AN_ENTRY : (uint64_t)UINT32_MAX;
    return wanted < LEAST ? LEAST : wanted < UINT32_MAX ? wanted & ~(uint64_t)1
                                                        : UINT32_MAX - 1;
}

static PyObject *sketch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    unsigned long long entries;
    if (!PyArg_ParseTuple(args, "K", &entries)) return NULL;
    SketchObject *self = PyObject_New(SketchObject, type);
    if (!self) return NULL;
    self->entries = entries;
    self->counters = counters_for(entries);
    self->counted = 0;
    self->bytes = PyMem_Calloc(self->counters / 2, 1);
    if (self->bytes) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return PyErr_NoMemory();
}

static void sketch_dealloc(SketchObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->bytes);
    PyObject_Free(self);
    Py_DECREF(type);
}

static unsigned get_counter(const uint8_t *bytes, uint64_t at) { return bytes[at / 2] >> (at & 1) * 4 & MOST; }

static void raise_counter(uint8_t *bytes, uint64_t at, unsigned count) {
    unsigned shift = (at & 1) * 4;
    if (get_counter(bytes, at) < count) bytes[at / 2] = (uint8_t)((bytes[at / 2] & ~(MOST << shift)) | count << shift);
}

/* Small integers are their own hashes: mixed. */
static unsigned find(SketchObject *self, Py_hash_t hash, uint64_t at[ROWS]) {
    unsigned least = MOST;
    uint64_t x = (uint64_t)hash;
    for (int row = 0; row < ROWS; row++) {
        x = (x + 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
        x ^= x >> 29;
        at[row] = (x >> 32) * self->counters >> 32;
        unsigned count = get_counter(self->bytes, at[row]);
        if (count < least) least = count;
    }
    return least;
}

static void halve(SketchObject *self) {
    for (uint64_t i = 0; i < self->counters / 2; i++) self->bytes[i] = self->bytes[i] >> 1 & 0x77;
    self->counted /= 2;
}

static PyObject *sketch_add(SketchObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given < 1 || given > 2) {
        PyErr_SetString(PyExc_TypeError, "add(hash, times=1, /)");
        return NULL;
    }
    Py_ssize_t hash = PyLong_AsSsize_t(args[0]), times = given > 1 ? PyLong_AsSsize_t(args[1]) : 1;
    if (PyErr_Occurred()) return NULL;
    uint64_t at[ROWS];
    unsigned count = find(self, hash, at);
    if (times > 0) {
        count = times < MOST - (Py_ssize_t)count ? count + (unsigned)times : MOST;
        for (int row = 0; row < ROWS; row++) raise_counter(self->bytes, at[row], count);
        self->counted += (uint64_t)(times < MOST ? times : MOST);
        if (self->counted >= PERIOD * (self->entries ? self->entries : 1)) halve(self);
    }
    return PyLong_FromUnsignedLong(count);
}

static PyObject *sketch_estimate(SketchObject *self, PyObject *number) {
    Py_ssize_t hash = PyLong_AsSsize_t(number);
    if (hash == -1 && PyErr_Occurred()) return NULL;
    uint64_t at[ROWS];
    return PyLong_FromUnsignedLong(find(self, hash, at));
}

/* A counter's place is a share of the whole, so each new one has the larger of those that lay where it lies. */
static PyObject *sketch_resize(SketchObject *self, PyObject *number) {
    unsigned long long entries = PyLong_AsUnsignedLongLong(number);
    if (entries == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    uint64_t before = self->counters, after = counters_for(entries);
    if (after != before) {
        uint8_t *bytes = PyMem_Calloc(after / 2, 1);
        if (!bytes) return PyErr_NoMemory();
        for (uint64_t to = 0; to < after; to++)
            for (uint64_t from = to * before / after; from * after < (to + 1) * before; from++)
                raise_counter(bytes, to, get_counter(self->bytes, from));
        PyMem_Free(self->bytes);
        self->bytes = bytes;
        self->counters = after;
    }
    self->entries = entries;
    Py_RETURN_NONE;
}

static PyObject *get_nbytes(SketchObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->counters / 2);
}

static PyObject *get_entries(SketchObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->entries);
}

#define LOCKED(method)                                                         \
    static PyObject *method##_locked(SketchObject *self, PyObject *argument) { \
        PyObject *result;                                                      \
        LOCK(self);                                                            \
        result = method(self, argument);                                       \
        UNLOCK();                                                              \
        return result;                                                         \
    }

static PyObject *sketch_add_locked(SketchObject *self, PyObject *const *args, Py_ssize_t given) {
    PyObject *result;
    LOCK(self);
    result = sketch_add(self, args, given);
    UNLOCK();
    return result;
}

LOCKED(sketch_estimate)
LOCKED(sketch_resize)

static PyMethodDef sketch_methods[] = {
    {"add", (PyCFunction)(void (*)(void))sketch_add_locked, METH_FASTCALL,
     "add($self, hash, times=1, /)\n--\n\nCount a key so often more. The estimate, which stops at 15."},
    {"estimate", (PyCFunction)sketch_estimate_locked, METH_O,
     "estimate($self, hash, /)\n--\n\nAbout how often: never less, but for halving; more where keys share their counters."},
    {"resize", (PyCFunction)sketch_resize_locked, METH_O, "resize($self, entries, /)\n--\n\nFor a cache of so many; what was counted stays."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef sketch_attributes[] = {
    {"entries", (getter)get_entries, NULL, "For how many.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Bytes that it takes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot sketch_slots[] = {
    {Py_tp_new, sketch_new},
    {Py_tp_dealloc, sketch_dealloc},
    {Py_tp_methods, sketch_methods},
    {Py_tp_getset, sketch_attributes},
    {Py_tp_doc, "Sketch(entries, /)\n--\n\nAbout how often each of many keys, by its hash, was counted lately."},
    {0, NULL},
};
static PyType_Spec sketch_spec = {
    .name = "mvolatile._core.Sketch",
    .basicsize = sizeof(SketchObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sketch_slots,
};

/* The hash of a key; any, where its __hash__ fails now: it is looked up in vain anyway. */
static PyObject *hash_of(PyObject *module, PyObject *key) {
    (void)module;
    Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1 && PyErr_Occurred() && !only_the_keys_fault()) return NULL;
    return PyLong_FromSsize_t(hash == -1 ? 0 : hash);
}

/* Of 32 bits. */
static PyObject *sample_number(PyObject *module, PyObject *number) {
    (void)module;
    Py_ssize_t hash = PyLong_AsSsize_t(number);
    if (hash == -1 && PyErr_Occurred()) return NULL;
    uint64_t mixed = (uint64_t)hash * 0x9E3779B97F4A7C15u >> 20; /* small integers are their own hashes */
    return PyLong_FromUnsignedLong((uint32_t)(mixed * 0x85EBCA6Bu >> 12));
}

static PyMethodDef functions[] = {
    {"hash_of", hash_of, METH_O, "hash_of($module, key, /)\n--\n\nIts hash; 0 where that fails now."},
    {"sample_number", sample_number, METH_O,
     "sample_number($module, hash, /)\n--\n\nA number below 2 ** 32 that stands for a key where keys are sampled."},
    {NULL, NULL, 0, NULL},
};

int add_sketch_type(PyObject *module) {
    if (PyModule_AddFunctions(module, functions)) return -1;
    sketch_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sketch_spec, NULL);
    return !sketch_type || PyModule_AddObjectRef(module, "Sketch", (PyObject *)sketch_type) ? -1 : 0;
}
