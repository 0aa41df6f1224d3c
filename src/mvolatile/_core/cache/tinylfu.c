/* TinyLFU: the decisions of W-TinyLFU (Einziger, Friedman and Manes, 2017), a region at a time; what they are and why stands in
 * mvolatile/cache/eviction/tinylfu.py, the contract in policy.py beside it. In C: they took 6 us of a store in a full cache, where CLOCK in Python
 * takes one.
 *
 * All is called under the cache's lock, but for wanted(). Whoever is asked (regions, figures, keys) may run any Python code. So what was read of a
 * queue before a question is read again after it, and what changes a queue is asked before anything is changed: a KeyboardInterrupt in an answer leaves
 * all as it was, or as the call would have left it. */
#include "cache/eviction.h"

#define TURNS 4              /* victims that were visited and stay, for each candidate: all might have been */
#define RESIZED 1.15         /* so many times as many entries, or as few, and the sketch is made larger or smaller */

typedef struct {
    PyObject_HEAD
    struct lfu lfu;
    PyObject *stays[VERDICTS]; /* what each is told as */
    Py_ssize_t sealed[QUEUES]; /* bytes */
    unsigned turns;
} TinyLFUObject;

static PyTypeObject *tinylfu_type;

static PyObject *tinylfu_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    PyObject *figures, *lookup, *choices, *stay;
    Py_ssize_t first;
    if (!PyArg_ParseTuple(args, "OOOnO", &figures, &lookup, &choices, &first, &stay)) return NULL;
    TinyLFUObject *self = (TinyLFUObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    worth_begin(&self->lfu.worth);
    bool well = figures_begin(&self->lfu.figures, figures, lookup) && sample_begin(&self->lfu.sample, choices, first);
    for (int queue = FRESH; well && queue < QUEUES; queue++) well = (self->lfu.numbers[queue] = PyLong_FromLong(queue)) != NULL;
    for (int verdict = IN_WINDOW; well && verdict < VERDICTS; verdict++)
        well = (self->stays[verdict] = PyObject_CallFunction(stay, "ii", verdict == IN_WINDOW ? FRESH : KEPT, verdict == IN_WINDOW ? 0 : verdict - IN_MAIN)) != NULL;
    if (well) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static int tinylfu_traverse(TinyLFUObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->lfu.figures.told);
    Py_VISIT(self->lfu.figures.lookup);
    for (int verdict = IN_WINDOW; verdict < VERDICTS; verdict++) Py_VISIT(self->stays[verdict]);
    for (int queue = FRESH; queue < QUEUES; queue++) {
        int stopped = ordered_traverse(&self->lfu.queues[queue], visit, arg);
        if (stopped) return stopped;
    }
    return ordered_traverse(&self->lfu.sample.seen, visit, arg);
}

/* Finalizers that come later still find a policy. */
static int tinylfu_clear(TinyLFUObject *self) {
    for (int queue = FRESH; queue < QUEUES; queue++) ordered_clear(&self->lfu.queues[queue]);
    ordered_clear(&self->lfu.sample.seen);
    return 0;
}

static void tinylfu_dealloc(TinyLFUObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)tinylfu_clear(self);
    for (int queue = FRESH; queue < QUEUES; queue++) Py_XDECREF(self->lfu.numbers[queue]);
    for (int verdict = IN_WINDOW; verdict < VERDICTS; verdict++) Py_XDECREF(self->stays[verdict]);
    Py_XDECREF(self->lfu.figures.told);
    Py_XDECREF(self->lfu.figures.lookup);
    Py_XDECREF(self->lfu.sketch);
    Py_XDECREF(self->lfu.sample.miniatures);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static bool takes(Py_ssize_t given, Py_ssize_t wanted, const char *usage) {
    if (given != wanted) PyErr_SetString(PyExc_TypeError, usage);
    return given == wanted;
}

/* ---- told ------------------------------------------------------------------------------------------------------------------------------ */

static PyObject *stored(TinyLFUObject *self, PyObject *const *args, Py_ssize_t given) {
    if (!takes(given, 3, "stored(key, nbytes, cost, /)")) return NULL;
    Py_hash_t hash = hash_of(args[0]);
    if (hash == -1) return NULL;
    if (self->lfu.sketch) sketch_count(self->lfu.sketch, hash, 1);
    uint32_t number = sample_number(hash);
    if (number < self->lfu.sample.below && sample_stored(&self->lfu.sample, &self->lfu.figures, args[0], number)) return NULL;
    return Py_NewRef(self->lfu.numbers[FRESH]); /* all that is new enters the window */
}

