/* A plain store in one call, as there is one for a plain hit: bytes or a str of some size, into an open segment with room. What Python code has
 * laid out, such as a pickle, comes the same way, with its kind; the rest is not ours to look at. Its twin is model/stock/put.py.
 *
 * The engine *arms* it, at the end of a change and under the cache's lock: it says which segment is open, and gives credit for so many bytes
 * that may be stored before anything else is to be done (a limit, a segment's end, a policy that wants to be told). Every other change begins
 * by disarming it (`disarm`, which takes back all of it and says that a change is under way), so nothing that we were told can be out of date:
 * not the segment, which may be sealed, nor the bounds. Where it is not armed, or anything is not as usual, nothing was changed and the caller
 * goes the long way.
 *
 * In a full cache it is armed otherwise: with a function of the engine's that makes room and stores, put_full(). That is a change like any other, under
 * the lock and with `torn` set, but for what goes before and after one. No segment is told of: what stays of the others is moved, and may fill the one that
 * was open; and no change disarms it that is of its own kind, so it would keep keys of a segment that is long gone. It answers False before it has
 * changed anything where a change of another kind is to be made. What costs something to make goes the long way, where the guard is asked, and so does what was
 * made here. A large value comes this way too: its memory is that of one that goes, or went before. Who finds the lock taken goes the long way, which
 * copies without it, so threads that store large values at once do not wait for each other's copies.
 *
 * Locks: the cache's own, which is taken without waiting. Who has it in another thread is in the middle of a change: the long way waits. Who has
 * it in this one is further up our stack, and called back from a finalizer or a key's __eq__: `torn` says so, and the long way puts the
 * change off until the other is over. The same may come in our middle: then we are the change that is under way, and hand on what was put off.
 *
 * Forks: a child that has not caught up does not know whose the lock is, so it goes the long way; `forks` says so, in C forks too.
 * KeyboardInterrupt comes in Python code alone, which here are keys' __hash__ and __eq__, and put_full(). Before the slot is taken nothing has
 * changed; afterwards `torn` stays, and the next change mends: the slot was not published, and is nobody's. */
#include "cache/lookup.h"
#include "protocol/gate.h"

#define LARGEST (16 << 10)   /* from here on a value may want memory of its own */
#define AT_ONCE (1 << 20)  /* up to here the copy is made under the lock, if that is to be had at once: 20 us or less */
#define ENTRY 120 /* as in cache/store/overhead.py */

void plain_clear(struct plain *plain) {
    PyObject **all[] = {&plain->acquire, &plain->release, &plain->calls, &plain->later, &plain->weigh, &plain->table, &plain->keys, &plain->full};
    plain->credit = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_CLEAR(*all[i]);
}

/* What is borrowed in `armed` is ours from now on. */
static PyObject *set_plain(LookupObject *self, struct plain armed) {
    struct plain before;
    armed.forks = fork_depth;
    PyObject *all[] = {armed.acquire, armed.release, armed.calls, armed.later, armed.weigh, armed.table, armed.keys, armed.full};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_XINCREF(all[i]);
    LOCK(self);
    before = self->plain;
    self->plain = armed;
    UNLOCK();
    plain_clear(&before);
    Py_RETURN_NONE;
}

PyObject *lookup_arm(LookupObject *self, PyObject *args) {
    struct plain armed = {0};
    if (!PyArg_ParseTuple(args, "O!O!KnOOO!O!OI", slot_table_type, &armed.table, &PyList_Type, &armed.keys, &armed.number, &armed.credit, &armed.acquire,
                          &armed.release, &PyDict_Type, &armed.calls, &PyList_Type, &armed.later, &armed.weigh, &armed.dear))
        return NULL;
    return set_plain(self, armed);
}

PyObject *lookup_arm_full(LookupObject *self, PyObject *args) {
    struct plain armed = {0};
    if (!PyArg_ParseTuple(args, "OOOO!O!", &armed.full, &armed.acquire, &armed.release, &PyDict_Type, &armed.calls, &PyList_Type, &armed.later)) return NULL;
    armed.dear = 1; /* what is known to cost something goes the long way */
    return set_plain(self, armed);
}

