/* Memoized: a function of which each call is looked up first, in one call. What is not there is asked of `miss`; see cache/decorator.py.
 *
 * In C, since the frame of a function in Python and the dictionary of its keywords cost more than the hit. A key is made as cache/keys.py makes it:
 * what is stored by one is found by the other. It is no function, and seems one: it binds as a method, and has a dictionary, in which
 * functools.update_wrapper puts what a function has.
 *
 * It is pickled as what two functions in its dictionary answer, which are pickled themselves: `_itself` gives the object, one that is there or a new one,
 * and `_fill` makes it whole. Pickled by name they do nothing. In two steps, since by value (cloudpickle) a function that calls itself is met again while
 * it is sent. */
#include "cache/lookup.h"

#include <structmember.h>

#define OWNERS 8 /* weak references to the objects of methods that were called last: to make one costs as much as the hit */

enum keys {
    OF_ARGUMENTS,
    OF_METHOD, /* the first argument is held weakly, if it can be */
    OF_CALLER, /* make_key says */
};

typedef struct {
    PyObject_HEAD
    PyObject *(*vectorcall)(PyObject *, PyObject *const *, size_t, PyObject *);
    PyObject *dict, *weak;
    ReaderObject *cache; /* NULL: it is being unpickled */
    PyObject *miss, *make_key, *keywords, *held;
    enum keys keys;
    PyObject *owners[OWNERS];
} MemoizedObject;

static PyObject *memoized_vectorcall(PyObject *self, PyObject *const *items, size_t count, PyObject *names);

static PyObject *memoized_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    MemoizedObject *self = (MemoizedObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    self->vectorcall = memoized_vectorcall;
    if ((self->dict = PyDict_New())) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

/* Once: a call that is under way uses what it finds. */
static PyObject *memoized_begin(MemoizedObject *self, PyObject *args) {
    PyObject *cache, *miss, *make_key, *keywords, *held;
    int method;
    if (!PyArg_ParseTuple(args, "O!OOpOO", reader_type, &cache, &miss, &make_key, &method, &keywords, &held)) return NULL;
    bool again;
    LOCK(self);
    again = self->cache != NULL;
    if (!again) {
        self->miss = Py_NewRef(miss);
        self->make_key = Py_NewRef(make_key);
        self->keywords = Py_NewRef(keywords);
        self->held = Py_NewRef(held);
        self->keys = make_key != Py_None ? OF_CALLER : method ? OF_METHOD
                                                              : OF_ARGUMENTS;
        self->cache = (ReaderObject *)Py_NewRef(cache);
    }
    UNLOCK();
    if (!again) Py_RETURN_NONE;
    PyErr_SetString(PyExc_RuntimeError, "it is a function already");
    return NULL;
}

static int memoized_traverse(MemoizedObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->dict);
    Py_VISIT(self->cache);
    PyObject *all[] = {self->miss, self->make_key, self->keywords, self->held};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_VISIT(all[i]);
    for (size_t i = 0; i < OWNERS; i++) Py_VISIT(self->owners[i]);
    return 0;
}

/* A finalizer may call it still: what a call needs stays, and the circles of functions go through these. */
static int memoized_clear(MemoizedObject *self) {
    Py_CLEAR(self->dict);
    Py_CLEAR(self->miss);
    Py_CLEAR(self->make_key);
    return 0;
}

static void memoized_dealloc(MemoizedObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->weak) PyObject_ClearWeakRefs((PyObject *)self);
    memoized_clear(self);
    for (size_t i = 0; i < OWNERS; i++) Py_CLEAR(self->owners[i]);
    Py_CLEAR(self->keywords);
    Py_CLEAR(self->held);
    Py_XDECREF((PyObject *)self->cache);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* ---- keys -------------------------------------------------------------------------------------------------------------------------- */

static bool refers_to(PyObject *reference, PyObject *object) {
#ifdef Py_GIL_DISABLED
    PyObject *found = NULL;
    int there = PyWeakref_GetRef(reference, &found);
    Py_XDECREF(found);
    return there == 1 && found == object; /* which lives: the caller has it */
#else
    return PyWeakref_GetObject(reference) == object;
#endif
}

/* A weak reference, new or one of those that were used last; NULL without an exception for what cannot be referred to so. */
static PyObject *hold_weakly(MemoizedObject *self, PyObject *owner) {
    PyObject **place = &self->owners[((uintptr_t)owner >> 4 ^ (uintptr_t)owner >> 10) % OWNERS], *reference = NULL, *before = NULL;
    LOCK(self);
    if (*place && owner != Py_None && refers_to(*place, owner)) reference = Py_NewRef(*place); /* a dead one answers None */
    UNLOCK();
    if (reference) return reference;
    reference = PyObject_CallFunctionObjArgs(self->held, owner, NULL);
    if (!reference) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) PyErr_Clear();
        return NULL;
    }
    LOCK(self);
    before = *place;
    *place = Py_NewRef(reference);
    UNLOCK();
    Py_XDECREF(before);
    return reference;
}

