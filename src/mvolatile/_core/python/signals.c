/* Our handler runs first. */
#include <signal.h>
#include <time.h>

#include "protocol/trap.h"
#include "protocol/watch.h"
#include "python/python.h"

/* Asking the kernel costs a system call, which a peek does not make. What Python's own ways to change the disposition leave behind is seen
 * at once; what foreign C code did, and a Python handler that is set anew, is seen at the next tick of the coarse clock (1 to 10 ms). So is
 * the thread's mask, and the masks of others: nothing in user space tells that one changed. */
static struct {
    struct question {
        PyObject *function, *argument;
        PyCFunction quick; /* the same function, or NULL */
        PyObject *of;
    } getsignal, is_enabled; /* _signal's, of SIGBUS; faulthandler's */
    PyObject *handler;       /* what getsignal said last: compared, never used */
    bool enabled;
    _Atomic bool blocking_threads; /* read without the lock */
    struct timespec tick;
} seen;
static OF_EACH_THREAD struct {
    struct timespec tick; /* 0 before the first use, which is no tick of the clock: that asks, too */
    bool deaf;
} here;

static PyObject *ask(const struct question *question) {
    if (question->quick) return question->quick(question->of, question->argument);
    return PyObject_CallFunctionObjArgs(question->function, question->argument, NULL);
}

static bool python_changed_it(void) {
    PyObject *handler = ask(&seen.getsignal);
    PyObject *enabled = handler ? ask(&seen.is_enabled) : NULL;
    if (!enabled) {
        Py_XDECREF(handler);
        PyErr_Clear(); /* the interpreter is on its way out */
        return true;
    }
    bool changed = handler != seen.handler || (enabled == Py_True) != seen.enabled;
    if (changed) {
        seen.enabled = enabled == Py_True;
        trap_set_python_handler(PyCallable_Check(handler));
        Py_XDECREF(seen.handler);
        seen.handler = Py_NewRef(handler);
    }
    Py_DECREF(handler);
    Py_DECREF(enabled);
    return changed;
}

bool traps_here(void) { return range_tier == OS_TIER_USERFAULTFD && !here.deaf; }

bool traps_everywhere(void) { return traps_here() && !seen.blocking_threads; }

static bool is_tick(const struct timespec *last, const struct timespec *now) {
    return now->tv_nsec != last->tv_nsec || now->tv_sec != last->tv_sec;
}

int watch_signals(void) {
    if (range_tier != OS_TIER_USERFAULTFD) return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (is_tick(&here.tick, &now)) {
        here.tick = now;
        here.deaf = trap_is_blocked();
    }
    LOCK(memory_type);
    bool tick = is_tick(&seen.tick, &now);
    if (tick) {
        seen.tick = now;
        (void)watch_renew();
        seen.blocking_threads = os_any_thread_blocks_sigbus();
    }
    if (python_changed_it() || tick) trap_ensure();
    UNLOCK();
    return 0;
}

/* A call in all its generality takes several times what the function itself does, and a hit has two of them. So it is called as the interpreter
 * would in the end, if it is written as it is today. */
static bool find_function(struct question *question, const char *module, const char *name, PyObject *argument) {
    PyObject *from = PyImport_ImportModule(module);
    question->function = from ? PyObject_GetAttrString(from, name) : NULL;
    question->argument = argument;
    Py_XDECREF(from);
    if (!question->function) return false;
    if (!PyCFunction_CheckExact(question->function) || PyCFunction_GetFlags(question->function) != (argument ? METH_O : METH_NOARGS)) return true;
    question->of = PyCFunction_GetSelf(question->function);
    question->quick = PyCFunction_GetFunction(question->function);
    return true;
}

int find_watched(void) {
    PyObject *number = PyLong_FromLong(SIGBUS);
    return number && find_function(&seen.getsignal, "_signal", "getsignal", number) && find_function(&seen.is_enabled, "faulthandler", "is_enabled", NULL) ? 0 : -1;
}
