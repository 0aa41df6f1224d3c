/* Lookup: a cache's hit, in one call; Reader: what VolatileCache inherits of it. What a segment is, and all that is not a plain hit, is told in
 * mvolatile/cache.
 *
 * A locator is region number << 21 | slot << 4 | kind. `index` (key to locator; index.c) and the dictionary `tables` (number to SlotTable, or to
 * what is none) are changed by Python under the cache's lock; a hit takes no lock but the GIL. Whatever is not as usual (no such key, no such
 * table, a loss, a value that must be decoded) goes to the methods find_carefully(key), decoded(key, locator, bytes) and not_decoded(key, locator, error) of the engine.
 *
 * A cache has an engine and is none; but were `get` a method of Python that asks the engine's Lookup, the call would cost as much as the hit.
 * So VolatileCache inherits `get` and `[]` from Reader, which has a Lookup, the engine's. */
#include "cache/lookup.h"

#include <structmember.h>

#include "python/costs.h"

static PyTypeObject *lookup_type;
PyTypeObject *reader_type;
static PyObject *find_carefully, *find_behind, *decoded, *not_decoded, *store_carefully, *delete_carefully;
static PyObject *loads; /* pickle's; NULL until something is unpickled */

#define COUNT(self, what) \
    do {                  \
        LOCK(self);       \
        (self)->what++;   \
        UNLOCK();         \
    } while (0)

static inline void count_hit(LookupObject *self, unsigned cost) {
    LOCK(self);
    self->hits++;
    if (cost) self->saved += cost_seconds((uint8_t)cost); /* known of few, but for what was made here */
    UNLOCK();
}

static PyObject *lookup_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    LookupObject *self = (LookupObject *)allocate(type, 0);
    if (!self) return NULL;
    self->index = index_make();
    self->tables = PyDict_New();
    if (self->index && self->tables) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int lookup_traverse(LookupObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->index);
    Py_VISIT(self->tables);
    Py_VISIT(self->engine);
    struct plain *plain = &self->plain;
    PyObject *all[] = {plain->acquire, plain->release, plain->calls, plain->later, plain->weigh, plain->table, plain->keys, plain->full};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_VISIT(all[i]);
    return 0;
}

/* Finalizers that come later still find an index. */
static int lookup_clear(LookupObject *self) {
    Py_CLEAR(self->engine);
    plain_clear(&self->plain);
    return 0;
}

static void lookup_dealloc(LookupObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->index);
    Py_CLEAR(self->tables);
    lookup_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* What the engine answers: `decoded` and `not_decoded` of three arguments, or find_carefully of one. A new reference; `missing` where there is no engine. */
static PyObject *ask_engine(LookupObject *self, PyObject *method, PyObject *key, PyObject *locator, PyObject *what) {
    PyObject *engine, *value;
    LOCK(self);
    engine = Py_XNewRef(self->engine);
    UNLOCK();
    if (!engine) return Py_NewRef(missing);
    value = PyObject_CallMethodObjArgs(engine, method, key, locator, what, NULL);
    Py_DECREF(engine);
    return value;
}

/* Of a small value. */
static struct found find_bytes(LookupObject *self, unsigned long long locator) {
    struct found found = {NULL, 0};
    PyObject *number = PyLong_FromUnsignedLongLong(locator >> NUMBER_SHIFT);
    PyObject *table = number ? find_in_dict(self->tables, number) : NULL;
    Py_XDECREF(number);
    if (!table) return found;
    uint32_t slot = (uint32_t)(locator >> KIND_BITS) & ((1u << (NUMBER_SHIFT - KIND_BITS)) - 1);
    if (Py_TYPE(table) == slot_table_type) found = slot_table_read(table, slot);
    Py_DECREF(table);
    return found;
}

PyObject *take_error(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) (void)PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* A pickle that stands alone begins as every one since protocol 2 does; one with buffers beside it is framed (cache/values.py). */
static bool is_plain_pickle(PyObject *bytes) { return PyBytes_Size(bytes) > 1 && (unsigned char)*PyBytes_AsString(bytes) == 0x80; }

