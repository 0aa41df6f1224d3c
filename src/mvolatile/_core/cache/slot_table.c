/* SlotTable: where in one Memory each of many small values lies, how often it was read, and how it is read without a lock. The segment that it
 * belongs to is told of in mvolatile/cache/store. */
#include "cache/cache.h"

#include <string.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    MemoryObject *memory; /* NULL: given to another segment */
    bool open; /* somebody holds a write pin: published bytes may be read in place */
    uint32_t count, room;
    uint32_t *ends; /* of each slot */
    Py_ssize_t dead, overhead; /* bytes of values that were overwritten or deleted; ordinary memory, as its owner counts it */
    struct mark {
        uint8_t visits; /* how often it was read since it was stored or moved; no more than fit */
        uint8_t cost; /* what it took to make: a class of mvolatile/cache/cost.py. Beside the other: a hit needs both */
    } *marks;
} SlotTableObject;

PyTypeObject *slot_table_type;

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    PyObject *memory;
    if (!PyArg_ParseTuple(args, "O!", memory_type, &memory)) return NULL;
    SlotTableObject *self = PyObject_New(SlotTableObject, type);
    if (!self) return NULL;
    self->memory = (MemoryObject *)Py_NewRef(memory);
    self->open = true;
    self->count = self->room = 0;
    self->dead = self->overhead = 0;
    self->ends = NULL;
    self->marks = NULL;
    return (PyObject *)self;
}

static void table_dealloc(SlotTableObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->ends);
    PyMem_Free(self->marks);
    Py_XDECREF((PyObject *)self->memory);
    PyObject_Free(self);
    Py_DECREF(type);
}

static bool make_room(SlotTableObject *self) {
    if (self->count < self->room) return true;
    uint32_t room = self->room ? self->room * 2 : 16;
    uint32_t *ends = PyMem_Realloc(self->ends, room * sizeof *ends);
    if (ends) self->ends = ends;
    struct mark *marks = ends ? PyMem_Realloc(self->marks, room * sizeof *marks) : NULL;
    if (!marks) return false;
    self->marks = marks;
    self->room = room;
    return true;
}

static size_t used(SlotTableObject *self) { return self->count ? self->ends[self->count - 1] : 0; }

static bool fits(SlotTableObject *self, size_t n) {
    return self->open && self->memory && self->memory->range && n <= (size_t)self->memory->nbytes - used(self);
}

static void append(SlotTableObject *self, const char *data, size_t n, uint8_t visits, uint8_t cost) {
    size_t at = used(self);
    memcpy(self->memory->range->base + at, data, n);
    self->ends[self->count] = (uint32_t)(at + n);
    self->marks[self->count++] = (struct mark){visits, cost};
}

static PyObject *table_append(SlotTableObject *self, PyObject *args) {
    Py_buffer data;
    unsigned char visits = 0, cost = 0;
    if (!PyArg_ParseTuple(args, "y*|bb", &data, &visits, &cost)) return NULL;
    PyObject *slot = NULL;
    if (!fits(self, (size_t)data.len)) {
        PyErr_SetString(PyExc_ValueError, "the segment is sealed or full");
    } else if (!make_room(self)) {
        PyErr_NoMemory();
    } else if ((slot = PyLong_FromUnsignedLong(self->count))) {
        append(self, data.buf, (size_t)data.len, visits, cost);
    }
    PyBuffer_Release(&data);
    return slot;
}

static bool find_slot(SlotTableObject *self, PyObject *number, uint32_t *slot) {
    unsigned long value = PyLong_AsUnsignedLong(number);
    if (value == (unsigned long)-1 && PyErr_Occurred()) return false;
    if (value >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such slot");
        return false;
    }
    *slot = (uint32_t)value;
    return true;
}

static uint32_t start_of(SlotTableObject *self, uint32_t slot) { return slot ? self->ends[slot - 1] : 0; }

static PyObject *table_bounds(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return Py_BuildValue("(kk)", (unsigned long)start_of(self, slot), (unsigned long)(self->ends[slot] - start_of(self, slot)));
}

static PyObject *table_size(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return PyLong_FromUnsignedLong(self->ends[slot] - start_of(self, slot));
}

static PyObject *table_visits(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return PyLong_FromUnsignedLong(self->marks[slot].visits);
}

static PyObject *table_cost(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    return PyLong_FromUnsignedLong(self->marks[slot].cost);
}

static PyObject *table_usual_cost(SlotTableObject *self, PyObject *unused) {
    (void)unused;
    uint64_t sum = 0;
    uint32_t known = 0;
    for (uint32_t slot = 0; slot < self->count; slot++) sum += self->marks[slot].cost, known += self->marks[slot].cost > 0;
    return PyFloat_FromDouble(known ? (double)sum / known : 0);
}

