/* What W-TinyLFU decides of a value that is passed over: mvolatile/cache/eviction/tinylfu.py says why. */
#include "cache/eviction.h"

#define PROVED 2           /* so many visits in one turn of the window, and a value enters the main part without being compared */
#define LITTLE 1           /* powers of two */
#define NOBODY (-2)        /* the count of a victim where there is none: whoever comes is better */

/* The oldest of a queue, or what is being filled, as far as it has not been passed over. A new reference; None where there is none. */
PyObject *lfu_oldest(struct lfu *lfu, enum queue queue) {
    struct numbered *first = ordered_oldest(&lfu->queues[queue]);
    if (first) return Py_NewRef(first->object);
    PyObject *filling = ask_filling(&lfu->figures, lfu->numbers[queue]);
    if (!filling || filling == Py_None) return filling;
    Py_ssize_t passed = ask(filling, ASK_PASSED), slots = passed < 0 ? -1 : ask_slots(filling);
    if (slots > passed) return filling;
    Py_DECREF(filling);
    return slots < 0 ? NULL : Py_NewRef(Py_None);
}

/* Of the next victim, at least one; NOBODY; -1 with an exception set. */
static Py_ssize_t count_of_victim(struct lfu *lfu) {
    PyObject *region = lfu_oldest(lfu, KEPT);
    Py_ssize_t count = region ? NOBODY : -1, at = 0, slots = 0;
    if (count == NOBODY && region != Py_None && lfu->sketch && (at = ask(region, ASK_PASSED)) >= 0) slots = ask_slots(region);
    if (at < 0 || slots < 0) count = -1;
    for (; count == NOBODY && at < slots; at++) {
        PyObject *slot = PyLong_FromSsize_t(at);
        int lives = slot ? ask_lives(&lfu->figures, region, slot) : -1;
        PyObject *key = lives > 0 ? ask_key(region, at) : NULL;
        Py_hash_t hash = key ? hash_of(key) : -1;
        Py_ssize_t visits = hash == -1 ? -1 : ask_of_slot(region, ASK_VISITS, slot);
        if (visits >= 0) {
            unsigned estimate = sketch_estimate(lfu->sketch, hash);
            count = visits + (estimate ? estimate : 1);
        } else if (lives) {
            count = -1;
        }
        Py_XDECREF(key);
        Py_XDECREF(slot);
    }
    Py_XDECREF(region);
    return count;
}

/* A candidate, than the next victim; -1 with an exception set. */
static int is_better(struct lfu *lfu, unsigned count) {
    const struct choice *choice = &lfu->sample.choices[lfu->sample.chosen];
    if (choice->enough) return count >= choice->enough;
    Py_ssize_t victim = count_of_victim(lfu);
    return victim == -1 ? -1 : (Py_ssize_t)count > victim + (Py_ssize_t)choice->stubbornness;
}

/* In the window what was visited stays, unless it is worth little; a candidate must be worth more than what goes from the main part. */
static enum verdict by_worth(struct worth *worth, double value, bool was_visited, bool in_window) {
    if (!in_window) return worth_stays(worth, value) ? IN_MAIN : GOES;
    if (was_visited && value >= worth->level - LITTLE) return IN_WINDOW;
    return worth_enters(worth, value) ? IN_MAIN : GOES;
}

static enum verdict by_use(struct lfu *lfu, Py_ssize_t size, Py_ssize_t visits, unsigned count, bool in_window) {
    if (visits && in_window) return visits >= PROVED && lfu->sample.choices[lfu->sample.chosen].share < 1 ? IN_MAIN : IN_WINDOW;
    if (visits) return IN_MAIN + (visits / 2 < VERDICTS - IN_MAIN ? (int)(visits / 2) : VERDICTS - IN_MAIN - 1);
    if (!in_window) return GOES;
    Py_ssize_t total = ask_nbytes(&lfu->figures);
    if (total < 0) return FAILED;
    if (lfu->over >= ROUGHLY * (double)total + (double)size) return IN_MAIN;
    int better = is_better(lfu, count);
    return better < 0 ? FAILED : better ? IN_MAIN
                                        : GOES;
}

/* Those that were visited stay where they are; a candidate may be better than the victim. */
enum verdict lfu_judge(struct lfu *lfu, PyObject *region, PyObject *slot, Py_ssize_t visits, unsigned count) {
    Py_ssize_t queue = ask(region, ASK_QUEUE), is_open = queue ? 0 : ask(region, ASK_IS_OPEN);
    uint64_t number = queue || is_open ? 0 : ask_number(region);
    if (queue < 0 || is_open < 0 || number == UINT64_MAX) return FAILED;
    bool in_window = !queue && (is_open || ordered_find(&lfu->queues[FRESH], number));
    Py_ssize_t cost = ask_of_slot(region, ASK_COST, slot), size = cost < 0 ? -1 : ask_of_slot(region, ASK_SIZE, slot);
    int is_unlimited = size < 0 ? -1 : ask_is_unlimited(&lfu->figures);
    if (is_unlimited < 0) return FAILED;
    double of_one = worth_see(&lfu->worth, (unsigned)cost, is_unlimited ? 1 : (uint64_t)size);
    if (!lfu->worth.differs) return by_use(lfu, size, visits, count, in_window);
    return by_worth(&lfu->worth, worth_with_uses(&lfu->worth, of_one, count), visits > 0, in_window);
}