PyObject *lookup_disarm(LookupObject *self, PyObject *unused) {
    (void)unused;
    struct plain before;
    LOCK(self);
    before = self->plain;
    self->plain = (struct plain){0};
    self->torn = true;
    UNLOCK();
    plain_clear(&before); /* all of it: else a cache that was cleared would keep its last keys */
    Py_RETURN_NONE;
}

/* What a key takes beside; -1 with an exception set. */
static Py_ssize_t overhead_of(PyObject *key, PyObject *weigh) {
    if (Py_IS_TYPE(key, &PyLong_Type)) return 28 + ENTRY;
    if (Py_IS_TYPE(key, &PyUnicode_Type)) return 49 + PyUnicode_GetLength(key) + ENTRY;
    PyObject *told = PyObject_CallFunctionObjArgs(weigh, key, NULL);
    Py_ssize_t bytes = told ? PyLong_AsSsize_t(told) : -1;
    Py_XDECREF(told);
    return bytes;
}

/* The table of the value that the key has now, if that is a small one whose segment stays as it is without it. *old is NULL for a key that is
 * new. 1, 0 or -1 as of put(). */
static int find_old(LookupObject *self, PyObject *key, PyObject **old, uint32_t *slot) {
    PyObject *locator = find_in_index(self->index, key), *number, *table;
    *old = NULL;
    if (!locator) return PyErr_Occurred() ? -1 : 1;
    unsigned long long packed = PyLong_AsUnsignedLongLong(locator);
    Py_DECREF(locator);
    if (!(number = PyLong_FromUnsignedLongLong(packed >> NUMBER_SHIFT))) return -1;
    table = find_in_dict(self->tables, number);
    Py_DECREF(number);
    if (!table) return PyErr_Occurred() ? -1 : 0;
    *slot = (uint32_t)(packed >> KIND_BITS) & (SLOTS - 1);
    if (Py_TYPE(table) == slot_table_type && slot_table_may_lose(table, *slot)) {
        *old = table;
        return 1;
    }
    Py_DECREF(table);
    return 0;
}

enum {
    UNPUBLISHED = -2
};

/* With the lock, and nothing else under way. As put(); or UNPUBLISHED with an exception set, and a slot taken that is nobody's. */
static int put_locked(LookupObject *self, PyObject *table, PyObject *keys, unsigned long long number, PyObject *key, PyObject *data, unsigned kind,
                      uint8_t cost, Py_ssize_t overhead) {
    PyObject *old, *locator;
    uint32_t slot, old_slot = 0;
    Py_ssize_t n = PyBytes_Size(data), count = PyList_Size(keys);
    int found = find_old(self, key, &old, &old_slot);
    if (found <= 0) return found;
    if (!slot_table_fits(table, n, count) || PyList_Append(keys, key)) {
        Py_XDECREF(old);
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!slot_table_append(table, PyBytes_AsString(data), n, 0, cost, overhead, &slot)) {
        Py_XDECREF(old);
        return PyList_SetSlice(keys, count, count + 1, NULL);
    }
    self->stores++;
    self->nbytes += n;
    self->overhead += overhead;
    self->plain.credit -= n + overhead;
    locator = PyLong_FromUnsignedLongLong(number << NUMBER_SHIFT | (unsigned long long)slot << KIND_BITS | kind);
    bool published = locator && !PyObject_SetItem(self->index, key, locator);
    if (published && old) slot_table_lose(old, old_slot);
    Py_XDECREF(locator);
    Py_XDECREF(old);
    return published ? 1 : UNPUBLISHED;
}

/* Whether what was made may be stored: its key was not set, deleted or cleared meanwhile. */
static bool is_current(PyObject *call) {
    PyObject *stale = PyObject_GetAttrString(call, "stale");
    bool current = stale == Py_False;
    if (!stale) PyErr_Clear();
    Py_XDECREF(stale);
    return current;
}

/* The lock is ours, and nothing else is under way. As put(). */
static int put_armed(LookupObject *self, PyObject *key, PyObject *data, unsigned kind, uint8_t cost, Py_ssize_t overhead) {
    struct plain *plain = &self->plain;
    PyObject *table = Py_NewRef(plain->table), *keys = Py_NewRef(plain->keys); /* in a child, a fork in our middle disarms */
    int stored = put_locked(self, table, keys, plain->number, key, data, kind, cost, overhead);
    Py_DECREF(table);
    Py_DECREF(keys);
    return stored;
}

