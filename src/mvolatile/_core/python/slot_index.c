/* SlotIndex and Hints: a shared cache's slot table as its keeper writes it, and what clients say of its use. */
#include <string.h>
#include <unistd.h>

#include "python/table.h"

static PyObject *index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    int fd, stamped;
    unsigned long long capacity, nonce, first, second;
    if (kwargs && PyDict_Size(kwargs)) return PyErr_SetString(PyExc_TypeError, "SlotIndex takes no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "iKKKKp:SlotIndex", &fd, &capacity, &nonce, &first, &second, &stamped) || ready()) return NULL;
    if (!capacity || capacity & (capacity - 1)) return PyErr_SetString(PyExc_ValueError, "the capacity is a power of two"), NULL;
    TableObject *self = table_alloc(type);
    if (!self) return NULL;
    self->pid = getpid();
    int err = table_open_slots(&self->slots, fd, slots_bytes(capacity), true);
    if (err) {
        Py_DECREF((PyObject *)self);
        return fail(err, "mmap of a shared cache's table");
    }
    struct slots_header *header = self->slots.header;
    header->magic = SLOTS_MAGIC, header->capacity = capacity, header->page_size = os_page_size;
    header->nonce = nonce | 1ULL << 63;
    header->hash_key[0] = first, header->hash_key[1] = second, header->stamped = (uint64_t)stamped;
    self->slots.mask = capacity - 1;
    return (PyObject *)self;
}

static PyObject *index_nbytes(PyObject *unused, PyObject *capacity) {
    (void)unused;
    size_t slots = PyLong_AsSize_t(capacity);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(slots_bytes(slots));
}

static bool take_index(TableObject *self, PyObject *object, struct found *found) {
    uint64_t index = PyLong_AsUnsignedLongLong(object);
    if (PyErr_Occurred()) return false;
    if (index <= self->slots.mask && slots_take(&self->slots, index, found)) return true;
    PyErr_SetString(PyExc_IndexError, "no such entry");
    return false;
}

static PyObject *index_hash(TableObject *self, PyObject *key) {
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(key, &bytes, &length)) return NULL;
    return PyLong_FromUnsignedLongLong(slots_hash(&self->slots, bytes, (size_t)length));
}

static PyObject *index_find(TableObject *self, PyObject *hash) {
    struct found found;
    uint64_t wanted = PyLong_AsUnsignedLongLong(hash);
    if (PyErr_Occurred()) return NULL;
    enum answer found_it = slots_find(&self->slots, wanted, 0, &found); /* expired ones, too: their memory is to be given back */
    return PyLong_FromLongLong(found_it == SLOT_FOUND ? (long long)found.index : -1);
}

static PyObject *index_get(TableObject *self, PyObject *index) {
    struct found found;
    if (!take_index(self, index, &found)) return NULL;
    return Py_BuildValue("(KKnKidi)", (unsigned long long)found.version, (unsigned long long)found.address,
                         (Py_ssize_t)record_bytes(&self->slots, &found), (unsigned long long)found.length, (int)found.kind, found.expires, (int)found.cost);
}

static PyObject *index_size(TableObject *self, PyObject *args) {
    unsigned long long address, key_length, length;
    if (!PyArg_ParseTuple(args, "KKK:size", &address, &key_length, &length)) return NULL;
    struct found found = {.address = address, .key_length = (uint16_t)key_length, .length = length};
    return PyLong_FromSize_t(record_bytes(&self->slots, &found));
}

