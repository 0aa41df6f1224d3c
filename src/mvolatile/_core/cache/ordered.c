/* Objects by number, in the order in which they came: regions in a queue, and the values that are sampled.
 *
 * A dict is that, too, but for its oldest: who takes from the front of one steps over all places that were left before, ten thousand at times.
 * collections.OrderedDict knows its oldest; from C each step is a call, of which a store takes ten. */
#include "cache/eviction.h"

#define NONE UINT32_MAX
#define LEAST 16

static uint32_t *place_of(const struct ordered *all, uint64_t number) {
    return &all->places[number * 0x9E3779B97F4A7C15u >> 32 & (all->room - 1)];
}

struct numbered *ordered_find(const struct ordered *all, uint64_t number) {
    for (uint32_t at = all->count ? *place_of(all, number) : NONE; at != NONE; at = all->nodes[at].chain)
        if (all->nodes[at].number == number) return &all->nodes[at];
    return NULL;
}

struct numbered *ordered_oldest(const struct ordered *all) { return all->count ? &all->nodes[all->oldest] : NULL; }

struct numbered *ordered_next(const struct ordered *all, const struct numbered *node) { return node->after == NONE ? NULL : &all->nodes[node->after]; }

static void link_newest(struct ordered *all, uint32_t at) {
    struct numbered *node = &all->nodes[at];
    node->after = NONE;
    node->before = all->count ? all->newest : NONE;
    if (all->count) all->nodes[all->newest].after = at;
    else all->oldest = at;
    all->newest = at;
    all->count++;
    all->changes++;
}

static void unlink_node(struct ordered *all, struct numbered *node) {
    if (node->before == NONE) all->oldest = node->after;
    else all->nodes[node->before].after = node->after;
    if (node->after == NONE) all->newest = node->before;
    else all->nodes[node->after].before = node->before;
    all->count--;
    all->changes++;
}

struct numbered *ordered_append(struct ordered *all, uint64_t number, PyObject *object) {
    uint32_t at = all->unused, *place = place_of(all, number);
    struct numbered *node = &all->nodes[at];
    all->unused = node->after;
    *node = (struct numbered){.number = number, .object = Py_NewRef(object), .chain = *place};
    *place = at;
    link_newest(all, at);
    return node;
}

/* Those that are below, in a table of another size; false, and all is as before, where there is no memory. The others are let go last of all: that may
 * run anything. */
static bool rebuild(struct ordered *all, uint32_t room, uint64_t below) {
    struct ordered before = *all, after = {.room = room, .changes = all->changes};
    after.nodes = PyMem_Malloc(room * sizeof *after.nodes);
    after.places = after.nodes ? PyMem_Malloc(room * sizeof *after.places) : NULL;
    if (!after.places) {
        PyMem_Free(after.nodes);
        return false;
    }
    for (uint32_t at = 0; at < room; at++) {
        after.nodes[at].after = at + 1;
        after.places[at] = NONE;
    }
    for (struct numbered *node = ordered_oldest(&before); node; node = ordered_next(&before, node))
        if (node->number < below) ordered_append(&after, node->number, node->object)->visits = node->visits;
    *all = after;
    ordered_clear(&before);
    return true;
}

bool ordered_reserve(struct ordered *all) {
    if (all->count < all->room) return true;
    return all->room < NONE / 2 && rebuild(all, all->room ? 2 * all->room : LEAST, UINT64_MAX);
}

bool ordered_keep(struct ordered *all, uint64_t below) { return !all->room || rebuild(all, all->room, below); }

PyObject *ordered_remove(struct ordered *all, struct numbered *node) {
    uint32_t at = (uint32_t)(node - all->nodes), *link = place_of(all, node->number);
    PyObject *object = node->object;
    while (*link != at) link = &all->nodes[*link].chain;
    *link = node->chain;
    unlink_node(all, node);
    node->after = all->unused;
    all->unused = at;
    if (all->room > LEAST && all->count < all->room / 8) (void)rebuild(all, all->room / 4, UINT64_MAX);
    return object;
}

void ordered_renew(struct ordered *all, struct numbered *node) {
    unlink_node(all, node);
    link_newest(all, (uint32_t)(node - all->nodes));
}

void ordered_clear(struct ordered *all) {
    struct ordered before = *all;
    *all = (struct ordered){.changes = before.changes + 1};
    for (struct numbered *node = ordered_oldest(&before); node; node = ordered_next(&before, node)) Py_DECREF(node->object);
    PyMem_Free(before.nodes);
    PyMem_Free(before.places);
}

int ordered_traverse(const struct ordered *all, visitproc visit, void *arg) {
    for (struct numbered *node = ordered_oldest(all); node; node = ordered_next(all, node)) Py_VISIT(node->object);
    return 0;
}

size_t ordered_nbytes(const struct ordered *all) { return all->room * (sizeof *all->nodes + sizeof *all->places); }

/* ---- an iterator ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* it has them; NULL: over */
    const struct ordered *all;
    uint32_t next;
    uint64_t changes;
} InOrderObject;

static PyTypeObject *in_order_type;

PyObject *ordered_iterate(PyObject *owner, const struct ordered *all) {
    InOrderObject *self = PyObject_GC_New(InOrderObject, in_order_type);
    if (!self) return NULL;
    self->owner = Py_NewRef(owner);
    self->all = all;
    self->next = all->count ? all->oldest : NONE;
    self->changes = all->changes;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *in_order_next(InOrderObject *self) {
    if (!self->owner || self->next == NONE) return NULL;
    if (self->all->changes != self->changes) {
        PyErr_SetString(PyExc_RuntimeError, "the order changed during iteration");
        return NULL;
    }
    const struct numbered *node = &self->all->nodes[self->next];
    self->next = node->after;
    return Py_NewRef(node->object);
}

static int in_order_traverse(InOrderObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->owner);
    return 0;
}

static int in_order_clear(InOrderObject *self) {
    Py_CLEAR(self->owner);
    return 0;
}

static void in_order_dealloc(InOrderObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->owner);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot in_order_slots[] = {
    {Py_tp_dealloc, in_order_dealloc},
    {Py_tp_traverse, in_order_traverse},
    {Py_tp_clear, in_order_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, in_order_next},
    {0, NULL},
};
static PyType_Spec in_order_spec = {
    .name = "mvolatile._core.InOrder",
    .basicsize = sizeof(InOrderObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = in_order_slots,
};

int add_in_order_type(void) {
    in_order_type = (PyTypeObject *)PyType_FromSpec(&in_order_spec);
    return in_order_type ? 0 : -1;
}
