/* What a policy asks of regions and of its cache's figures (mvolatile/cache/eviction/policy.py). They are of several kinds, so by name. */
#include "cache/eviction.h"
#include "cache/lookup.h"

#include <math.h>

static PyObject *names[ASKED];

int make_asking_names(void) {
    static const char *const texts[ASKED] = {
        [ASK_NUMBER] = "number", [ASK_QUEUE] = "queue", [ASK_USED] = "used", [ASK_EMPTIED] = "emptied", [ASK_PASSED] = "passed", [ASK_IS_OPEN] = "is_open", [ASK_VISITS] = "visits", [ASK_SIZE] = "size", [ASK_COST] = "cost", [ASK_NBYTES] = "nbytes", [ASK_ENTRIES] = "entries", [ASK_LIMIT] = "limit", [ASK_FILLING] = "filling", [ASK_LIVES] = "lives", [ASK_KEYS] = "keys"};
    for (int what = 0; what < ASKED; what++)
        if (!(names[what] = PyUnicode_InternFromString(texts[what]))) return -1;
    return 0;
}

static Py_ssize_t checked(Py_ssize_t number) {
    if (number >= 0) return number;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a number must not be negative");
    return -1;
}

/* Of an answer, which is let go. */
static Py_ssize_t as_number(PyObject *answer) {
    Py_ssize_t number = answer ? PyLong_AsSsize_t(answer) : -1;
    Py_XDECREF(answer);
    return checked(number);
}

static int as_truth(PyObject *answer) {
    int truth = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return truth;
}

/* Of a large value what it has is read, without a call: many are asked of for each store. */
static const Py_ssize_t *answer_of(PyObject *region, enum asked what) {
    static const Py_ssize_t none = 0;
    const struct one_value *value = one_value_of(region);
    if (!value) return NULL;
    switch (what) {
    case ASK_NUMBER: return &value->number;
    case ASK_QUEUE: return &value->queue;
    case ASK_USED:
    case ASK_SIZE: return &value->used;
    case ASK_VISITS: return &value->read_since;
    case ASK_COST: return &value->took;
    case ASK_EMPTIED:
    case ASK_PASSED:
    case ASK_IS_OPEN: return &none;
    default: return NULL;
    }
}

Py_ssize_t ask(PyObject *object, enum asked what) {
    const Py_ssize_t *answer = answer_of(object, what);
    return answer ? checked(*answer) : as_number(PyObject_GetAttr(object, names[what]));
}

uint64_t ask_number(PyObject *region) { return (uint64_t)ask(region, ASK_NUMBER); }

Py_ssize_t ask_of_slot(PyObject *region, enum asked what, PyObject *slot) {
    const Py_ssize_t *answer = answer_of(region, what);
    return answer ? checked(*answer) : as_number(PyObject_CallMethodObjArgs(region, names[what], slot, NULL));
}

bool figures_begin(struct figures *figures, PyObject *told, PyObject *lookup) {
    if (lookup != Py_None && !is_lookup(lookup)) {
        PyErr_SetString(PyExc_TypeError, "a Lookup or None");
        return false;
    }
    *figures = (struct figures){Py_NewRef(told), lookup == Py_None ? NULL : Py_NewRef(lookup)};
    return true;
}

/* After a change that was cut short a lookup counts too little, until that is mended. */
Py_ssize_t ask_nbytes(const struct figures *figures) {
    if (!figures->lookup) return ask(figures->told, ASK_NBYTES);
    Py_ssize_t nbytes = ((LookupObject *)figures->lookup)->nbytes;
    return nbytes > 0 ? nbytes : 0;
}

Py_ssize_t ask_entries(const struct figures *figures) {
    return figures->lookup ? PyObject_Size(((LookupObject *)figures->lookup)->index) : ask(figures->told, ASK_ENTRIES);
}

Py_ssize_t ask_visits(const struct figures *figures, PyObject *key) {
    PyObject *answer = figures->lookup ? lookup_visits((LookupObject *)figures->lookup, key) : PyObject_CallMethodObjArgs(figures->told, names[ASK_VISITS], key, NULL);
    if (answer != Py_None) return as_number(answer);
    Py_DECREF(answer);
    return -1;
}

int ask_is_unlimited(const struct figures *figures) {
    PyObject *answer = PyObject_GetAttr(figures->told, names[ASK_LIMIT]);
    double limit = answer ? PyFloat_AsDouble(answer) : -1;
    Py_XDECREF(answer);
    return limit == -1 && PyErr_Occurred() ? -1 : limit == INFINITY;
}

int ask_lives(const struct figures *figures, PyObject *region, PyObject *slot) {
    PyObject *place[] = {region, slot};
    return as_truth(figures->lookup ? lookup_lives((LookupObject *)figures->lookup, place, 2) : PyObject_CallMethodObjArgs(figures->told, names[ASK_LIVES], region, slot, NULL));
}

PyObject *ask_filling(const struct figures *figures, PyObject *queue) { return PyObject_CallMethodObjArgs(figures->told, names[ASK_FILLING], queue, NULL); }

Py_ssize_t ask_slots(PyObject *region) {
    PyObject *keys = PyObject_GetAttr(region, names[ASK_KEYS]);
    Py_ssize_t count = keys ? PyObject_Size(keys) : -1;
    Py_XDECREF(keys);
    return count;
}

PyObject *ask_key(PyObject *region, Py_ssize_t slot) {
    PyObject *keys = PyObject_GetAttr(region, names[ASK_KEYS]), *key = keys ? PySequence_GetItem(keys, slot) : NULL;
    Py_XDECREF(keys);
    return key;
}

Py_hash_t hash_of(PyObject *key) {
    Py_hash_t hash = PyObject_Hash(key);
    return hash == -1 && only_the_keys_fault() ? 0 : hash;
}
