/* Table: a shared cache's slot table as its clients read it. slots.h has the protocol. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python/python.h"

#include "python/costs.h"
#include "python/table.h"

#define TRIES 16          /* reads that a writer spoilt, until the keeper is asked */
#define WITHOUT_LOCK 65536 /* bytes from which on a copy lets other threads run */
#define SHORT_KEY 512

enum kind {
    BYTES,
    STR
}; /* of cache/values.py; the others are decoded there */

int table_open_slots(struct slots *slots, int fd, size_t nbytes, bool write) {
    void *base;
    int err = nbytes < SLOTS_HEADER ? EINVAL : os_map_file(fd, nbytes, write, &base);
    if (err) return err;
    struct slots_header *header = base;
    *slots = (struct slots){header, (struct slot *)((char *)base + SLOTS_HEADER), header->capacity - 1, nbytes};
    return 0;
}

void table_dealloc(TableObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->slots.header) os_unmap_file(self->slots.header, self->slots.mapped);
    if (self->hints) os_unmap_file(self->hints, self->hints_mapped);
    Py_XDECREF(self->encode);
    Py_XDECREF(self->allocate);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

TableObject *table_alloc(PyTypeObject *type) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return (TableObject *)alloc(type, 0);
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    int fd, hints, pid;
    Py_ssize_t nbytes;
    double ahead;
    PyObject *encode, *allocate;
    if (kwargs && PyDict_Size(kwargs)) return PyErr_SetString(PyExc_TypeError, "Table takes no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "iniidOO:Table", &fd, &nbytes, &pid, &hints, &ahead, &encode, &allocate) || ready()) return NULL;
    TableObject *self = table_alloc(type);
    if (!self) return NULL;
    self->pid = pid, self->ahead = ahead;
    self->encode = Py_NewRef(encode), self->allocate = Py_NewRef(allocate);
    int err = table_open_slots(&self->slots, fd, (size_t)nbytes, false);
    struct slots_header *header = self->slots.header;
    if (!err && (header->magic != SLOTS_MAGIC || !header->capacity || header->capacity & (header->capacity - 1) ||
                 header->capacity > (size_t)nbytes / sizeof(struct slot) || slots_bytes(header->capacity) > (size_t)nbytes ||
                 header->page_size != os_page_size))
        err = EINVAL;
    if (!err) {
        void *base;
        self->hints_mapped = HINTS_HEADER + header->capacity;
        err = os_map_file(hints, self->hints_mapped, true, &base);
        if (!err) self->hints = base;
    }
    if (!err) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return fail(err, "mmap of a shared cache's table");
}

