/* A sample of the keys, for the miniatures, and which of their choices the cache follows. What is sampled, what is told and what is not:
 * mvolatile/cache/eviction/miniature.py. In C: a sampled store looks up eight others, and in small caches one in two
 * is sampled. With half as many entries, and one key in four, the choice was as good in most traces, and a point worse in some (multi1, CloudPhysics). */
#include "cache/eviction.h"

#include <math.h>

#define WORDS ((uint64_t)1 << 32)
#define SAMPLED 240 /* entries of a miniature, up to twice as many */
#define ONE_IN 2    /* so many keys of which one is sampled, at least ... */
#define FEWEST 8    /* ... but in caches so small that a miniature would have less than eight entries */
#define LOOKS 8     /* sampled values whose visits are looked up, at each sampled store */
#define CLEARLY 0.1 /* by so many hits for each entry another must be ahead: a change costs about the content of the cache */
#define TO_ALL 0.5  /* a window of all there is must be ahead by more, since all of the main part goes for it */
#define RELUCTANT 8.0
#define SETTLED 100 /* a change doubles how far ahead the next one must be, up to RELUCTANT times; that is forgotten after so many requests an entry.
                     * Else a scan forward and back would have two that are equal take turns, and each pay for it */

bool sample_begin(struct sample *sample, PyObject *choices, Py_ssize_t first) {
    *sample = (struct sample){.reluctance = 1, .below = WORDS};
    if (!choices_told(choices, sample->choices, &sample->count)) return false;
    sample->chosen = (unsigned)first;
    if (first >= 0 && first < (Py_ssize_t)sample->count) return true;
    PyErr_SetString(PyExc_ValueError, "the first one is the number of one of the choices");
    return false;
}

/* Of 32 bits. */
uint32_t sample_number(Py_hash_t hash) {
    uint64_t mixed = (uint64_t)hash * 0x9E3779B97F4A7C15u >> 20; /* small integers are their own hashes */
    return (uint32_t)(mixed * 0x85EBCA6Bu >> 12);
}

static void halve(struct sample *sample) {
    sample->below /= 2;
    if (sample->miniatures) miniatures_keep(sample->miniatures, sample->below);
    (void)ordered_keep(&sample->seen, sample->below); /* without memory those stay a while that are sampled no more */
}

static bool are_too_many(const struct sample *sample, Py_ssize_t there) {
    return (double)there * (double)sample->below > 2.0 * SAMPLED * (double)WORDS;
}

/* Entries of a miniature; -1 with an exception set. Where that would be too many, half of the keys are sampled no more. */
static double entries_of(struct sample *sample, const struct figures *figures) {
    Py_ssize_t there = ask_entries(figures);
    if (there < 0) return -1;
    while (are_too_many(sample, there) || (sample->below * ONE_IN > WORDS && sample->below * (uint64_t)there >= 2 * FEWEST * WORDS)) halve(sample);
    return fmax(FEWEST / 2.0, (double)there * (double)sample->below / (double)WORDS);
}

static void request(struct sample *sample, uint64_t number, unsigned times, double entries) {
    if (!sample->miniatures) return;
    sample->requests++;
    miniatures_request(sample->miniatures, (uint32_t)number, times, entries);
}

static unsigned fitting(Py_ssize_t visits) { return visits < INT32_MAX ? (unsigned)visits : INT32_MAX; }

/* A sampled value is there. It keeps its key alive, as some hundreds do at most. Answers how often it had been visited; without memory it is not noted. */
static unsigned note(struct sample *sample, PyObject *key, uint64_t number, unsigned visits) {
    struct numbered *known = ordered_find(&sample->seen, number);
    unsigned before = known ? known->visits : 0;
    PyObject *old = known ? known->object : NULL;
    if (known) known->object = Py_NewRef(key);
    else if (ordered_reserve(&sample->seen)) known = ordered_append(&sample->seen, number, key);
    if (known) known->visits = visits;
    Py_XDECREF(old);
    return before;
}

