/* Miniatures: W-TinyLFU value by value on a sample of the keys, once for each of several choices: the share of the window, and what enters the
 * main part. Each request for a sampled key is told to all of them; which has the most hits is asked in sample.c. Why so:
 * mvolatile/cache/eviction/miniature.py.
 * In C: in Python it took three times as long as all else that a store in a small cache does. */
#include "cache/eviction.h"

#include <string.h>

#define RING 512   /* keys in a queue, a power of two */
#define LARGEST 500 /* entries */
#define MOST 15
#define PERIOD 20 /* so many requests an entry, and all counts are halved, as in the sketch */
#define MEMORY 24 /* after so many requests an entry a hit counts half */
#define LEAST_MEMORY 400
#define PROVED 2 /* visits in the window, for the main part */
#define HALVED 3 /* visits that stay in the main part, at most */

struct known {
    uint32_t number;
    uint8_t count;          /* of requests */
    uint8_t taken;          /* whether this place of the table is */
    uint8_t there;          /* a bit for each miniature that has it */
    uint8_t visits[CHOICES]; /* since each has it, or passed over it */
};

struct ring {
    uint32_t first, count, numbers[RING];
};

struct miniature {
    struct choice choice;
    double hits;
    struct ring window, main;
};

typedef struct {
    PyObject_HEAD
    struct known *table;
    uint32_t room, known; /* a power of two; how many are taken */
    double weight, counted;
    unsigned choices;
    struct miniature all[CHOICES];
} MiniaturesObject;

static PyTypeObject *miniatures_type;

static uint32_t pop(struct ring *ring) {
    uint32_t number = ring->numbers[ring->first];
    ring->first = (ring->first + 1) % RING;
    ring->count--;
    return number;
}

static void push(struct ring *ring, uint32_t number) { ring->numbers[(ring->first + ring->count++) % RING] = number; }

/* Where it is, or would be. */
static struct known *place_of(struct known *table, uint32_t room, uint32_t number) {
    uint32_t at = (number * 0x9E3779B1u >> 7) % room;
    while (table[at].taken && table[at].number != number) at = (at + 1) % room;
    return &table[at];
}

static struct known *find(MiniaturesObject *self, uint32_t number) { return place_of(self->table, self->room, number); }

/* A table of those that are below a number, and are there or were asked for; false where there is no memory. */
static bool rebuild(MiniaturesObject *self, uint64_t below) {
    uint32_t known = 0, room = 64;
    for (uint32_t i = 0; i < self->room; i++) {
        struct known *key = &self->table[i];
        if (key->taken && (key->number >= below || !(key->count || key->there))) key->taken = 2; /* it goes */
        known += key->taken == 1;
    }
    while (room < 3 * (known + 1)) room *= 2;
    struct known *table = PyMem_Calloc(room, sizeof *table);
    for (uint32_t i = 0; i < self->room; i++) {
        struct known *key = &self->table[i];
        if (table && key->taken == 1) *place_of(table, room, key->number) = *key;
        if (!table && key->taken == 2) key->taken = 1;
    }
    if (!table) return false;
    PyMem_Free(self->table);
    self->table = table;
    self->room = room;
    self->known = known;
    return true;
}

PyObject *miniatures_make(const struct choice *choices, unsigned count) {
    MiniaturesObject *self = PyObject_New(MiniaturesObject, miniatures_type);
    if (!self) return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    self->weight = 1;
    self->choices = count;
    for (unsigned i = 0; i < count; i++) self->all[i].choice = choices[i];
    if (rebuild(self, UINT64_MAX)) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return PyErr_NoMemory();
}

bool choices_told(PyObject *told, struct choice choices[CHOICES], unsigned *count) {
    Py_ssize_t given = PyTuple_Check(told) ? PyTuple_Size(told) : 0;
    if (given < 1 || given > CHOICES) {
        PyErr_Format(PyExc_ValueError, "a tuple of 1 to %d choices", CHOICES);
        return false;
    }
    for (*count = 0; *count < (unsigned)given; ++*count) {
        struct choice *choice = &choices[*count];
        PyObject *one = PyTuple_GetItem(told, (Py_ssize_t)*count);
        if (!PyTuple_Check(one)) PyErr_SetString(PyExc_TypeError, "a choice is (share, stubbornness, enough)");
        if (!PyTuple_Check(one) || !PyArg_ParseTuple(one, "dII", &choice->share, &choice->stubbornness, &choice->enough)) return false;
    }
    return true;
}