static PyObject *unpickle(LookupObject *self, PyObject *key, PyObject *locator, PyObject *bytes) {
    PyObject *module = loads ? NULL : PyImport_ImportModule("pickle"), *value, *error;
    if (module) loads = PyObject_GetAttrString(module, "loads");
    Py_XDECREF(module);
    value = loads ? PyObject_CallFunctionObjArgs(loads, bytes, NULL) : NULL;
    if (value || !PyErr_ExceptionMatches(PyExc_Exception)) return value;
    error = take_error();
    value = ask_engine(self, not_decoded, key, locator, error);
    Py_DECREF(error);
    return value;
}

/* Perhaps there was no memory to decode it in: Python gives others up then, and looks again. */
__attribute__((noinline, cold)) static PyObject *find_again(LookupObject *self, PyObject *key) {
    PyErr_Clear();
    return ask_engine(self, find_carefully, key, NULL, NULL);
}

PyObject *find(LookupObject *self, PyObject *key) {
    PyObject *locator = find_in_index(self->index, key), *value;
    if (!locator) return PyErr_Occurred() ? NULL : Py_NewRef(missing);
    unsigned long long packed = PyLong_AsUnsignedLongLong(locator);
    unsigned kind = packed & ((1u << KIND_BITS) - 1);
    struct found found = find_bytes(self, packed);
    PyObject *bytes = found.bytes;
    if (bytes && kind == BYTES) {
        count_hit(self, found.cost);
        Py_DECREF(locator);
        return bytes;
    }
    if (!bytes) {
        value = PyErr_Occurred() ? NULL : ask_engine(self, find_carefully, key, NULL, NULL);
    } else if (kind == STR) {
        value = PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), PyBytes_Size(bytes), "surrogatepass");
    } else if (kind == PICKLE && is_plain_pickle(bytes)) {
        value = unpickle(self, key, locator, bytes);
    } else {
        value = ask_engine(self, decoded, key, locator, bytes);
    }
    if (!value && (PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_OSError))) value = find_again(self, key);
    Py_XDECREF(bytes);
    Py_DECREF(locator);
    if (value && value != missing) count_hit(self, found.cost);
    return value;
}

/* As find(), for who makes no value: those who do ask for what is behind when nobody else makes it. */
static PyObject *find_anywhere(LookupObject *self, PyObject *key) {
    PyObject *value = find(self, key);
    if (value != missing || !self->behind) return value;
    Py_DECREF(value);
    return ask_engine(self, find_behind, key, NULL, NULL);
}

static PyObject *lookup_find(LookupObject *self, PyObject *key) { return find(self, key); }

static PyObject *lookup_count_miss(LookupObject *self, PyObject *unused) {
    (void)unused;
    COUNT(self, misses);
    Py_RETURN_NONE;
}

static PyObject *lookup_count_hit(LookupObject *self, PyObject *unused) {
    (void)unused;
    COUNT(self, hits);
    Py_RETURN_NONE;
}

static bool add_seconds(LookupObject *self, PyObject *number, double *sum) {
    (void)self; /* the lock of a free-threaded build */
    double seconds = PyFloat_AsDouble(number);
    if (seconds == -1 && PyErr_Occurred()) return false;
    LOCK(self);
    *sum += seconds;
    UNLOCK();
    return true;
}

static PyObject *lookup_save(LookupObject *self, PyObject *seconds) { return add_seconds(self, seconds, &self->saved) ? Py_NewRef(Py_None) : NULL; }

static PyObject *lookup_spend(LookupObject *self, PyObject *seconds) { return add_seconds(self, seconds, &self->spent) ? Py_NewRef(Py_None) : NULL; }

static PyObject *lookup_counts(LookupObject *self, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("(KK)", self->hits, self->misses);
}

static PyObject *lookup_reset(LookupObject *self, PyObject *unused) {
    (void)unused;
    self->hits = self->misses = self->stores = 0;
    self->saved = self->spent = 0;
    Py_RETURN_NONE;
}