/* The same where others have to go first: Python's part of it, as a change would call it. It is cut short by an interrupt, as a change is. */
static int put_full(LookupObject *self, PyObject *key, PyObject *data, unsigned kind) {
    PyObject *full = Py_NewRef(self->plain.full), *number = PyLong_FromUnsignedLong(kind);
    PyObject *done = number ? PyObject_CallFunctionObjArgs(full, key, number, data, NULL) : NULL;
    int stored = done ? done == Py_True : UNPUBLISHED;
    Py_XDECREF(done);
    Py_XDECREF(number);
    Py_DECREF(full);
    return stored;
}

static bool is_armed(LookupObject *self) { return self->plain.credit > 0 || self->plain.full; }

/* With the lock. What was armed when it was asked for may be so no more: another thread's change has ended since, or one that the key's own size made. */
static int put_ours(LookupObject *self, PyObject *key, PyObject *data, unsigned kind, PyObject *call, uint8_t cost, Py_ssize_t overhead) {
    struct plain *plain = &self->plain;
    if (!is_armed(self) || self->torn || plain->forks != fork_depth || !(call ? is_current(call) : !PyDict_Size(plain->calls))) return 0;
    bool fits = PyBytes_Size(data) < LARGEST && plain->credit >= PyBytes_Size(data) + overhead;
    if (!fits && (!plain->full || call || cost)) return 0;
    self->torn = true;
    int stored = fits ? put_armed(self, key, data, kind, cost, overhead) : put_full(self, key, data, kind);
    self->torn = stored == UNPUBLISHED || plain->forks != fork_depth; /* then it is mended */
    return stored;
}

/* Bytes of a value, and more. Asked without the lock: what is armed by the time that it is had decides. */
static Py_ssize_t most_at_once(LookupObject *self) { return self->plain.full ? AT_ONCE : LARGEST - 1; }

static int put_bytes(LookupObject *self, PyObject *key, PyObject *data, unsigned kind, PyObject *call, uint8_t cost) {
    struct plain *plain = &self->plain;
    Py_ssize_t n = PyBytes_Size(data), overhead = 0;
    PyObject *acquire = NULL, *release = NULL, *weigh = NULL, *got = NULL, *error[3];
    if (!n || n > most_at_once(self) || cost >= plain->dear || plain->forks != fork_depth) return 0;
    LOCK(self);
    if (plain->credit >= n || plain->full) {
        acquire = Py_NewRef(plain->acquire);
        release = Py_NewRef(plain->release);
        weigh = Py_XNewRef(plain->weigh); /* NULL where it is full */
    }
    UNLOCK();
    if (!acquire) return 0;
    if (!weigh || (overhead = overhead_of(key, weigh)) >= 0) got = PyObject_CallFunctionObjArgs(acquire, Py_False, NULL);
    int stored = got ? 0 : -1;
    bool ours = got == Py_True, waiting = false;
    Py_XDECREF(got);
    Py_XDECREF(weigh);
    Py_DECREF(acquire);
    if (ours) {
        stored = put_ours(self, key, data, kind, call, cost, overhead);
        waiting = stored && plain->later && PyList_Size(plain->later) > 0;
        PyErr_Fetch(&error[0], &error[1], &error[2]);
        PyObject *released = PyObject_CallFunctionObjArgs(release, NULL);
        Py_XDECREF(released);
        if (!released && !error[0]) stored = -1;
        else PyErr_Restore(error[0], error[1], error[2]);
    }
    Py_DECREF(release);
    if (waiting && stored >= 0) {
        PyObject *engine = Py_XNewRef(self->engine), *done = engine ? PyObject_CallMethod(engine, "go_on", NULL) : NULL;
        Py_XDECREF(engine);
        Py_XDECREF(done);
        if (engine && !done) return -1;
    }
    return stored < 0 ? -1 : stored;
}

/* What put_bytes() answered, but that the long way gives others up where no memory was to be had. */
static int or_long_way(int stored) {
    if (stored >= 0 || !PyErr_ExceptionMatches(PyExc_MemoryError)) return stored;
    PyErr_Clear();
    return 0;
}