/* The arguments of one call, as the interpreter hands them: those by position, then the values of `names`, a tuple or NULL. */
struct arguments {
    PyObject *const *items;
    Py_ssize_t count, named;
    PyObject *names;
};

/* (*args, mark, name, value, ...), with `first` in the place of the first argument if it is not NULL. */
static PyObject *key_of_parts(const struct arguments *given, PyObject *first, PyObject *mark) {
    PyObject *key = PyTuple_New(given->count + (given->named ? 1 + 2 * given->named : 0));
    Py_ssize_t at = 0;
    if (!key) return NULL;
    for (; at < given->count; at++) PyTuple_SetItem(key, at, Py_NewRef(at || !first ? given->items[at] : first));
    if (given->named) PyTuple_SetItem(key, at++, Py_NewRef(mark));
    for (Py_ssize_t i = 0; i < given->named; i++) {
        PyTuple_SetItem(key, at++, Py_NewRef(PyTuple_GetItem(given->names, i)));
        PyTuple_SetItem(key, at++, Py_NewRef(given->items[given->count + i]));
    }
    return key;
}

static PyObject *tuple_of(const struct arguments *given) {
    const struct arguments by_position = {given->items, given->count, 0, NULL};
    return key_of_parts(&by_position, NULL, NULL);
}

static PyObject *dict_of(const struct arguments *given) {
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict && i < given->named; i++)
        if (PyDict_SetItem(dict, PyTuple_GetItem(given->names, i), given->items[given->count + i])) Py_CLEAR(dict);
    return dict;
}

/* function(args, kwargs), or function(key, error, args, kwargs). */
static PyObject *call_with(PyObject *function, PyObject *key, PyObject *error, const struct arguments *given) {
    PyObject *args = tuple_of(given), *kwargs = args ? dict_of(given) : NULL, *answer = NULL;
    if (kwargs && key) answer = PyObject_CallFunctionObjArgs(function, key, error, args, kwargs, NULL);
    else if (kwargs) answer = PyObject_CallFunctionObjArgs(function, args, kwargs, NULL);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return answer;
}

static PyObject *key_of(MemoizedObject *self, const struct arguments *given) {
    PyObject *only = given->count == 1 && !given->named ? given->items[0] : NULL;
    if (self->keys == OF_CALLER) {
        PyObject *make_key = Py_XNewRef(self->make_key), *key = make_key ? call_with(make_key, NULL, NULL, given) : NULL;
        if (!make_key) PyErr_SetString(PyExc_RuntimeError, "the function is gone");
        Py_XDECREF(make_key);
        return key;
    }
    if (self->keys == OF_METHOD && given->count) {
        PyObject *owner = hold_weakly(self, given->items[0]), *key;
        if (!owner && PyErr_Occurred()) return NULL;
        if (owner) {
            key = key_of_parts(given, owner, self->keywords);
            Py_DECREF(owner);
            return key;
        }
    }
    if (only && (Py_IS_TYPE(only, &PyLong_Type) || Py_IS_TYPE(only, &PyUnicode_Type))) return Py_NewRef(only);
    return key_of_parts(given, NULL, self->keywords);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------------- */

/* `error`: what a lookup failed by, or None. */
static PyObject *ask_miss(MemoizedObject *self, PyObject *key, PyObject *error, const struct arguments *given) {
    PyObject *miss = Py_XNewRef(self->miss), *value = miss ? call_with(miss, key, error, given) : NULL;
    if (!miss) PyErr_SetString(PyExc_RuntimeError, "the function is gone");
    Py_XDECREF(miss);
    return value;
}

static PyObject *look_up(MemoizedObject *self, const struct arguments *given) {
    PyObject *key = NULL, *value, *error = NULL;
    if (!self->cache) PyErr_SetString(PyExc_RuntimeError, "the function is not whole yet");
    else key = key_of(self, given);
    if (!key) return NULL;
    value = find(self->cache->lookup, key);
    if (!value && (PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_OSError))) error = take_error();
    if (error || value == missing) {
        Py_XDECREF(value);
        value = ask_miss(self, key, error ? error : Py_None, given);
    }
    Py_XDECREF(error);
    Py_DECREF(key);
    return value;
}

/* A call in the interpreter. Python 3.12 has made this part of the limited API as it is since 3.9; 3.11 has it, and does not name it there. */
#ifndef Py_TPFLAGS_HAVE_VECTORCALL
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
#endif
static PyObject *memoized_vectorcall(PyObject *self, PyObject *const *items, size_t count, PyObject *names) {
    count &= PY_SSIZE_T_MAX; /* the topmost bit says that the caller lends a place before `items` */
    const struct arguments given = {items, (Py_ssize_t)count, names ? PyTuple_Size(names) : 0, names};
    return look_up((MemoizedObject *)self, &given);
}