static uint8_t visit(SlotTableObject *self, uint32_t slot) {
    struct mark *mark = &self->marks[slot];
    if (mark->visits < UINT8_MAX) mark->visits++;
    return mark->cost;
}

static PyObject *table_visit(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    if (!find_slot(self, number, &slot)) return NULL;
    visit(self, slot);
    Py_RETURN_NONE;
}

static PyObject *table_close(SlotTableObject *self, PyObject *unused) {
    (void)unused;
    self->open = false;
    Py_RETURN_NONE;
}

static PyObject *table_let_go(SlotTableObject *self, PyObject *unused) {
    (void)unused;
    self->open = false;
    Py_CLEAR(self->memory);
    Py_RETURN_NONE;
}

static PyObject *get_used(SlotTableObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(used(self));
}

static PyObject *get_count(SlotTableObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->count);
}

static PyObject *get_has_memory(SlotTableObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->memory != NULL);
}

/* The last `few` bytes of a slot, if all of it is whole; false where only Python can tell.
 *
 * The bad schedule: we found our locator, the segment is retired and its memory given to another, which writes and is sealed, and then we
 * copy: a whole peek of another's bytes. The memory is let go before it is given away, so who still has it after copying read its own. */
__attribute__((always_inline)) static inline bool read_slot(SlotTableObject *self, uint32_t slot, char *to, Py_ssize_t few) {
    MemoryObject *memory = self->memory;
    if (!memory) return false;
    Py_ssize_t at = start_of(self, slot), n = (Py_ssize_t)self->ends[slot] - at;
    Py_INCREF((PyObject *)memory); /* copying may release the GIL */
    struct range *range = use_range(memory);
    bool whole = range != NULL;
    if (range && self->open && !atomic_load(&range->lossy)) /* a forked child may not have inherited what is held */
        memcpy(to, range->base + at + n - few, (size_t)few);
    else if (range)
        whole = few < n ? peek_tail(range, at, n, to, few) : !copy_out(range, at, n, to);
    if (range) unuse_range(range);
    if (self->memory != memory) whole = false;
    Py_DECREF((PyObject *)memory);
    if (!whole) PyErr_Clear();
    return whole;
}

static PyObject *fetch(SlotTableObject *self, uint32_t slot) {
    Py_ssize_t n = (Py_ssize_t)(self->ends[slot] - start_of(self, slot));
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n);
    if (!bytes || read_slot(self, slot, PyBytes_AsString(bytes), n)) return bytes;
    Py_DECREF(bytes);
    return NULL;
}

#define TAIL 8 /* room for a value's time of expiry */

static PyObject *table_tail(SlotTableObject *self, PyObject *number) {
    uint32_t slot;
    char last[TAIL];
    if (!find_slot(self, number, &slot) || (!self->open && watch_signals())) return NULL;
    Py_ssize_t n = (Py_ssize_t)(self->ends[slot] - start_of(self, slot)), few = n < TAIL ? n : TAIL;
    return read_slot(self, slot, last, few) ? PyBytes_FromStringAndSize(last, few) : Py_NewRef(Py_None);
}

struct found slot_table_read(PyObject *object, uint32_t slot) {
    SlotTableObject *self = (SlotTableObject *)object;
    struct found found = {NULL, 0};
    LOCK(self);
    bool there = slot < self->count && (self->open || !watch_signals()); /* what is held does not trap */
    found.bytes = there ? fetch(self, slot) : NULL;
    if (found.bytes) found.cost = visit(self, slot);
    UNLOCK();
    return found;
}

bool slot_table_fits(PyObject *object, Py_ssize_t n, Py_ssize_t count) {
    SlotTableObject *self = (SlotTableObject *)object;
    bool well;
    LOCK(self);
    well = fits(self, (size_t)n) && !atomic_load(&self->memory->range->lossy) && (Py_ssize_t)self->count == count && count < SLOTS;
    UNLOCK();
    return well;
}

bool slot_table_append(PyObject *object, const char *data, Py_ssize_t n, uint8_t visits, uint8_t cost, Py_ssize_t overhead, uint32_t *slot) {
    SlotTableObject *self = (SlotTableObject *)object;
    bool well;
    LOCK(self);
    *slot = self->count;
    well = fits(self, (size_t)n) && make_room(self);
    if (well) append(self, data, (size_t)n, visits, cost);
    if (well) self->overhead += overhead;
    UNLOCK();
    return well;
}

static Py_ssize_t size_of(SlotTableObject *self, uint32_t slot) { return (Py_ssize_t)(self->ends[slot] - start_of(self, slot)); }