static PyObject *wanted(TinyLFUObject *self, PyObject *key) {
    Py_hash_t hash = hash_of(key);
    if (hash == -1) return NULL;
    PyObject *sketch;
    LOCK(self);
    sketch = self->lfu.sketch;
    UNLOCK();
    return PyLong_FromUnsignedLong(sketch ? sketch_count(sketch, hash, 1) : 0); /* once it is there it stays */
}

static bool take_out(TinyLFUObject *self, PyObject *region, uint64_t number) {
    for (int queue = FRESH; queue < QUEUES; queue++) {
        if (!ordered_find(&self->lfu.queues[queue], number)) continue;
        Py_ssize_t used = ask(region, ASK_USED);
        struct numbered *known = used < 0 ? NULL : ordered_find(&self->lfu.queues[queue], number);
        if (used < 0) return false;
        if (!known) continue;
        self->sealed[queue] -= used;
        Py_DECREF(ordered_remove(&self->lfu.queues[queue], known));
    }
    if (self->lfu.queues[FRESH].count || self->lfu.queues[KEPT].count) return true;
    for (int queue = FRESH; queue < QUEUES; queue++) {
        PyObject *filling = ask_filling(&self->lfu.figures, self->lfu.numbers[queue]);
        Py_XDECREF(filling);
        if (filling != Py_None) return filling != NULL;
    }
    ordered_clear(&self->lfu.sample.seen); /* the values are gone, all of them; what was learnt stays. Keys may have finalizers */
    return true;
}

static PyObject *left(TinyLFUObject *self, PyObject *region) {
    uint64_t number = ask_number(region);
    return number != UINT64_MAX && take_out(self, region, number) ? Py_NewRef(Py_None) : NULL;
}

static bool fit_sketch(TinyLFUObject *self) {
    Py_ssize_t there = ask_entries(&self->lfu.figures);
    double entries = (double)sketch_entries(self->lfu.sketch);
    if (there < 0) return false;
    if (!(entries / RESIZED <= (double)there && (double)there <= entries * RESIZED))
        (void)sketch_resize(self->lfu.sketch, (uint64_t)there); /* without memory it counts a little worse */
    return true;
}

static PyObject *sealed(TinyLFUObject *self, PyObject *region) {
    Py_ssize_t filled_for = ask(region, ASK_QUEUE), used = filled_for < 0 ? -1 : ask(region, ASK_USED);
    uint64_t number = used < 0 ? UINT64_MAX : ask_number(region);
    if (number == UINT64_MAX) return NULL;
    int queue = filled_for ? KEPT : FRESH;
    struct ordered *window = &self->lfu.queues[FRESH], *main = &self->lfu.queues[KEPT];
    bool is_new = !ordered_find(window, number) && !ordered_find(main, number) && (window->count || main->count);
    if (!is_new && !take_out(self, region, number)) return NULL;
    if (ordered_find(&self->lfu.queues[queue], number)) Py_RETURN_NONE; /* by whoever was called meanwhile */
    if (!ordered_reserve(&self->lfu.queues[queue])) return PyErr_NoMemory();
    ordered_append(&self->lfu.queues[queue], number, region);
    self->sealed[queue] += used;
    return self->lfu.sketch && !fit_sketch(self) ? NULL : Py_NewRef(Py_None);
}

/* Bytes are counted anew. */
static PyObject *mended(TinyLFUObject *self, PyObject *unused) {
    (void)unused;
    for (int queue = FRESH; queue < QUEUES; queue++) {
        Py_ssize_t sum = 0, used = 0;
        PyObject *all = ordered_iterate((PyObject *)self, &self->lfu.queues[queue]), *region;
        while (used >= 0 && all && (region = PyIter_Next(all))) {
            sum += used = ask(region, ASK_USED);
            Py_DECREF(region);
        }
        Py_XDECREF(all);
        if (PyErr_Occurred()) return NULL;
        self->sealed[queue] = sum;
    }
    Py_RETURN_NONE;
}

/* ---- asked ----------------------------------------------------------------------------------------------------------------------------- */

/* By how much the window is too large; false with an exception set. */
static bool weigh(TinyLFUObject *self, PyObject *main, Py_ssize_t *total) {
    Py_ssize_t there = self->sealed[KEPT], used = 0, emptied = 0;
    if ((*total = ask_nbytes(&self->lfu.figures)) < 0) return false;
    PyObject *filling = ask_filling(&self->lfu.figures, self->lfu.numbers[KEPT]);
    if (!filling) return false;
    if (filling != Py_None && (used = ask(filling, ASK_USED)) >= 0) emptied = ask(filling, ASK_EMPTIED);
    there += used - emptied;
    if (used >= 0 && emptied >= 0 && main != Py_None && main != filling) there -= emptied = ask(main, ASK_EMPTIED);
    Py_DECREF(filling);
    self->lfu.over = (double)(*total - there) - self->lfu.sample.choices[self->lfu.sample.chosen].share * (double)*total;
    return used >= 0 && emptied >= 0;
}