int put(LookupObject *self, PyObject *key, PyObject *value, PyObject *call, uint8_t cost) {
    PyObject *data;
    int stored;
    if (!is_armed(self)) return 0;
    if (Py_IS_TYPE(value, &PyBytes_Type)) {
        stored = put_bytes(self, key, value, BYTES, call, cost);
    } else if (!Py_IS_TYPE(value, &PyUnicode_Type) || PyUnicode_GetLength(value) > most_at_once(self)) {
        return 0;
    } else {
        data = PyUnicode_AsEncodedString(value, "utf-8", "surrogatepass");
        stored = data ? put_bytes(self, key, data, STR, call, cost) : -1;
        Py_XDECREF(data);
    }
    return or_long_way(stored);
}

PyObject *lookup_put_laid_out(LookupObject *self, PyObject *args) {
    PyObject *key, *data, *call;
    unsigned char kind, cost;
    if (!PyArg_ParseTuple(args, "ObO!Ob", &key, &kind, &PyBytes_Type, &data, &call, &cost)) return NULL;
    if (kind >> KIND_BITS) {
        PyErr_SetString(PyExc_ValueError, "a kind is less than 16");
        return NULL;
    }
    int stored = !is_armed(self) ? 0 : or_long_way(put_bytes(self, key, data, kind, call == Py_None ? NULL : call, cost));
    return stored < 0 ? NULL : PyBool_FromLong(stored);
}

PyObject *lookup_put(LookupObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 2 || count > 4) {
        PyErr_SetString(PyExc_TypeError, "put(key, value, call=None, cost=0, /)");
        return NULL;
    }
    long cost = count == 4 ? PyLong_AsLong(args[3]) : 0;
    if (cost == -1 && PyErr_Occurred()) return NULL;
    int stored = put(self, args[0], args[1], count > 2 && args[2] != Py_None ? args[2] : NULL, (uint8_t)cost);
    return stored < 0 ? NULL : PyBool_FromLong(stored);
}

/* ---- a store that is Python's, in a change: the last step of it ------------------------------------------------------------------------ */

static PyObject *enter_in(LookupObject *self, PyObject *const *args, PyObject *table, PyObject *keys, unsigned long long number) {
    unsigned long kind = PyLong_AsUnsignedLong(args[2]), visits = PyLong_AsUnsignedLong(args[4]), cost = PyLong_AsUnsignedLong(args[5]);
    if (PyErr_Occurred()) return NULL;
    Py_ssize_t overhead = overhead_of(args[1], args[6]), count = PyList_Size(keys);
    Py_buffer data;
    uint32_t slot;
    if (overhead < 0 || PyObject_GetBuffer(args[3], &data, PyBUF_SIMPLE)) return NULL;
    Py_ssize_t n = data.len;
    bool fits = slot_table_fits(table, n, count) && !PyList_Append(keys, args[1]);
    if (fits && !slot_table_append(table, data.buf, n, (uint8_t)visits, (uint8_t)cost, overhead, &slot)) {
        (void)PyList_SetSlice(keys, count, count + 1, NULL);
        fits = false;
    }
    PyBuffer_Release(&data);
    if (!fits) return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    self->nbytes += n;
    self->overhead += overhead;
    PyObject *old = find_in_index(self->index, args[1]), *locator = NULL;
    if (old || !PyErr_Occurred()) locator = PyLong_FromUnsignedLongLong(number << NUMBER_SHIFT | (unsigned long long)slot << KIND_BITS | kind);
    bool published = locator && !PyObject_SetItem(self->index, args[1], locator);
    Py_XDECREF(locator);
    if (published) return old ? old : Py_NewRef(Py_None);
    Py_XDECREF(old);
    return NULL;
}

PyObject *lookup_enter(LookupObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 7) {
        PyErr_SetString(PyExc_TypeError, "enter(segment, key, kind, data, visits, cost, weigh, /)");
        return NULL;
    }
    PyObject *table = PyObject_GetAttrString(args[0], "table"), *keys = table ? PyObject_GetAttrString(args[0], "keys") : NULL;
    PyObject *number = keys ? PyObject_GetAttrString(args[0], "number") : NULL, *old = NULL;
    if (number && Py_TYPE(table) == slot_table_type && PyList_Check(keys)) old = enter_in(self, args, table, keys, PyLong_AsUnsignedLongLong(number));
    else if (number) PyErr_SetString(PyExc_TypeError, "it is no segment");
    Py_XDECREF(table);
    Py_XDECREF(keys);
    Py_XDECREF(number);
    return old;
}
