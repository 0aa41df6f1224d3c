/* Between the files of W-TinyLFU: tinylfu.c, which is the policy, and what it is made of. What is here knows no other than itself: each is a struct
 * or an object that its owner guards, under the cache's lock; only the sketch is asked without. */
#ifndef MVOLATILE_CACHE_EVICTION_H
#define MVOLATILE_CACHE_EVICTION_H

#include "cache/cache.h"

/* sketch.c */
PyObject *sketch_make(uint64_t entries);
unsigned sketch_count(PyObject *sketch, Py_hash_t hash, Py_ssize_t times); /* the estimate, with these */
unsigned sketch_estimate(PyObject *sketch, Py_hash_t hash);
uint64_t sketch_entries(PyObject *sketch);
bool sketch_resize(PyObject *sketch, uint64_t entries); /* false, and all is as before, where there is no memory */
size_t sketch_nbytes(PyObject *sketch);

int add_sketch_type(PyObject *module);

/* miniatures.c */
#define CHOICES 5 /* at most */
struct choice { /* as in cache/eviction/miniature.py, which argues them */
    double share;
    unsigned stubbornness, enough;
};
bool choices_told(PyObject *told, struct choice choices[CHOICES], unsigned *count); /* false with an exception set */
PyObject *miniatures_make(const struct choice *choices, unsigned count);
void miniatures_request(PyObject *miniatures, uint32_t number, unsigned times, double entries);
void miniatures_keep(PyObject *miniatures, uint64_t below);
void miniatures_hits(PyObject *miniatures, double hits[CHOICES]);
size_t miniatures_nbytes(PyObject *miniatures);

int add_miniatures_type(PyObject *module);

/* ordered.c */
struct numbered {
    uint64_t number;
    PyObject *object;
    unsigned visits;               /* its owner's */
    uint32_t before, after, chain; /* of those in order, and of those at one place of the table */
};
struct ordered { /* all zeros: empty */
    struct numbered *nodes;
    uint32_t *places;
    uint32_t room, count, unused, oldest, newest;
    uint64_t changes;
};
struct numbered *ordered_find(const struct ordered *all, uint64_t number);
struct numbered *ordered_oldest(const struct ordered *all);
struct numbered *ordered_next(const struct ordered *all, const struct numbered *node);
bool ordered_reserve(struct ordered *all);                                                /* room for one more; false where there is no memory */
struct numbered *ordered_append(struct ordered *all, uint64_t number, PyObject *object); /* a new one, after ordered_reserve() */
PyObject *ordered_remove(struct ordered *all, struct numbered *node);                     /* the reference is the caller's */
void ordered_renew(struct ordered *all, struct numbered *node);                           /* it is the newest */
bool ordered_keep(struct ordered *all, uint64_t below);                                   /* those alone whose numbers are below */
void ordered_clear(struct ordered *all);
int ordered_traverse(const struct ordered *all, visitproc visit, void *arg);
size_t ordered_nbytes(const struct ordered *all);
int add_in_order_type(void);
PyObject *ordered_iterate(PyObject *owner, const struct ordered *all); /* over the objects of its owner's */

/* worth.c */
struct worth {
    double level; /* from which on a value stays; NAN: nobody knows yet */
    double usual, mean, variance, part, bytes;
    uint64_t size, streak;
    bool differs; /* whether values are apart by cost and bytes */
};
void worth_begin(struct worth *worth);
double worth_see(struct worth *worth, unsigned cost, uint64_t size);
double worth_with_uses(struct worth *worth, double of_one, unsigned uses);
bool worth_enters(struct worth *worth, double value);
bool worth_stays(struct worth *worth, double value);

/* asking.c */
struct figures {
    PyObject *told;   /* who is asked ... */
    PyObject *lookup; /* ... but for what a private cache's lookup counts, which need not be asked: NULL where there is none */
};

/* sample.c */
struct sample {
    struct choice choices[CHOICES];
    unsigned count, chosen;
    double reluctance;
    uint64_t requests; /* since that was brought up to date */
    uint64_t below;    /* keys whose sample_number() is below are sampled */
    struct ordered seen;
    PyObject *miniatures; /* NULL, until the first value goes */
};
bool sample_begin(struct sample *sample, PyObject *choices, Py_ssize_t first); /* false with an exception set */
uint32_t sample_number(Py_hash_t hash);
int sample_stored(struct sample *sample, const struct figures *figures, PyObject *key, uint32_t number); /* -1 with an exception set */
int sample_passed(struct sample *sample, const struct figures *figures, PyObject *key, uint32_t number, Py_ssize_t visits, unsigned left);

/* verdict.c, tinylfu.c */
#define ROUGHLY (1.0 / 64) /* of all bytes: by so much the window may be too large before values leave it without being compared */

enum queue {
    FRESH,
    KEPT,
    QUEUES
};

/* Of visited(): it goes; or stays in a queue, as if it had been visited so often. In the main part half of the visits stay, at most three: or a store
 * might have to wait until all are passed eight times over. */
enum verdict {
    FAILED = -2,
    GOES = -1,
    IN_WINDOW,
    IN_MAIN, /* and with each visit that stays one more */
    VERDICTS = IN_MAIN + 4
};

struct lfu {
    struct figures figures;
    PyObject *sketch;          /* NULL, until the first value goes */
    PyObject *numbers[QUEUES]; /* of the queues, to ask with */
    struct ordered queues[QUEUES];
    struct sample sample;
    struct worth worth;
    double over; /* bytes of the window above its share */
};
PyObject *lfu_oldest(struct lfu *lfu, enum queue queue);
enum verdict lfu_judge(struct lfu *lfu, PyObject *region, PyObject *slot, Py_ssize_t visits, unsigned count);

/* asking.c: what regions and figures answer; -1 (or NULL) with an exception set. They are Python's, and may run anything: no pointer into the structs
 * above is kept over these calls. */
enum asked {
    ASK_NUMBER,
    ASK_QUEUE,
    ASK_USED,
    ASK_EMPTIED,
    ASK_PASSED,
    ASK_IS_OPEN,
    ASK_VISITS,
    ASK_SIZE,
    ASK_COST,
    ASK_NBYTES,
    ASK_ENTRIES,
    ASK_LIMIT,
    ASK_FILLING,
    ASK_LIVES,
    ASK_KEYS,
    ASKED
};
int make_asking_names(void);
bool figures_begin(struct figures *figures, PyObject *told, PyObject *lookup); /* new references; false with an exception set */
Py_ssize_t ask_nbytes(const struct figures *figures);
Py_ssize_t ask_entries(const struct figures *figures);
int ask_is_unlimited(const struct figures *figures);
Py_ssize_t ask_visits(const struct figures *figures, PyObject *key); /* -1 without an exception where it is gone */
int ask_lives(const struct figures *figures, PyObject *region, PyObject *slot);
PyObject *ask_filling(const struct figures *figures, PyObject *queue); /* None where there is none */
Py_ssize_t ask(PyObject *object, enum asked what);                        /* a number */
Py_ssize_t ask_of_slot(PyObject *region, enum asked what, PyObject *slot); /* a number */
uint64_t ask_number(PyObject *region); /* UINT64_MAX with an exception set */
Py_ssize_t ask_slots(PyObject *region);
PyObject *ask_key(PyObject *region, Py_ssize_t slot);
Py_hash_t hash_of(PyObject *key); /* any, where its __hash__ fails now: it is looked up in vain anyway. -1 with an exception set */

#endif