/* The window is far too large: what is in its oldest regions is in the main part from now on, without a copy. A cache that is full for the first time is
 * all window. Whether anything moved; -1 with an exception set.
 *
 * Not where worth differs. The bad schedule: one large value makes the window far too large, and all that stands before it would enter the main part
 * unasked; what is dear would go from there for it. */
static int shrink(TinyLFUObject *self, double roughly) {
    struct ordered *window = &self->lfu.queues[FRESH], *main = &self->lfu.queues[KEPT];
    struct numbered *first;
    int shrunk = 0;
    while ((first = ordered_oldest(window))) {
        uint64_t number = first->number;
        PyObject *region = Py_NewRef(first->object);
        Py_ssize_t used = ask(region, ASK_USED), emptied = used < 0 ? -1 : ask(region, ASK_EMPTIED);
        bool goes = emptied >= 0 && self->lfu.over >= roughly + (double)(used - emptied);
        if (goes && !ordered_reserve(main)) PyErr_NoMemory(), emptied = -1;
        else if (goes && (first = ordered_find(window, number))) {
            ordered_append(main, number, region);
            Py_DECREF(ordered_remove(window, first));
            self->sealed[FRESH] -= used;
            self->sealed[KEPT] += used;
            self->lfu.over -= (double)(used - emptied);
            shrunk = 1;
        }
        Py_DECREF(region);
        if (emptied < 0) return -1;
        if (!goes) break;
    }
    return shrunk;
}

/* The window's oldest, if it is too large or there is a candidate to be compared; else the main part's. References are given on, or let go. */
static PyObject *choose(TinyLFUObject *self, PyObject *main, PyObject *window) {
    PyObject *chosen = main;
    if (main == Py_None || window == Py_None) {
        chosen = window == Py_None ? main : window;
    } else if (self->lfu.over >= 0) {
        Py_ssize_t passed = ask(main, ASK_PASSED), slots = passed < 0 ? -1 : ask_slots(main), visits = 0;
        bool is_victim = slots > passed;
        if (is_victim && !self->lfu.worth.differs && self->turns != TURNS) {
            PyObject *slot = PyLong_FromSsize_t(passed);
            visits = slot ? ask_of_slot(main, ASK_VISITS, slot) : -1;
            Py_XDECREF(slot);
        }
        if (slots < 0 || visits < 0) chosen = NULL;
        else if (is_victim && visits) self->turns++; /* the victim was visited: it stays, and another is the victim */
        else if (is_victim) self->turns = 0, chosen = window;
    }
    Py_XINCREF(chosen);
    Py_DECREF(main);
    Py_DECREF(window);
    return chosen;
}

static PyObject *evict(TinyLFUObject *self, PyObject *unused) {
    (void)unused;
    Py_ssize_t total;
    PyObject *main = lfu_oldest(&self->lfu, KEPT);
    if (!main) return NULL;
    int moved = weigh(self, main, &total) ? 0 : -1;
    if (!moved && self->lfu.over >= ROUGHLY * (double)total && !(self->lfu.worth.differs && self->lfu.queues[KEPT].count)) moved = shrink(self, ROUGHLY * (double)total);
    if (moved > 0) {
        Py_DECREF(main);
        main = lfu_oldest(&self->lfu, KEPT);
    }
    PyObject *window = moved < 0 || !main ? NULL : lfu_oldest(&self->lfu, FRESH);
    if (window) return choose(self, main, window);
    Py_XDECREF(main);
    return NULL;
}

/* Made when the first value goes. The estimate of a key, with these; -1 with an exception set. */
static int count_uses(TinyLFUObject *self, Py_hash_t hash, Py_ssize_t times) {
    if (!self->lfu.sketch) {
        Py_ssize_t there = ask_entries(&self->lfu.figures);
        if (there < 0) return -1;
        PyObject *sketch = sketch_make((uint64_t)there);
        if (!sketch && PyErr_ExceptionMatches(PyExc_MemoryError)) {
            PyErr_Clear();
            sketch = sketch_make(0);
        }
        if (!sketch) return -1;
        LOCK(self);
        self->lfu.sketch = sketch;
        UNLOCK();
    }
    return (int)sketch_count(self->lfu.sketch, hash, times);
}