static PyObject *miniatures_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)type, (void)kwargs;
    PyObject *told;
    struct choice choices[CHOICES];
    unsigned count;
    if (!PyArg_ParseTuple(args, "O", &told) || !choices_told(told, choices, &count)) return NULL;
    return miniatures_make(choices, count);
}

static void miniatures_dealloc(MiniaturesObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->table);
    PyObject_Free(self);
    Py_DECREF(type);
}

static void leave(struct known *key, unsigned which) { key->there &= (uint8_t)~(1u << which); }

static void pass_main(MiniaturesObject *self, unsigned which, bool may_go) {
    struct ring *main = &self->all[which].main;
    struct known *key = find(self, main->numbers[main->first]);
    if (!key->visits[which] && !may_go) return;
    pop(main);
    if (key->visits[which]) push(main, key->number);
    else leave(key, which);
    key->visits[which] = key->visits[which] / 2 < HALVED ? key->visits[which] / 2 : HALVED;
}

static void pass_one(MiniaturesObject *self, unsigned which, double entries) {
    struct miniature *mini = &self->all[which];
    struct ring *window = &mini->window, *main = &mini->main;
    double least = mini->choice.share * entries < 1 ? 1 : mini->choice.share * entries;
    if (!window->count || (window->count < least && main->count)) {
        pass_main(self, which, true);
        return;
    }
    struct known *key = find(self, pop(window));
    if (key->visits[which]) {
        push(key->visits[which] >= PROVED && mini->choice.share < 1 ? main : window, key->number);
        key->visits[which] = 0;
        return;
    }
    if (window->count >= least && mini->choice.share < 1) {
        push(main, key->number);
        return;
    }
    if (main->count && mini->choice.enough && key->count >= mini->choice.enough) {
        push(main, key->number); /* and by CLOCK another goes */
        return;
    }
    if (main->count) {
        struct known *victim = find(self, main->numbers[main->first]);
        unsigned before = victim->count ? victim->count : 1;
        if (!mini->choice.enough && key->count > before + victim->visits[which] + mini->choice.stubbornness) {
            leave(victim, which);
            pop(main);
            push(main, key->number);
            return;
        }
        pass_main(self, which, false); /* the next candidate is compared with another */
    }
    leave(key, which);
}

static void request_of(MiniaturesObject *self, unsigned which, struct known *key, unsigned times, double entries) {
    struct miniature *mini = &self->all[which];
    unsigned before = key->there >> which & 1 ? key->visits[which] : 0;
    if (key->there >> which & 1) {
        mini->hits += self->weight;
        before += times;
    } else {
        while (mini->window.count + mini->main.count >= entries) pass_one(self, which, entries);
        push(&mini->window, key->number);
        key->there |= (uint8_t)(1u << which);
        before = times - 1;
    }
    key->visits[which] = before < UINT8_MAX ? (uint8_t)before : UINT8_MAX;
}

static void request(MiniaturesObject *self, uint32_t number, unsigned times, double entries) {
    if (!times) return;
    if (!(entries < LARGEST)) entries = LARGEST;
    if (entries < 2) entries = 2;
    if (self->known >= self->room / 2 && !rebuild(self, UINT64_MAX)) return; /* they decide a little worse */
    struct known *key = find(self, number);
    if (!key->taken) {
        *key = (struct known){.number = number, .taken = 1};
        self->known++;
    }
    key->count = (uint8_t)(key->count + times < MOST ? key->count + times : MOST);
    for (unsigned i = 0; i < self->choices; i++) request_of(self, i, key, times, entries);
    self->weight *= 1 + 0.7 / (MEMORY * entries > LEAST_MEMORY ? MEMORY * entries : LEAST_MEMORY);
    if (self->weight > 1e9) {
        for (unsigned i = 0; i < self->choices; i++) self->all[i].hits /= self->weight;
        self->weight = 1;
    }
    self->counted += times;
    if (self->counted >= PERIOD * entries) {
        self->counted /= 2;
        for (uint32_t i = 0; i < self->room; i++) self->table[i].count >>= 1;
        (void)rebuild(self, UINT64_MAX);
    }
}