static void count_use(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void count_hit(struct hints_header *counts, uint8_t cost) {
    count_use(&counts->hits);
    double saved = atomic_load_explicit(&counts->saved, memory_order_relaxed);
    atomic_store_explicit(&counts->saved, saved + cost_seconds(cost), memory_order_relaxed);
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------------- */

/* The bytes of a key as keys.py encodes it; what is short and plain is encoded here, in `own`. */
struct key {
    const char *bytes;
    size_t length;
    PyObject *owner;
    char own[SHORT_KEY];
};

static void put_short(struct key *key, char tag, const void *data, size_t length) {
    key->own[0] = tag;
    memcpy(key->own + 1, data, length);
    key->bytes = key->own, key->length = length + 1, key->owner = NULL;
}

static int take_key(TableObject *self, PyObject *object, struct key *key) {
    Py_ssize_t length = 0;
    if (PyUnicode_CheckExact(object)) {
        const char *text = PyUnicode_AsUTF8AndSize(object, &length);
        if (text && length < SHORT_KEY) return put_short(key, 's', text, (size_t)length), 0;
        PyErr_Clear();
    } else if (PyBytes_CheckExact(object) && PyBytes_Size(object) < SHORT_KEY) {
        return put_short(key, 'b', PyBytes_AsString(object), (size_t)PyBytes_Size(object)), 0;
    } else if (PyLong_CheckExact(object)) {
        int overflow;
        int64_t number = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (!overflow) return put_short(key, 'i', &number, sizeof number), 0;
    }
    key->owner = PyObject_CallFunctionObjArgs(self->encode, object, NULL);
    char *bytes;
    if (!key->owner || PyBytes_AsStringAndSize(key->owner, &bytes, &length)) {
        Py_CLEAR(key->owner);
        return -1;
    }
    key->bytes = bytes, key->length = (size_t)length;
    return 0;
}

/* ---- values ----------------------------------------------------------------------------------------------------------------------- */

/* Memory that a value is copied to, and which becomes the value, or what it is made of. */
struct target {
    PyObject *object;
    Py_buffer view;
    char *bytes;
    bool is_text;
    char text[1024];
};

static int take_target(TableObject *self, const struct found *found, struct target *target) {
    *target = (struct target){.is_text = false};
    if (found->length > PY_SSIZE_T_MAX) return PyErr_NoMemory(), -1;
    Py_ssize_t length = (Py_ssize_t)found->length;
    target->is_text = found->kind == STR;
    if (target->is_text && found->length <= sizeof target->text) return target->bytes = target->text, 0;
    if (found->kind == BYTES || target->is_text) {
        target->object = PyBytes_FromStringAndSize(NULL, length);
        target->bytes = target->object ? PyBytes_AsString(target->object) : NULL;
        return target->object ? 0 : -1;
    }
    target->object = PyObject_CallFunction(self->allocate, "n", length);
    if (!target->object || PyObject_GetBuffer(target->object, &target->view, PyBUF_WRITABLE)) {
        Py_CLEAR(target->object);
        return -1;
    }
    target->bytes = target->view.buf;
    if (target->view.len >= length) return 0;
    PyBuffer_Release(&target->view);
    Py_CLEAR(target->object);
    PyErr_SetString(PyExc_BufferError, "too little was allocated");
    return -1;
}

static void drop_target(struct target *target) {
    if (target->view.obj) PyBuffer_Release(&target->view);
    Py_CLEAR(target->object);
}

static PyObject *value_of(const struct found *found, struct target *target) {
    if (target->view.obj) PyBuffer_Release(&target->view);
    if (target->is_text) {
        PyObject *text = PyUnicode_DecodeUTF8(target->bytes, (Py_ssize_t)found->length, "surrogatepass");
        Py_CLEAR(target->object);
        return text;
    }
    return target->object;
}

/* ---- a client's reads ------------------------------------------------------------------------------------------------------------- */

static PyObject *answer(enum answer answer) { return PyLong_FromLong(answer); }

static void count_answer(TableObject *self, enum answer answer, const struct found *found) {
    struct hints_header *counts = (struct hints_header *)self->hints;
    if (answer == SLOT_FOUND) {
        hint_use(&self->hints[HINTS_HEADER + found->index]);
        count_hit(counts, found->cost);
    } else if (answer == SLOT_PURGED) count_use(&counts->purged);
}

/* SLOT_FOUND with the target filled and the key compared; or another answer, and no target. -1: an exception. */
static int read_value(TableObject *self, const struct key *key, struct found *found, struct target *target) {
    char short_key[SHORT_KEY], *copy = short_key;
    uint64_t hash = slots_hash(&self->slots, key->bytes, key->length);
    if (key->length > sizeof short_key && !(copy = malloc(key->length))) return PyErr_NoMemory(), -1;
    int result = SLOT_BUSY;
    for (int tries = 0; tries < TRIES && result == SLOT_BUSY; tries++) {
        result = slots_find(&self->slots, hash, 0, found);
        if (result != SLOT_FOUND) continue;
        if (found->expires != 0 && os_boot_seconds() + self->ahead >= found->expires) result = SLOT_MISS;
        if (found->key_length != key->length) result = slots_stand(&self->slots, found) ? SLOT_MISS : SLOT_BUSY;
        if (result != SLOT_FOUND) continue;
        if (take_target(self, found, target)) {
            result = -1;
            break;
        }
        if (found->length < WITHOUT_LOCK) result = record_copy(&self->slots, self->pid, found, copy, target->bytes);
        else {
            Py_BEGIN_ALLOW_THREADS
            result = record_copy(&self->slots, self->pid, found, copy, target->bytes);
            Py_END_ALLOW_THREADS
        }
        if (result != SLOT_REFUSED && !slots_stand(&self->slots, found)) result = SLOT_BUSY;
        if (result == SLOT_FOUND && memcmp(copy, key->bytes, key->length)) result = SLOT_MISS; /* another key of the same hash */
        if (result != SLOT_FOUND) drop_target(target);
    }
    if (copy != short_key) free(copy);
    return result;
}

static PyObject *table_find(TableObject *self, PyObject *object) {
    struct key key;
    struct found found;
    struct target target;
    if (take_key(self, object, &key)) return NULL;
    int result = read_value(self, &key, &found, &target);
    Py_CLEAR(key.owner);
    if (result < 0) return NULL;
    count_answer(self, result, &found);
    if (result != SLOT_FOUND) return answer(result);
    PyObject *value = value_of(&found, &target);
    return found.kind <= STR || !value ? value : Py_BuildValue("(iN)", (int)found.kind, value);
}

static PyObject *table_entry(TableObject *self, PyObject *object) {
    struct key key;
    struct found found;
    struct target target;
    if (take_key(self, object, &key)) return NULL;
    int result = read_value(self, &key, &found, &target);
    Py_CLEAR(key.owner);
    if (result < 0) return NULL;
    if (result != SLOT_FOUND) return answer(result);
    PyObject *value = value_of(&found, &target);
    return value ? Py_BuildValue("(KdiN)", (unsigned long long)found.version, found.expires, (int)found.kind, value) : NULL;
}

static int probe_slot(TableObject *self, struct found *found, char *key) {
    int result = record_probe(&self->slots, self->pid, found, key);
    return result != SLOT_REFUSED && !slots_stand(&self->slots, found) ? SLOT_BUSY : result;
}

static PyObject *table_probe(TableObject *self, PyObject *object) {
    struct key key;
    struct found found;
    if (take_key(self, object, &key)) return NULL;
    uint64_t hash = slots_hash(&self->slots, key.bytes, key.length);
    char *copy = malloc(LONGEST_KEY);
    int result = SLOT_BUSY;
    for (int tries = 0; copy && tries < TRIES && result == SLOT_BUSY; tries++) {
        result = slots_find(&self->slots, hash, 0, &found);
        if (result == SLOT_FOUND && found.expires != 0 && os_boot_seconds() + self->ahead >= found.expires) result = SLOT_MISS;
        if (result == SLOT_FOUND) result = probe_slot(self, &found, copy);
        if (result == SLOT_FOUND && (found.key_length != key.length || memcmp(copy, key.bytes, key.length))) result = SLOT_MISS;
    }
    free(copy);
    Py_CLEAR(key.owner);
    if (!copy) return PyErr_NoMemory();
    return result == SLOT_FOUND ? Py_BuildValue("(Kd)", (unsigned long long)found.version, found.expires) : answer(result);
}

/* The keys there are in the slots from `start` on, and where to go on. A slot that is written meanwhile is looked at again. */
static PyObject *table_scan(TableObject *self, PyObject *args) {
    unsigned long long start;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "Kn:scan", &start, &most)) return NULL;
    PyObject *keys = PyList_New(0);
    char *copy = malloc(LONGEST_KEY);
    uint64_t index = start, capacity = self->slots.mask + 1;
    int result = copy ? SLOT_FOUND : -1;
    double now = os_boot_seconds() + self->ahead;
    for (; keys && result >= 0 && index < capacity && PyList_Size(keys) < most; index++) {
        struct found found;
        for (int tries = 0; tries < TRIES; tries++) {
            if (!slots_take(&self->slots, index, &found)) {
                if (found.hash > 1) continue;
                break;
            }
            if (found.expires != 0 && now >= found.expires) break;
            result = probe_slot(self, &found, copy);
            if (result == SLOT_BUSY) continue;
            if (result == SLOT_FOUND) {
                PyObject *key = PyBytes_FromStringAndSize(copy, found.key_length);
                if (!key || PyList_Append(keys, key)) result = -1;
                Py_XDECREF(key);
            }
            break;
        }
        if (result == SLOT_GONE || result == SLOT_REFUSED) break;
    }
    if (!copy) PyErr_NoMemory();
    free(copy);
    if (result == SLOT_GONE || result == SLOT_REFUSED || result < 0 || !keys) {
        Py_XDECREF(keys);
        return result < 0 || !keys ? NULL : answer(result);
    }
    return Py_BuildValue("(NK)", keys, (unsigned long long)index);
}