static PyObject *visited(TinyLFUObject *self, PyObject *const *args, Py_ssize_t given) {
    if (!takes(given, 2, "visited(region, slot, /)")) return NULL;
    PyObject *region = args[0], *slot = args[1], *key;
    Py_ssize_t at = PyLong_AsSsize_t(slot), visits;
    if ((at == -1 && PyErr_Occurred()) || (visits = ask_of_slot(region, ASK_VISITS, slot)) < 0 || !(key = ask_key(region, at))) return NULL;
    Py_hash_t hash = hash_of(key);
    int count = hash == -1 ? -1 : count_uses(self, hash, visits);
    enum verdict verdict = count < 0 ? FAILED : lfu_judge(&self->lfu, region, slot, visits, (unsigned)count);
    if (verdict != FAILED) {
        uint32_t number = sample_number(hash);
        unsigned stays = verdict > IN_MAIN ? (unsigned)(verdict - IN_MAIN) : 0;
        if (number < self->lfu.sample.below && sample_passed(&self->lfu.sample, &self->lfu.figures, key, number, visits, stays)) verdict = FAILED;
    }
    Py_DECREF(key);
    if (verdict == FAILED) return NULL;
    return Py_NewRef(verdict == GOES ? Py_None : self->stays[verdict]);
}

static PyObject *queues(TinyLFUObject *self, PyObject *unused) {
    (void)unused;
    PyObject *window = ordered_iterate((PyObject *)self, &self->lfu.queues[FRESH]), *main = ordered_iterate((PyObject *)self, &self->lfu.queues[KEPT]);
    PyObject *both = window && main ? Py_BuildValue("[OO]", window, main) : NULL;
    Py_XDECREF(window);
    Py_XDECREF(main);
    return both;
}

/* With all that it has, but for the keys that it keeps alive. */
static PyObject *size_of(TinyLFUObject *self, PyObject *unused) {
    (void)unused;
    size_t nbytes = sizeof *self + ordered_nbytes(&self->lfu.queues[FRESH]) + ordered_nbytes(&self->lfu.queues[KEPT]) + ordered_nbytes(&self->lfu.sample.seen);
    if (self->lfu.sketch) nbytes += sketch_nbytes(self->lfu.sketch);
    if (self->lfu.sample.miniatures) nbytes += miniatures_nbytes(self->lfu.sample.miniatures);
    return PyLong_FromSize_t(nbytes);
}

static PyMethodDef tinylfu_methods[] = {
    {"stored", (PyCFunction)(void (*)(void))stored, METH_FASTCALL, "stored($self, key, nbytes, cost, /)\n--\n\nA value is about to be stored. In which queue?"},
    {"wanted", (PyCFunction)wanted, METH_O, "wanted($self, key, /)\n--\n\nHow often a key was asked for lately, about; and this once more. Needs no lock."},
    {"sealed", (PyCFunction)sealed, METH_O, "sealed($self, region, /)\n--\n\nA region has its place in order from now on, by the queue that it was filled for."},
    {"left", (PyCFunction)left, METH_O, "left($self, region, /)\n--\n\nA region is no more."},
    {"mended", (PyCFunction)mended, METH_NOARGS, "mended($self, /)\n--\n\nAll regions are in order again; bytes are counted anew."},
    {"evict", (PyCFunction)evict, METH_NOARGS, "evict($self, /)\n--\n\nThe region whose next value is to be passed over, or None."},
    {"visited", (PyCFunction)(void (*)(void))visited, METH_FASTCALL, "visited($self, region, slot, /)\n--\n\nWhether a value that is passed over stays, and as what; None: it goes."},
    {"queues", (PyCFunction)queues, METH_NOARGS, "queues($self, /)\n--\n\nThe regions of the window and of the main part, the oldest first."},
    {"__sizeof__", (PyCFunction)size_of, METH_NOARGS, "__sizeof__($self, /)\n--\n\nIts bytes, with all that it counts in."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot tinylfu_slots[] = {
    {Py_tp_new, tinylfu_new},
    {Py_tp_dealloc, tinylfu_dealloc},
    {Py_tp_traverse, tinylfu_traverse},
    {Py_tp_clear, tinylfu_clear},
    {Py_tp_methods, tinylfu_methods},
    {Py_tp_doc, "TinyLFU(figures, lookup, choices, first, stay, /)\n--\n\nThe decisions of W-TinyLFU. `choices` are its windows, each (share, stubbornness, enough), of which the "
                "first one to be is a number; `lookup` is a private cache's, or None; stay(queue, visits) makes what visited() answers."},
    {0, NULL},
};
static PyType_Spec tinylfu_spec = {
    .name = "mvolatile._core.TinyLFU",
    .basicsize = sizeof(TinyLFUObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = tinylfu_slots,
};

int add_tinylfu_types(PyObject *module) {
    if (make_asking_names() || add_in_order_type() || add_sketch_type(module) || add_miniatures_type(module)) return -1;
    tinylfu_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &tinylfu_spec, NULL);
    return !tinylfu_type || PyModule_AddObjectRef(module, "TinyLFU", (PyObject *)tinylfu_type) ? -1 : 0;
}