/* Lay out a record at an address that the caller holds, and only then tell of it. */
static PyObject *index_put(TableObject *self, PyObject *args) {
    Py_buffer key, value = {.obj = NULL};
    PyObject *source;
    struct found found = {.index = 0};
    unsigned long long address, length, version;
    int kind, cost = 0, fd = -1;
    if (!PyArg_ParseTuple(args, "y*OKKidK|i:put", &key, &source, &address, &length, &kind, &found.expires, &version, &cost)) return NULL;
    int err = 0;
    PyObject *result = NULL;
    if (PyLong_Check(source)) fd = (int)PyLong_AsLong(source);
    else if (PyObject_GetBuffer(source, &value, PyBUF_SIMPLE)) goto end;
    if (!key.len || key.len > LONGEST_KEY || (fd < 0 && (size_t)value.len != length) || version & 1 || length > LONGEST_VALUE) {
        PyErr_SetString(PyExc_ValueError, "no such record");
        goto end;
    }
    found.hash = slots_hash(&self->slots, key.buf, (size_t)key.len);
    found.address = address, found.length = length, found.version = version, found.kind = (uint8_t)kind;
    found.key_length = (uint16_t)key.len, found.cost = (uint8_t)cost;
    err = record_write(&self->slots, &found, key.buf, value.obj ? value.buf : NULL, fd);
    if (err) fail(err, "preadv of a mailbox");
    else {
        (void)slots_put(&self->slots, &found);
        result = PyLong_FromUnsignedLongLong(found.hash);
    }
end:
    if (value.obj) PyBuffer_Release(&value);
    PyBuffer_Release(&key);
    return result;
}

static PyObject *index_remove(TableObject *self, PyObject *index) {
    struct found found;
    if (!take_index(self, index, &found)) return NULL;
    slots_remove(&self->slots, found.index);
    Py_RETURN_NONE;
}

static PyObject *index_expire(TableObject *self, PyObject *args) {
    PyObject *index;
    double expires;
    struct found found;
    if (!PyArg_ParseTuple(args, "Od:expire", &index, &expires) || !take_index(self, index, &found)) return NULL;
    slots_expire(&self->slots, found.index, expires);
    Py_RETURN_NONE;
}

static PyObject *index_clear(TableObject *self, PyObject *unused) {
    (void)unused;
    slots_clear(&self->slots);
    Py_RETURN_NONE;
}

/* All entries go to the other one, with their versions; only then this one says that it has moved. */
static PyObject *index_move(TableObject *self, PyObject *to) {
    if (!PyObject_TypeCheck(to, Py_TYPE((PyObject *)self))) return PyErr_SetString(PyExc_TypeError, "to a SlotIndex"), NULL;
    TableObject *other = (TableObject *)to;
    for (uint64_t i = 0; i <= self->slots.mask; i++) {
        struct found found;
        if (slots_take(&self->slots, i, &found)) (void)slots_put(&other->slots, &found);
    }
    atomic_store(&self->slots.header->moved, 1);
    Py_RETURN_NONE;
}

static PyObject *index_read(TableObject *self, PyObject *index) {
    struct found found;
    if (!take_index(self, index, &found)) return NULL;
    PyObject *key = PyBytes_FromStringAndSize(NULL, found.key_length);
    PyObject *value = key ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)found.length) : NULL;
    if (value && record_copy(&self->slots, self->pid, &found, PyBytes_AsString(key), PyBytes_AsString(value)) == SLOT_FOUND)
        return Py_BuildValue("(NN)", key, value);
    Py_XDECREF(value);
    Py_XDECREF(key);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyObject *index_probe(TableObject *self, PyObject *index) {
    struct found found;
    if (!take_index(self, index, &found)) return NULL;
    PyObject *key = PyBytes_FromStringAndSize(NULL, found.key_length);
    if (key && record_probe(&self->slots, self->pid, &found, PyBytes_AsString(key)) == SLOT_FOUND) return key;
    Py_XDECREF(key);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyObject *index_scan(TableObject *self, PyObject *args) {
    unsigned long long start;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "Kn:scan", &start, &most)) return NULL;
    PyObject *slots = PyList_New(0);
    uint64_t index = start;
    for (; slots && index <= self->slots.mask && PyList_Size(slots) < most; index++) {
        struct found found;
        if (!slots_take(&self->slots, index, &found)) continue;
        PyObject *number = PyLong_FromUnsignedLongLong(index);
        if (!number || PyList_Append(slots, number)) Py_CLEAR(slots);
        Py_XDECREF(number);
    }
    return slots ? Py_BuildValue("(NK)", slots, (unsigned long long)index) : NULL;
}

