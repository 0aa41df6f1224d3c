/* Sketch: about how often each of many keys was asked for lately (count-min with conservative update, after TinyLFU: Einziger, Friedman and
 * Manes, 2017). Three counters of four bits a key, of which the least is right or too large. In C: three counters of half a byte took 2 us in
 * Python, as much as all else that a store does. */
#include "cache/eviction.h"

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

PyObject *sketch_make(uint64_t entries) {
    SketchObject *self = PyObject_New(SketchObject, sketch_type);
    if (!self) return NULL;
    self->entries = entries;
    self->counters = counters_for(entries);
    self->counted = 0;
    self->bytes = PyMem_Calloc(self->counters / 2, 1);
    if (self->bytes) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return PyErr_NoMemory();
}

static PyObject *sketch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)type, (void)kwargs;
    unsigned long long entries;
    return PyArg_ParseTuple(args, "K", &entries) ? sketch_make(entries) : NULL;
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

unsigned sketch_count(PyObject *sketch, Py_hash_t hash, Py_ssize_t times) {
    SketchObject *self = (SketchObject *)sketch;
    uint64_t at[ROWS];
    unsigned count;
    LOCK(sketch);
    count = find(self, hash, at);
    if (times > 0) {
        count = times < MOST - (Py_ssize_t)count ? count + (unsigned)times : MOST;
        for (int row = 0; row < ROWS; row++) raise_counter(self->bytes, at[row], count);
        self->counted += (uint64_t)(times < MOST ? times : MOST);
        if (self->counted >= PERIOD * (self->entries ? self->entries : 1)) halve(self);
    }
    UNLOCK();
    return count;
}

unsigned sketch_estimate(PyObject *sketch, Py_hash_t hash) {
    uint64_t at[ROWS];
    unsigned count;
    LOCK(sketch);
    count = find((SketchObject *)sketch, hash, at);
    UNLOCK();
    return count;
}

uint64_t sketch_entries(PyObject *sketch) { return ((SketchObject *)sketch)->entries; }

size_t sketch_nbytes(PyObject *sketch) { return ((SketchObject *)sketch)->counters / 2; }

static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given < 1 || given > 2) {
        PyErr_SetString(PyExc_TypeError, "add(hash, times=1, /)");
        return NULL;
    }
    Py_ssize_t hash = PyLong_AsSsize_t(args[0]), times = given > 1 ? PyLong_AsSsize_t(args[1]) : 1;
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLong(sketch_count(self, hash, times));
}

static PyObject *estimate(PyObject *self, PyObject *number) {
    Py_ssize_t hash = PyLong_AsSsize_t(number);
    return hash == -1 && PyErr_Occurred() ? NULL : PyLong_FromUnsignedLong(sketch_estimate(self, hash));
}

/* A counter's place is a share of the whole, so each new one has the larger of those that lay where it lies. */
static bool move_to(SketchObject *self, uint64_t entries) {
    uint64_t before = self->counters, after = counters_for(entries);
    if (after != before) {
        uint8_t *bytes = PyMem_Calloc(after / 2, 1);
        if (!bytes) return false;
        for (uint64_t to = 0; to < after; to++)
            for (uint64_t from = to * before / after; from * after < (to + 1) * before; from++)
                raise_counter(bytes, to, get_counter(self->bytes, from));
        PyMem_Free(self->bytes);
        self->bytes = bytes;
        self->counters = after;
    }
    self->entries = entries;
    return true;
}

bool sketch_resize(PyObject *sketch, uint64_t entries) {
    bool well;
    LOCK(sketch);
    well = move_to((SketchObject *)sketch, entries);
    UNLOCK();
    return well;
}

static PyObject *resize(PyObject *self, PyObject *number) {
    unsigned long long entries = PyLong_AsUnsignedLongLong(number);
    if (entries == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    return sketch_resize(self, entries) ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *get_nbytes(SketchObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(sketch_nbytes((PyObject *)self));
}

static PyObject *get_entries(SketchObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->entries);
}

static PyMethodDef sketch_methods[] = {
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL,
     "add($self, hash, times=1, /)\n--\n\nCount a key so often more. The estimate, which stops at 15."},
    {"estimate", estimate, METH_O,
     "estimate($self, hash, /)\n--\n\nAbout how often: never less, but for halving; more where keys share their counters."},
    {"resize", resize, METH_O, "resize($self, entries, /)\n--\n\nFor a cache of so many; what was counted stays."},
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

int add_sketch_type(PyObject *module) {
    sketch_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sketch_spec, NULL);
    return !sketch_type || PyModule_AddObjectRef(module, "Sketch", (PyObject *)sketch_type) ? -1 : 0;
}