/* At those that were looked at longest ago. -1 with an exception set. */
static int look(struct sample *sample, const struct figures *figures, uint32_t count, double entries) {
    struct numbered *known;
    for (; count && (known = ordered_oldest(&sample->seen)); count--) {
        uint64_t number = known->number;
        unsigned before = known->visits;
        PyObject *key = Py_NewRef(known->object);
        ordered_renew(&sample->seen, known); /* first: who asks in vain asks another the next time */
        Py_ssize_t visits = ask_visits(figures, key);
        bool failed = visits < 0 && PyErr_Occurred();
        known = failed ? NULL : ordered_find(&sample->seen, number);
        if (known && visits < 0) Py_DECREF(ordered_remove(&sample->seen, known));
        else if (known && sample->miniatures) known->visits = fitting(visits); /* before there are any, all visits are kept for them */
        Py_DECREF(key);
        if (failed) return -1;
        if (visits > (Py_ssize_t)before) request(sample, number, fitting(visits) - before, entries);
    }
    return 0;
}

/* Another choice, if it is clearly ahead. */
static void decide(struct sample *sample, double entries) {
    double hits[CHOICES];
    unsigned best = 0;
    miniatures_hits(sample->miniatures, hits);
    for (unsigned i = 1; i < sample->count; i++)
        if (hits[i] > hits[best]) best = i;
    sample->reluctance = 1 + (sample->reluctance - 1) * exp(-(double)sample->requests / (SETTLED * entries));
    sample->requests = 0;
    if (hits[best] - hits[sample->chosen] > (sample->choices[best].share == 1 ? TO_ALL : CLEARLY) * sample->reluctance * entries) {
        sample->chosen = best;
        sample->reluctance = fmin(RELUCTANT, 2 * sample->reluctance);
    }
}

/* A sampled value is to be stored.
 *
 * The bad schedule, before the cache is full: keys are stored and deleted, ever new ones. Nobody looked, and all of them were kept alive. */
int sample_stored(struct sample *sample, const struct figures *figures, PyObject *key, uint32_t number) {
    if (sample->miniatures) {
        double entries = entries_of(sample, figures);
        if (entries < 0 || look(sample, figures, LOOKS < sample->seen.count ? LOOKS : sample->seen.count, entries)) return -1;
        request(sample, number, 1, entries);
        decide(sample, entries);
    } else {
        Py_ssize_t there = ask_entries(figures);
        if (there < 0) return -1;
        if (are_too_many(sample, there)) halve(sample);
        if (sample->seen.count > 4 * SAMPLED && look(sample, figures, 2, 0)) return -1;
    }
    note(sample, key, number, 0);
    return 0;
}

/* The cache is full: what was sampled is in all miniatures. Without memory that is tried again. */
static int begin(struct sample *sample, const struct figures *figures) {
    PyObject *miniatures = miniatures_make(sample->choices, sample->count);
    if (!miniatures) {
        if (!PyErr_ExceptionMatches(PyExc_MemoryError)) return -1;
        PyErr_Clear();
        return 0;
    }
    sample->miniatures = miniatures;
    double entries = entries_of(sample, figures);
    if (entries < 0) return -1;
    for (struct numbered *known = ordered_oldest(&sample->seen); known; known = ordered_next(&sample->seen, known)) request(sample, known->number, 1, entries);
    return look(sample, figures, sample->seen.count, entries);
}

/* The evictor passed over a sampled value. If it stays, visits count on from those that were `left` to it. It may have been stored without our being
 * told, long before the cache was full. */
int sample_passed(struct sample *sample, const struct figures *figures, PyObject *key, uint32_t number, Py_ssize_t visits, unsigned left) {
    if (!sample->miniatures && begin(sample, figures)) return -1;
    if (!visits) return 0;
    unsigned now = fitting(visits), before = note(sample, key, number, left);
    if (now <= before) return 0;
    double entries = entries_of(sample, figures);
    if (entries < 0) return -1;
    request(sample, number, now - before, entries);
    return 0;
}