static PyObject *table_hit(TableObject *self, PyObject *cost) {
    long class = PyLong_AsLong(cost);
    if (PyErr_Occurred()) return NULL;
    count_hit((struct hints_header *)self->hints, (uint8_t)class);
    Py_RETURN_NONE;
}

static PyObject *table_missed(TableObject *self, PyObject *unused) {
    (void)unused;
    count_use(&((struct hints_header *)self->hints)->misses);
    Py_RETURN_NONE;
}

static PyObject *get_counts(TableObject *self, void *unused) {
    (void)unused;
    struct hints_header *counts = (struct hints_header *)self->hints;
    return Py_BuildValue("(KKK)", (unsigned long long)counts->hits, (unsigned long long)counts->misses, (unsigned long long)counts->purged);
}
static PyObject *get_saved(TableObject *self, void *unused) {
    (void)unused;
    return PyFloat_FromDouble(((struct hints_header *)self->hints)->saved);
}
static PyObject *get_moved(TableObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->slots.header->moved != 0);
}
PyObject *table_get_capacity(TableObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->slots.header->capacity);
}
PyObject *table_get_used(TableObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->slots.header->used);
}
PyObject *table_get_filled(TableObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->slots.header->filled);
}

static PyMethodDef table_methods[] = {
    {"find", (PyCFunction)table_find, METH_O,
     "find($self, key, /)\n--\n\nThe value, if it is bytes or a str; (kind, buffer) of another; or why there is none."},
    {"entry", (PyCFunction)table_entry, METH_O,
     "entry($self, key, /)\n--\n\n(version, expires, kind, value or buffer), or why there is none. Counts as no use."},
    {"probe", (PyCFunction)table_probe, METH_O,
     "probe($self, key, /)\n--\n\n(version, expires) if a read would find all of it, or why not. Counts as no use."},
    {"scan", (PyCFunction)table_scan, METH_VARARGS,
     "scan($self, start, most, /)\n--\n\n(encoded keys, where to go on), from slot `start` on; or why that cannot be."},
    {"hit", (PyCFunction)table_hit, METH_O, "hit($self, cost, /)\n--\n\nCount a hit that was not by this table, of a value of that class of cost."},
    {"missed", (PyCFunction)table_missed, METH_NOARGS, "missed($self, /)\n--\n\nCount a miss."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef table_getset[] = {
    {"moved", (getter)get_moved, NULL, "Whether there is a newer one.", NULL},
    {"capacity", (getter)table_get_capacity, NULL, "Slots.", NULL},
    {"used", (getter)table_get_used, NULL, "Slots that have an entry.", NULL},
    {"counts", (getter)get_counts, NULL, "(hits, misses, purged) of this process, through this table.", NULL},
    {"saved", (getter)get_saved, NULL, "Seconds of making that the hits saved.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot table_slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {Py_tp_getset, table_getset},
    {Py_tp_doc, "Table(fd, nbytes, pid, hints, ahead, encode, allocate, /)\n--\n\nA shared cache's slot table, as a client reads it. Threads: any. It uses "
                "no descriptor once it is made."},
    {0, NULL},
};
PyType_Spec table_spec = {
    .name = "mvolatile._core.Table",
    .basicsize = sizeof(TableObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};