/* As type(f).__call__(f, ...) comes. */
static PyObject *memoized_call(MemoizedObject *self, PyObject *args, PyObject *kwargs) {
    struct arguments given = {NULL, PyTuple_Size(args), kwargs ? PyDict_Size(kwargs) : 0, NULL};
    PyObject **items = PyMem_Malloc((size_t)(given.count + given.named + 1) * sizeof *items), *name, *value = NULL;
    Py_ssize_t position = 0, at = 0;
    if (!items) return PyErr_NoMemory();
    if ((given.names = PyTuple_New(given.named))) {
        for (; at < given.count; at++) items[at] = PyTuple_GetItem(args, at);
        for (Py_ssize_t i = 0; given.named && PyDict_Next(kwargs, &position, &name, &items[at]); i++, at++) PyTuple_SetItem(given.names, i, Py_NewRef(name));
        given.items = items;
        value = look_up(self, &given);
    }
    Py_XDECREF(given.names);
    PyMem_Free(items);
    return value;
}

static PyObject *method_type; /* of what is bound to an object */
static PyObject *call;        /* operator.call */

static PyObject *memoized_get(PyObject *self, PyObject *instance, PyObject *owner) {
    (void)owner;
    return instance && instance != Py_None ? PyObject_CallFunctionObjArgs(method_type, self, instance, NULL) : Py_NewRef(self);
}

static PyObject *memoized_repr(MemoizedObject *self) {
    PyObject *name = self->dict ? PyDict_GetItemString(self->dict, "__qualname__") : NULL;
    return name ? PyUnicode_FromFormat("<cached function %U at %p>", name, self) : PyUnicode_FromFormat("<cached function at %p>", self);
}

/* Below protocol 4 a name in an object is pickled with the object, which would be this one: it goes by its own name alone. */
static PyObject *memoized_reduce(PyObject *self, PyObject *protocol) {
    long number = PyLong_AsLong(protocol);
    if (number == -1 && PyErr_Occurred()) return NULL;
    if (number < 4) return PyObject_GetAttrString(self, "__qualname__");
    PyObject *itself = PyObject_GetAttrString(self, "_itself"), *fill = itself ? PyObject_GetAttrString(self, "_fill") : NULL;
    PyObject *reduced = fill ? Py_BuildValue("(O(O)O)", call, itself, fill) : NULL;
    Py_XDECREF(itself);
    Py_XDECREF(fill);
    return reduced;
}

static PyObject *memoized_setstate(PyObject *self, PyObject *fill) { return PyObject_CallFunctionObjArgs(fill, self, NULL); }

static PyMethodDef memoized_methods[] = {
    {"begin", (PyCFunction)memoized_begin, METH_VARARGS,
     "begin($self, cache, miss, make_key, method, keywords, held, /)\n--\n\nLook up in `cache`, and ask `miss` for what is not there. Once."},
    {"__reduce_ex__", memoized_reduce, METH_O, "__reduce_ex__($self, protocol, /)\n--\n\nBy name, or by value: as its `_itself` and `_fill` go."},
    {"__setstate__", memoized_setstate, METH_O, "__setstate__($self, fill, /)\n--\n\nHave `fill` make it whole."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef memoized_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(MemoizedObject, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(MemoizedObject, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(MemoizedObject, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef memoized_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot memoized_slots[] = {
    {Py_tp_new, memoized_new},
    {Py_tp_dealloc, memoized_dealloc},
    {Py_tp_traverse, memoized_traverse},
    {Py_tp_clear, memoized_clear},
    {Py_tp_call, memoized_call},
    {Py_tp_descr_get, memoized_get},
    {Py_tp_repr, memoized_repr},
    {Py_tp_methods, memoized_methods},
    {Py_tp_members, memoized_members},
    {Py_tp_getset, memoized_getset},
    {Py_tp_doc, "Memoized()\n--\n\nA function whose calls are looked up in a cache first."},
    {0, NULL},
};
static PyType_Spec memoized_spec = {
    .name = "mvolatile._core.Memoized",
    .basicsize = sizeof(MemoizedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = memoized_slots,
};

int add_memoized_type(PyObject *module) {
    PyObject *types = PyImport_ImportModule("types"), *operators = PyImport_ImportModule("operator");
    method_type = types ? PyObject_GetAttrString(types, "MethodType") : NULL;
    call = operators ? PyObject_GetAttrString(operators, "call") : NULL;
    Py_XDECREF(types);
    Py_XDECREF(operators);
    PyObject *type = method_type && call ? PyType_FromModuleAndSpec(module, &memoized_spec, NULL) : NULL;
    int failed = !type || PyModule_AddObjectRef(module, "Memoized", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