static PyMethodDef lookup_methods[] = {
    {"put", (PyCFunction)(void (*)(void))lookup_put, METH_FASTCALL,
     "put($self, key, value, call=None, cost=0, /)\n--\n\nStore it, if that is plain: False, and nothing has changed, where the long way is to be gone. `call` is the "
     "making that brought it, `cost` its class."},
    {"put_laid_out", (PyCFunction)lookup_put_laid_out, METH_VARARGS,
     "put_laid_out($self, key, kind, data, call, cost, /)\n--\n\nAs put(), of bytes that stand for a value of some kind."},
    {"enter", (PyCFunction)(void (*)(void))lookup_enter, METH_FASTCALL,
     "enter($self, segment, key, kind, data, visits, cost, weigh, /)\n--\n\nStore it in an open segment: the locator that the key had before, None, or False if it "
     "does not fit there."},
    {"lives", (PyCFunction)(void (*)(void))lookup_lives, METH_FASTCALL,
     "lives($self, region, slot, /)\n--\n\nWhether the index points there. Not for a key whose __hash__ or __eq__ fails now."},
    {"visits", (PyCFunction)lookup_visits, METH_O, "visits($self, key, /)\n--\n\nOf the value of a key; None where it is gone."},
    {"emptied", (PyCFunction)(void (*)(void))lookup_emptied, METH_FASTCALL,
     "emptied($self, segment, slot, /)\n--\n\nAll values up to `slot` were moved or given up: they count no more."},
    {"arm", (PyCFunction)lookup_arm, METH_VARARGS,
     "arm($self, table, keys, number, credit, acquire, release, calls, later, weigh, dear, /)\n--\n\nHave put() store until the next disarm()."},
    {"arm_full", (PyCFunction)lookup_arm_full, METH_VARARGS,
     "arm_full($self, full, acquire, release, calls, later, /)\n--\n\nHave put() call full(key, kind, data) in a change, until the next disarm(): it stores, or answers "
     "False."},
    {"disarm", (PyCFunction)lookup_disarm, METH_NOARGS, "disarm($self, /)\n--\n\nA change begins: put() stores nothing, and `torn` is true."},
    {"find", (PyCFunction)lookup_find, METH_O, "find($self, key, /)\n--\n\nThe value, or MISSING. Counts hits."},
    {"count_miss", (PyCFunction)lookup_count_miss, METH_NOARGS, "count_miss($self, /)\n--\n\nOne miss more."},
    {"count_hit", (PyCFunction)lookup_count_hit, METH_NOARGS, "count_hit($self, /)\n--\n\nOne hit more."},
    {"save", (PyCFunction)lookup_save, METH_O, "save($self, seconds, /)\n--\n\nA hit saved so much more."},
    {"spend", (PyCFunction)lookup_spend, METH_O, "spend($self, seconds, /)\n--\n\nA maker took so long."},
    {"counts", (PyCFunction)lookup_counts, METH_NOARGS, "counts($self, /)\n--\n\n(hits, misses)."},
    {"reset_counts", (PyCFunction)lookup_reset, METH_NOARGS, "reset_counts($self, /)\n--\n\nBegin to count anew."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef lookup_members[] = {
    {"index", T_OBJECT_EX, offsetof(LookupObject, index), READONLY, "key -> locator"},
    {"tables", T_OBJECT_EX, offsetof(LookupObject, tables), READONLY, "number -> SlotTable, or something else"},
    {"nbytes", T_PYSSIZET, offsetof(LookupObject, nbytes), 0, "Bytes of all values."},
    {"overhead", T_PYSSIZET, offsetof(LookupObject, overhead), 0, "Ordinary memory that they need beside."},
    {"behind", T_BOOL, offsetof(LookupObject, behind), 0, "Whether the engine's find_behind(key) is asked for what get and [] miss."},
    {"stores", T_ULONGLONG, offsetof(LookupObject, stores), 0, "Values that were stored."},
    {"saved", T_DOUBLE, offsetof(LookupObject, saved), READONLY, "Seconds of making that hits saved."},
    {"spent", T_DOUBLE, offsetof(LookupObject, spent), READONLY, "Seconds that makers took."},
    {"torn", T_BOOL, offsetof(LookupObject, torn), 0, "In the middle of a change, or one was cut short."},
    {"engine", T_OBJECT_EX, offsetof(LookupObject, engine), 0, "Who is asked about all that is not a plain hit."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot lookup_slots[] = {
    {Py_tp_new, lookup_new},
    {Py_tp_dealloc, lookup_dealloc},
    {Py_tp_traverse, lookup_traverse},
    {Py_tp_clear, lookup_clear},
    {Py_tp_methods, lookup_methods},
    {Py_tp_members, lookup_members},
    {Py_tp_doc, "Lookup()\n--\n\nAn index and the slot tables that it points into, read without a lock."},
    {0, NULL},
};
static PyType_Spec lookup_spec = {
    .name = "mvolatile._core.Lookup",
    .basicsize = sizeof(LookupObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = lookup_slots,
};

/* ---- Reader -------------------------------------------------------------------------------------------------------------------------- */

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    ReaderObject *self = (ReaderObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    self->lookup = (LookupObject *)PyObject_CallNoArgs((PyObject *)lookup_type);
    if (self->lookup) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int reader_traverse(ReaderObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->lookup);
    return 0;
}

static void reader_dealloc(ReaderObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF((PyObject *)self->lookup);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *reader_subscript(ReaderObject *self, PyObject *key) {
    PyObject *value = find_anywhere(self->lookup, key);
    if (!value || value != missing) return value;
    Py_DECREF(value);
    COUNT(self->lookup, misses);
    PyObject *error = PyTuple_Pack(1, key); /* a tuple as key must stay one */
    if (error) PyErr_SetObject(PyExc_KeyError, error);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *reader_get(ReaderObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    PyObject *fallback = count > 1 ? args[1] : Py_None;
    if (named == 1 && count == 1 && !PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "default")) {
        fallback = args[1];
    } else if (count < 1 || count > 2 || named) {
        PyErr_SetString(PyExc_TypeError, "get(key, /, default=None)");
        return NULL;
    }
    PyObject *value = find_anywhere(self->lookup, args[0]);
    if (!value || value != missing) return value;
    Py_DECREF(value);
    COUNT(self->lookup, misses);
    return Py_NewRef(fallback);
}

/* A store that is not plain, and every deletion, is a method's of the subclass: _store(key, value), _delete(key). */
static int reader_ass_subscript(ReaderObject *self, PyObject *key, PyObject *value) {
    int stored = value ? put(self->lookup, key, value, NULL, 0) : 0;
    if (stored) return stored < 0 ? -1 : 0;
    PyObject *done = PyObject_CallMethodObjArgs((PyObject *)self, value ? store_carefully : delete_carefully, key, value, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyMethodDef reader_methods[] = {
    {"get", (PyCFunction)(void (*)(void))reader_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, key, /, default=None)\n--\n\nThe value, or `default`."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef reader_members[] = {
    {"_lookup", T_OBJECT_EX, offsetof(ReaderObject, lookup), READONLY, "Where it reads."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_methods, reader_methods},
    {Py_tp_members, reader_members},
    {Py_mp_subscript, reader_subscript},
    {Py_mp_ass_subscript, reader_ass_subscript},
    {Py_tp_doc, "What of VolatileCache is one call: get and [] of a Lookup, and plain stores into it."},
    {0, NULL},
};
static PyType_Spec reader_spec = {
    .name = "mvolatile._core.Reader",
    .basicsize = sizeof(ReaderObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = reader_slots,
};

bool is_lookup(PyObject *object) { return Py_TYPE(object) == lookup_type; }

int add_lookup_types(PyObject *module) {
    if (add_index_type(module) || add_slot_table_type(module) || add_one_value_type(module) || add_missing(module) ||
        make_passing_names())
        return -1;
    find_carefully = PyUnicode_InternFromString("find_carefully");
    find_behind = PyUnicode_InternFromString("find_behind");
    decoded = PyUnicode_InternFromString("decoded");
    not_decoded = PyUnicode_InternFromString("not_decoded");
    store_carefully = PyUnicode_InternFromString("_store");
    delete_carefully = PyUnicode_InternFromString("_delete");
    if (!find_carefully || !find_behind || !decoded || !not_decoded || !store_carefully || !delete_carefully) return -1;
    lookup_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lookup_spec, NULL);
    if (!lookup_type || PyModule_AddObjectRef(module, "Lookup", (PyObject *)lookup_type)) return -1;
    reader_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    return reader_type ? PyModule_AddObjectRef(module, "Reader", (PyObject *)reader_type) : -1;
}