static PyMethodDef index_methods[] = {
    {"nbytes", index_nbytes, METH_O | METH_STATIC, "nbytes(capacity, /)\n--\n\nWhat a table of so many slots takes."},
    {"hash", (PyCFunction)index_hash, METH_O, "hash($self, key, /)\n--\n\nOf an encoded key; the same in the table that this one moves to."},
    {"find", (PyCFunction)index_find, METH_O, "find($self, hash, /)\n--\n\nIts slot, or -1."},
    {"get", (PyCFunction)index_get, METH_O,
     "get($self, slot, /)\n--\n\n(version, address, bytes of the record, bytes of the value, kind, expires, class of its cost)."},
    {"size", (PyCFunction)index_size, METH_VARARGS, "size($self, address, key_length, length, /)\n--\n\nWhat a record takes there."},
    {"put", (PyCFunction)index_put, METH_VARARGS,
     "put($self, key, value, address, length, kind, expires, version, cost=0, /)\n--\n\nWrite a record there, and tell of it; the hash. `value` is bytes, or the "
     "descriptor of a file that begins with it."},
    {"remove", (PyCFunction)index_remove, METH_O, "remove($self, slot, /)\n--\n\nNobody finds it any more."},
    {"expire", (PyCFunction)index_expire, METH_VARARGS, "expire($self, slot, expires, /)\n--\n\nIt ends at that time; 0: never."},
    {"clear", (PyCFunction)index_clear, METH_NOARGS, "clear($self, /)\n--\n\nNobody finds anything any more."},
    {"move", (PyCFunction)index_move, METH_O, "move($self, to, /)\n--\n\nPut all entries into an empty one, and say that this one has moved."},
    {"read", (PyCFunction)index_read, METH_O, "read($self, slot, /)\n--\n\n(key, value), or None if part of it was purged."},
    {"probe", (PyCFunction)index_probe, METH_O, "probe($self, slot, /)\n--\n\nThe key, or None if part of the record was purged."},
    {"scan", (PyCFunction)index_scan, METH_VARARGS, "scan($self, start, most, /)\n--\n\n(slots that have an entry, where to go on)."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef index_getset[] = {
    {"capacity", (getter)table_get_capacity, NULL, "Slots.", NULL},
    {"used", (getter)table_get_used, NULL, "Slots that have an entry.", NULL},
    {"filled", (getter)table_get_filled, NULL, "Slots that have or had one.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot index_slots[] = {
    {Py_tp_new, index_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, index_methods},
    {Py_tp_getset, index_getset},
    {Py_tp_doc, "SlotIndex(fd, capacity, nonce, first, second, stamped, /)\n--\n\nA shared cache's slot table, as its keeper writes it. One thread."},
    {0, NULL},
};
PyType_Spec slot_index_spec = {
    .name = "mvolatile._core.SlotIndex",
    .basicsize = sizeof(TableObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = index_slots,
};

/* ---- hints, as the keeper reads them ---------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    unsigned char *base;
    size_t mapped;
} HintsObject;

static PyObject *hints_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    int fd;
    Py_ssize_t capacity;
    if (kwargs && PyDict_Size(kwargs)) return PyErr_SetString(PyExc_TypeError, "Hints takes no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "in:Hints", &fd, &capacity)) return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    HintsObject *self = (HintsObject *)alloc(type, 0);
    if (!self) return NULL;
    void *base;
    int err = os_map_file(fd, HINTS_HEADER + (size_t)capacity, true, &base);
    if (err) {
        Py_DECREF((PyObject *)self);
        return fail(err, "mmap of hints");
    }
    self->base = base, self->mapped = HINTS_HEADER + (size_t)capacity;
    return (PyObject *)self;
}

static void hints_dealloc(HintsObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->base) os_unmap_file(self->base, self->mapped);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static unsigned char *hint_of(PyTypeObject *type, PyObject *all, Py_ssize_t which, size_t slot) {
    PyObject *one = PyTuple_GetItem(all, which);
    if (!one) return NULL;
    if (!PyObject_TypeCheck(one, type)) return PyErr_SetString(PyExc_TypeError, "not Hints"), NULL;
    HintsObject *hints = (HintsObject *)one;
    if (slot < hints->mapped - HINTS_HEADER) return &hints->base[HINTS_HEADER + slot];
    return PyErr_SetString(PyExc_IndexError, "no such slot"), NULL;
}

/* A file is its client's, which may write to it at any time: a hint is read once, and believed for what it is. */
static PyObject *hints_uses(PyTypeObject *type, PyObject *args) {
    PyObject *all;
    Py_ssize_t slot;
    if (!PyArg_ParseTuple(args, "O!n:uses", &PyTuple_Type, &all, &slot)) return NULL;
    unsigned uses = 0;
    for (Py_ssize_t i = 0, n = PyTuple_Size(all); i < n && uses < MOST_USES; i++) {
        unsigned char *hint = hint_of(type, all, i, (size_t)slot);
        if (!hint) return NULL;
        uses += hint_read(hint);
    }
    return PyLong_FromUnsignedLong(uses < MOST_USES ? uses : MOST_USES);
}

static PyObject *hints_forget(PyTypeObject *type, PyObject *args) {
    PyObject *all;
    Py_ssize_t slot;
    if (!PyArg_ParseTuple(args, "O!n:forget", &PyTuple_Type, &all, &slot)) return NULL;
    for (Py_ssize_t i = 0, n = PyTuple_Size(all); i < n; i++) {
        unsigned char *hint = hint_of(type, all, i, (size_t)slot);
        if (!hint) return NULL;
        if (hint_read(hint)) hint_write(hint, 0);
    }
    Py_RETURN_NONE;
}

static PyObject *hints_use(HintsObject *self, PyObject *slot) {
    size_t at = PyLong_AsSize_t(slot);
    if (PyErr_Occurred()) return NULL;
    if (at >= self->mapped - HINTS_HEADER) return PyErr_SetString(PyExc_IndexError, "no such slot"), NULL;
    hint_use(&self->base[HINTS_HEADER + at]);
    Py_RETURN_NONE;
}

static PyObject *hints_counts(HintsObject *self, void *unused) {
    (void)unused;
    struct hints_header *counts = (struct hints_header *)self->base;
    return Py_BuildValue("(KKK)", (unsigned long long)counts->hits, (unsigned long long)counts->misses, (unsigned long long)counts->purged);
}

static PyMethodDef hints_methods[] = {
    {"uses", (PyCFunction)hints_uses, METH_VARARGS | METH_CLASS, "uses($type, all, slot, /)\n--\n\nHow often a slot was used, as a tuple of hints says; at most 255."},
    {"forget", (PyCFunction)hints_forget, METH_VARARGS | METH_CLASS, "forget($type, all, slot, /)\n--\n\nThat a slot was used, in a tuple of hints."},
    {"use", (PyCFunction)hints_use, METH_O, "use($self, slot, /)\n--\n\nCount a use."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef hints_getset[] = {
    {"counts", (getter)hints_counts, NULL, "(hits, misses, purged), as the client says.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot hints_slots[] = {
    {Py_tp_new, hints_new},
    {Py_tp_dealloc, hints_dealloc},
    {Py_tp_methods, hints_methods},
    {Py_tp_getset, hints_getset},
    {Py_tp_doc, "Hints(fd, capacity, /)\n--\n\nA client's hints of use, as the keeper reads them. The file must be sealed against shrinking."},
    {0, NULL},
};
PyType_Spec hints_spec = {
    .name = "mvolatile._core.Hints",
    .basicsize = sizeof(HintsObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = hints_slots,
};

static int add(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = !type || PyModule_AddObjectRef(module, name, type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

/* Here and not in table.c, which knows of no type but its own. */
int add_table_types(PyObject *module) {
    return add(module, &table_spec, "Table") || add(module, &slot_index_spec, "SlotIndex") || add(module, &hints_spec, "Hints") ||
                   PyModule_AddIntConstant(module, "HINTS_HEADER", HINTS_HEADER)
               ? -1
               : 0;
}