bool slot_table_may_lose(PyObject *object, uint32_t slot) {
    SlotTableObject *self = (SlotTableObject *)object;
    bool may;
    LOCK(self);
    may = slot < self->count && (self->open || (self->dead + size_of(self, slot)) * 3 < (Py_ssize_t)used(self) * 2);
    UNLOCK();
    return may;
}

void slot_table_lose(PyObject *object, uint32_t slot) {
    SlotTableObject *self = (SlotTableObject *)object;
    LOCK(self);
    self->dead += size_of(self, slot);
    UNLOCK();
}

bool slot_table_end(PyObject *object, Py_ssize_t slot, Py_ssize_t *end, Py_ssize_t *overhead) {
    SlotTableObject *self = (SlotTableObject *)object;
    bool there;
    LOCK(self);
    there = slot >= 0 && slot < (Py_ssize_t)self->count;
    if (there) *end = (Py_ssize_t)self->ends[slot];
    *overhead = self->overhead;
    UNLOCK();
    return there;
}

/* The offsets move when they grow. */
#define LOCKED(method)                                                            \
    static PyObject *method##_locked(SlotTableObject *self, PyObject *argument) { \
        PyObject *result;                                                         \
        LOCK(self);                                                               \
        result = method(self, argument);                                          \
        UNLOCK();                                                                 \
        return result;                                                            \
    }
LOCKED(table_append)
LOCKED(table_bounds)
LOCKED(table_size)
LOCKED(table_visits)
LOCKED(table_cost)
LOCKED(table_usual_cost)
LOCKED(table_visit)
LOCKED(table_tail)
LOCKED(table_close)
LOCKED(table_let_go)

static PyMethodDef table_methods[] = {
    {"append", (PyCFunction)table_append_locked, METH_VARARGS,
     "append($self, data, visits=0, cost=0, /)\n--\n\nThe slot. ValueError when sealed or full."},
    {"bounds", (PyCFunction)table_bounds_locked, METH_O, "bounds($self, slot, /)\n--\n\n(offset, length)."},
    {"size", (PyCFunction)table_size_locked, METH_O, "size($self, slot, /)\n--\n\nIts bytes."},
    {"visits", (PyCFunction)table_visits_locked, METH_O,
     "visits($self, slot, /)\n--\n\nHow often the slot was read since it was stored or moved; 255: as often, or more."},
    {"cost", (PyCFunction)table_cost_locked, METH_O, "cost($self, slot, /)\n--\n\nThe class of what it took to make."},
    {"usual_cost", (PyCFunction)table_usual_cost_locked, METH_NOARGS,
     "usual_cost($self, /)\n--\n\nThe mean class of those whose cost is known; 0 where none is."},
    {"visit", (PyCFunction)table_visit_locked, METH_O, "visit($self, slot, /)\n--\n\nNote that the slot was read."},
    {"tail", (PyCFunction)table_tail_locked, METH_O,
     "tail($self, slot, /)\n--\n\nThe last eight bytes of a slot (or all, if fewer) once all of it was seen whole; None if that needs a hold."},
    {"close", (PyCFunction)table_close_locked, METH_NOARGS,
     "close($self, /)\n--\n\nNo more is appended, and reads no longer rely on a pin."},
    {"let_go", (PyCFunction)table_let_go_locked, METH_NOARGS,
     "let_go($self, /)\n--\n\nThe memory is another's from now on: reads under way find nothing."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef table_attributes[] = {
    {"used", (getter)get_used, NULL, "Bytes taken.", NULL},
    {"count", (getter)get_count, NULL, "Slots taken.", NULL},
    {"has_memory", (getter)get_has_memory, NULL, "Whether it has not been let go.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef table_members[] = {
    {"dead", T_PYSSIZET, offsetof(SlotTableObject, dead), 0, "Bytes of values that were overwritten or deleted: its owner's to count."},
    {"overhead", T_PYSSIZET, offsetof(SlotTableObject, overhead), 0, "Ordinary memory that its values cost: its owner's to count."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot table_slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {Py_tp_getset, table_attributes},
    {Py_tp_members, table_members},
    {Py_tp_doc, "SlotTable(memory, /)\n--\n\n"
                "Small values one after another in a memory that the caller holds for writing until close()."},
    {0, NULL},
};
static PyType_Spec slot_table_spec = {
    .name = "mvolatile._core.SlotTable",
    .basicsize = sizeof(SlotTableObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};

int add_slot_table_type(PyObject *module) {
    slot_table_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &slot_table_spec, NULL);
    return !slot_table_type || PyModule_AddObjectRef(module, "SlotTable", (PyObject *)slot_table_type) ? -1 : 0;
}