void miniatures_request(PyObject *miniatures, uint32_t number, unsigned times, double entries) {
    LOCK(miniatures);
    request((MiniaturesObject *)miniatures, number, times, entries);
    UNLOCK();
}

static PyObject *request_told(PyObject *self, PyObject *args) {
    unsigned long number;
    unsigned times;
    double entries;
    if (!PyArg_ParseTuple(args, "kId", &number, &times, &entries)) return NULL;
    miniatures_request(self, (uint32_t)number, times, entries);
    Py_RETURN_NONE;
}

static void keep_in(struct ring *ring, uint64_t below) {
    for (uint32_t left = ring->count; left; left--) {
        uint32_t number = pop(ring);
        if (number < below) push(ring, number);
    }
}

void miniatures_keep(PyObject *miniatures, uint64_t below) {
    MiniaturesObject *self = (MiniaturesObject *)miniatures;
    LOCK(miniatures);
    for (unsigned i = 0; i < self->choices; i++) {
        keep_in(&self->all[i].window, below);
        keep_in(&self->all[i].main, below);
    }
    for (uint32_t i = 0; i < self->room; i++)
        if (self->table[i].taken && self->table[i].number >= below) self->table[i].there = 0;
    (void)rebuild(self, below);
    UNLOCK();
}

static PyObject *keep(PyObject *self, PyObject *number) {
    unsigned long long below = PyLong_AsUnsignedLongLong(number);
    if (below == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    miniatures_keep(self, below);
    Py_RETURN_NONE;
}

void miniatures_hits(PyObject *miniatures, double hits[CHOICES]) {
    MiniaturesObject *self = (MiniaturesObject *)miniatures;
    LOCK(miniatures);
    for (unsigned i = 0; i < self->choices; i++) hits[i] = self->all[i].hits / self->weight;
    UNLOCK();
}

size_t miniatures_nbytes(PyObject *miniatures) {
    MiniaturesObject *self = (MiniaturesObject *)miniatures;
    return sizeof *self + self->room * sizeof *self->table;
}

static PyObject *hits(PyObject *self, PyObject *unused) {
    (void)unused;
    double all[CHOICES];
    Py_ssize_t count = (Py_ssize_t)((MiniaturesObject *)self)->choices;
    miniatures_hits(self, all);
    PyObject *told = PyTuple_New(count);
    for (Py_ssize_t i = 0; told && i < count; i++) {
        PyObject *of_one = PyFloat_FromDouble(all[i]);
        if (!of_one || PyTuple_SetItem(told, i, of_one)) Py_CLEAR(told);
    }
    return told;
}

static PyMethodDef miniatures_methods[] = {
    {"request", request_told, METH_VARARGS,
     "request($self, number, times, entries, /)\n--\n\nA key was asked for so often running; caches of so many entries (at most 500) are simulated."},
    {"keep", keep, METH_O, "keep($self, below, /)\n--\n\nOnly keys of smaller numbers are sampled from now on."},
    {"hits", hits, METH_NOARGS, "hits($self, /)\n--\n\nOf each, the later ones counting more."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot miniatures_slots[] = {
    {Py_tp_new, miniatures_new},
    {Py_tp_dealloc, miniatures_dealloc},
    {Py_tp_methods, miniatures_methods},
    {Py_tp_doc, "Miniatures(choices, /)\n--\n\n"
                "Small simulated caches. A tuple (share of the window, stubbornness, enough) for each."},
    {0, NULL},
};
static PyType_Spec miniatures_spec = {
    .name = "mvolatile._core.Miniatures",
    .basicsize = sizeof(MiniaturesObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = miniatures_slots,
};

int add_miniatures_type(PyObject *module) {
    miniatures_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &miniatures_spec, NULL);
    return !miniatures_type || PyModule_AddObjectRef(module, "Miniatures", (PyObject *)miniatures_type) ? -1 : 0;
}
