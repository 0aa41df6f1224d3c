/* What is asked of a store each time that a value goes for another: whether one lives, how often it was read, what it counts no more; and one is
 * entered. They are methods of Lookup, called under the cache's lock. In Python each is several calls, and a store in a full cache some fifty. */
#include "cache/lookup.h"

static PyObject *keys_name, *number_name, *table_name, *emptied_name, *emptied_overhead_name, *visits_name;

int make_passing_names(void) {
    struct {
        PyObject **name;
        const char *text;
    } all[] = {{&keys_name, "keys"}, {&number_name, "number"}, {&table_name, "table"}, {&emptied_name, "emptied"}, {&emptied_overhead_name, "emptied_overhead"}, {&visits_name, "visits"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!(*all[i].name = PyUnicode_InternFromString(all[i].text))) return -1;
    return 0;
}

/* A number of an object's; -1 with an exception set. */
static Py_ssize_t number_of(PyObject *object, PyObject *name) {
    PyObject *number = PyObject_GetAttr(object, name);
    Py_ssize_t value = number ? PyLong_AsSsize_t(number) : -1;
    Py_XDECREF(number);
    return value;
}

static int set_number(PyObject *object, PyObject *name, Py_ssize_t value) {
    PyObject *number = PyLong_FromSsize_t(value);
    int failed = number ? PyObject_SetAttr(object, name, number) : -1;
    Py_XDECREF(number);
    return failed;
}

static bool region_and_slot(PyObject *const *args, Py_ssize_t count, Py_ssize_t *slot) {
    if (count != 2) PyErr_SetString(PyExc_TypeError, "a region and a slot");
    else if ((*slot = PyLong_AsSsize_t(args[1])) >= 0) return true;
    else if (!PyErr_Occurred()) PyErr_SetString(PyExc_IndexError, "no such slot");
    return false;
}

/* The key of a slot. */
static PyObject *key_of(PyObject *region, Py_ssize_t slot) {
    PyObject *keys = PyObject_GetAttr(region, keys_name), *key = keys ? PySequence_GetItem(keys, slot) : NULL;
    Py_XDECREF(keys);
    return key;
}

static Py_ssize_t region_number(PyObject *region) {
    struct one_value *value = one_value_of(region);
    return value ? value->number : number_of(region, number_name);
}

PyObject *lookup_lives(LookupObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t slot, number;
    if (!region_and_slot(args, count, &slot) || (number = region_number(args[0])) < 0) return NULL;
    PyObject *key = key_of(args[0], slot);
    if (!key) return NULL;
    PyObject *locator = find_in_index(self->index, key);
    Py_DECREF(key);
    if (!locator) return PyErr_Occurred() && !only_the_keys_fault() ? NULL : Py_NewRef(Py_False);
    unsigned long long packed = PyLong_AsUnsignedLongLong(locator);
    Py_DECREF(locator);
    return PyBool_FromLong(packed >> KIND_BITS == ((unsigned long long)number << (NUMBER_SHIFT - KIND_BITS) | (unsigned long long)slot));
}

PyObject *lookup_visits(LookupObject *self, PyObject *key) {
    PyObject *locator = find_in_index(self->index, key), *number, *table, *visits;
    if (!locator) return PyErr_Occurred() && !only_the_keys_fault() ? NULL : Py_NewRef(Py_None);
    unsigned long long packed = PyLong_AsUnsignedLongLong(locator);
    Py_DECREF(locator);
    if (!(number = PyLong_FromUnsignedLongLong(packed >> NUMBER_SHIFT))) return NULL;
    table = find_in_dict(self->tables, number);
    Py_DECREF(number);
    if (!table) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (Py_TYPE(table) == slot_table_type) {
        PyObject *slot = PyLong_FromUnsignedLongLong(packed >> KIND_BITS & (SLOTS - 1));
        visits = slot ? PyObject_CallMethodObjArgs(table, visits_name, slot, NULL) : NULL;
        Py_XDECREF(slot);
    } else {
        struct one_value *value = one_value_of(table); /* of a large value, which has no slots */
        visits = value ? PyLong_FromSsize_t(value->read_since) : Py_NewRef(Py_None);
    }
    Py_DECREF(table);
    return visits;
}

static bool is_registered(LookupObject *self, PyObject *region) {
    PyObject *number = PyObject_GetAttr(region, number_name), *table = number ? find_in_dict(self->tables, number) : NULL;
    bool there = table != NULL;
    Py_XDECREF(number);
    Py_XDECREF(table);
    return there;
}

/* They count no more, though their pages stay until all of the segment is emptied. */
static bool count_no_more(LookupObject *self, PyObject *segment, PyObject *table, Py_ssize_t slot, Py_ssize_t slots) {
    Py_ssize_t bytes = number_of(segment, emptied_name), overhead = number_of(segment, emptied_overhead_name), end, all;
    if (bytes < 0 || overhead < 0 || !slot_table_end(table, slot, &end, &all)) return false;
    if (end > bytes) {
        if (set_number(segment, emptied_name, end)) return false;
        self->nbytes -= end - bytes;
    }
    Py_ssize_t part = (Py_ssize_t)((__int128)all * (slot + 1) / (slots ? slots : 1));
    if (part > overhead) {
        if (set_number(segment, emptied_overhead_name, part)) return false;
        self->overhead -= part - overhead;
    }
    return true;
}

PyObject *lookup_emptied(LookupObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t slot;
    if (!region_and_slot(args, count, &slot)) return NULL;
    if (!is_registered(self, args[0])) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *keys = PyObject_GetAttr(args[0], keys_name), *table = keys ? PyObject_GetAttr(args[0], table_name) : NULL;
    bool well = table && Py_TYPE(table) == slot_table_type && count_no_more(self, args[0], table, slot, PyObject_Size(keys));
    Py_XDECREF(keys);
    Py_XDECREF(table);
    if (!well && !PyErr_Occurred()) PyErr_SetString(PyExc_IndexError, "no such slot");
    return well ? Py_NewRef(Py_None) : NULL;
}
