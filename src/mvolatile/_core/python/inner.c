/* What the library's own Python asks of a memory. Functions of the module: as methods they would be a VolatileMemory's, whose users have no
 * business with them. */
#include <errno.h>

#include "python/python.h"

static MemoryObject *memory_of(PyObject *object) {
    if (PyObject_TypeCheck(object, memory_type)) return (MemoryObject *)object;
    PyErr_Format(PyExc_TypeError, "not a Memory: %R", object);
    return NULL;
}

/* The memory that comes first of `wanted` arguments. */
static MemoryObject *memory_in(PyObject *const *args, Py_ssize_t count, Py_ssize_t wanted, const char *usage) {
    if (count == wanted) return memory_of(args[0]);
    PyErr_SetString(PyExc_TypeError, usage);
    return NULL;
}

/* ---- pins ------------------------------------------------------------------------------------------------------------------------- */

static PyObject *hold(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    MemoryObject *self = memory_in(args, count, 2, "hold(memory, write) takes two arguments");
    int write = self ? PyObject_IsTrue(args[1]) : -1;
    return write < 0 ? NULL : hold_new(self, write);
}

static PyObject *pin(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    MemoryObject *self = memory_in(args, count, 3, "pin(memory, write, on_purge) takes three arguments");
    int write = self ? PyObject_IsTrue(args[1]) : -1;
    return write < 0 ? NULL : pin_new(self, write, args[2]);
}

static PyObject *pins(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? self->range : NULL;
    return self ? PyLong_FromUnsignedLong(range ? range->pins : 0) : NULL;
}

/* ---- state ------------------------------------------------------------------------------------------------------------------------ */

static PyObject *is_volatile(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? self->range : NULL;
    return self ? PyBool_FromLong(range && range->marked) : NULL;
}

static PyObject *refusal(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? self->range : NULL;
    return self ? PyLong_FromLong(range ? range->refusal : 0) : NULL;
}

static PyObject *is_lossy(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? self->range : NULL;
    return self ? PyBool_FromLong(range && atomic_load(&range->lossy)) : NULL;
}

static PyObject *is_valid(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? self->range : NULL;
    return self ? PyBool_FromLong(!range || range_is_valid(range)) : NULL;
}

/* ---- losses ----------------------------------------------------------------------------------------------------------------------- */

static void append_extent(void *context, uintptr_t start, uintptr_t end) {
    struct extents *set = context;
    extents_add(set, start, end);
}

static PyObject *tuple_of(const struct extents *set) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)set->count);
    for (size_t i = 0; tuple && i < set->count; i++) {
        PyObject *pair = Py_BuildValue("(nn)", (Py_ssize_t)set->items[i].start, (Py_ssize_t)(set->items[i].end - set->items[i].start));
        if (!pair || PyTuple_SetItem(tuple, (Py_ssize_t)i, pair)) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *lost(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    MemoryObject *self = memory_in(args, count, 2, "lost(memory, survey) takes two arguments");
    int look = self ? PyObject_IsTrue(args[1]) : -1, err = 0;
    struct range *range = look < 0 ? NULL : use_range(self);
    if (!range) return NULL;
    struct extents set;
    extents_init(&set);
    uint64_t generation;
    Py_BEGIN_ALLOW_THREADS
    if (look) err = range_survey(range);
    generation = range_lost(range, 0, range->nbytes, append_extent, &set);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    PyObject *extents = tuple_of(&set);
    extents_clear(&set);
    if (err) {
        Py_XDECREF(extents);
        return fail(err, "read of /proc/self/pagemap");
    }
    return extents ? Py_BuildValue("(NK)", extents, (unsigned long long)generation) : NULL;
}

static PyObject *numbers_of(const struct suspect *all, Py_ssize_t count) {
    PyObject *numbers = PyList_New(0);
    for (Py_ssize_t i = 0; numbers && i < count; i++) {
        PyObject *number = all[i].is_suspect ? PyLong_FromSize_t(all[i].number) : NULL;
        if (all[i].is_suspect && (!number || PyList_Append(numbers, number))) Py_CLEAR(numbers);
        Py_XDECREF(number);
    }
    return numbers;
}

static PyObject *suspects(PyObject *module, PyObject *memories) {
    (void)module;
    PyObject *all = PySequence_Tuple(memories), *numbers = NULL;
    Py_ssize_t count = all ? PyTuple_Size(all) : 0, used = 0;
    struct suspect *each = all ? PyMem_Calloc((size_t)count + 1, sizeof *each) : NULL;
    if (all && !each) PyErr_NoMemory();
    for (; each && used < count; used++) {
        MemoryObject *memory = memory_of(PyTuple_GetItem(all, used));
        struct range *range = memory ? use_range(memory) : NULL;
        if (!range) break;
        each[used] = (struct suspect){range, (size_t)used, false};
    }
    if (each && used == count) {
        Py_BEGIN_ALLOW_THREADS
        range_sweep(each, (size_t)count);
        Py_END_ALLOW_THREADS
        numbers = numbers_of(each, count);
    }
    while (used) unuse_range(each[--used].range);
    PyMem_Free(each);
    Py_XDECREF(all);
    return numbers;
}

static PyObject *forgive(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? use_range(self) : NULL;
    if (!range) return NULL;
    Py_BEGIN_ALLOW_THREADS
    range_forgive(range, 0, range->nbytes);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    Py_RETURN_NONE;
}

static PyObject *purge(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    Py_ssize_t offset = 0, length = TO_THE_END;
    static const char usage[] = "purge(memory, offset=0, length=None) takes a Memory and two integers";
    MemoryObject *self = memory_in(args, count, count ? count : 1, usage);
    if (!self || (count > 1 && !two_sizes(args + 1, count - 1, &offset, &length, usage))) return NULL;
    struct range *range = use_range(self);
    if (!range) return NULL;
    size_t bytes = 0;
    int err = 0;
    bool marked = true;
    if (!window(range, offset, &length)) {
        Py_BEGIN_ALLOW_THREADS
        err = range_purge(range, (size_t)offset, (size_t)length, &bytes);
        Py_END_ALLOW_THREADS
        marked = !range->refusal;
    }
    unuse_range(range);
    if (PyErr_Occurred()) return NULL;
    if (err == EDEADLK) {
        PyErr_SetString(PyExc_BufferError, "a pinned memory cannot be purged");
        return NULL;
    }
    return err ? fail(err, marked ? "madvise(MADV_PAGEOUT)" : "madvise(MADV_FREE)") : PyLong_FromSize_t(bytes);
}

/* Read a byte of each page, so that the kernel takes it later: a page that was read since its mark goes to the end of the line when its turn comes.
 * It is a peek like any other. Not in the lower tier, where a page that went would be filled. */
static PyObject *keep_young(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    if (!self || ready() || watch_signals()) return NULL;
    struct range *range = traps_here() ? use_range(self) : NULL;
    if (!range) return PyErr_Occurred() ? NULL : Py_NewRef(Py_True);
    struct peek peek;
    bool whole;
    Py_BEGIN_ALLOW_THREADS
    size_t step = range->huge ? os_huge_size : os_page_size;
    whole = range_copy_begin(&peek, range, 0, range->nbytes) == PEEK_WHOLE;
    for (size_t at = 0; whole && at < range->nbytes && !atomic_load(&range->notes); at += step) (void)*(volatile char *)(range->base + at);
    enum peek_verdict verdict = whole ? range_peek_end(&peek) : PEEK_LOST;
    whole = (verdict == PEEK_UNSURE ? range_peek_end_carefully(&peek) : verdict) == PEEK_WHOLE;
    Py_END_ALLOW_THREADS
    unuse_range(range);
    return PyBool_FromLong(whole);
}

static PyObject *resident(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    struct range *range = self ? use_range(self) : NULL;
    if (!range) return NULL;
    size_t bytes;
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = range_resident(range, &bytes);
    Py_END_ALLOW_THREADS
    unuse_range(range);
    return err ? fail(err, "read of /proc/self/pagemap") : PyLong_FromSize_t(bytes);
}

/* ---- open and close --------------------------------------------------------------------------------------------------------------- */

static PyObject *open_memory(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *object;
    Py_ssize_t nbytes;
    int huge, dump, inherit, err;
    PyObject *name;
    const char *label;
    if (!PyArg_ParseTuple(args, "O!npppOs", memory_type, &object, &nbytes, &huge, &dump, &inherit, &name, &label) || ready()) return NULL;
    MemoryObject *self = (MemoryObject *)object;
    if (nbytes <= 0 || self->range) {
        PyErr_SetString(PyExc_ValueError, self->range ? "the memory is open already" : "nbytes must be positive");
        return NULL;
    }
    struct range *range;
    Py_BEGIN_ALLOW_THREADS
    err = range_open((size_t)nbytes, huge, (dump ? RANGE_DUMP : 0) | (inherit ? 0 : RANGE_WIPE), label, &range);
    Py_END_ALLOW_THREADS
    if (err) return fail(err, dump && inherit ? "mmap" : "mmap, or madvise for dump=False or inherit=False");
    self->range = range;
    self->name = Py_NewRef(name);
    self->nbytes = nbytes;
    Py_RETURN_NONE;
}

/* Decided under the lock under which every use begins: a refused close changes nothing. Calls that are under way (BUSY), such as another
 * thread's status(), end soon and are waited for; of what they open, pins and peeks, is decided then. */
enum closing begin_closing(MemoryObject *self, struct range **out) {
    enum closing closing = CLOSED;
    struct range *range;
    LOCK(self);
    range = *out = self->range;
    if (range) {
        atomic_fetch_add(&range->users, 1);
        closing = atomic_load(&range->peeks) || range->pins ? REFUSED : range_is_busy(range) ? BUSY
                                                                                             : OURS;
        if (closing == OURS) {
            self->generation = range->generation;
            self->range = NULL;
        } else {
            unuse_range(range);
        }
    }
    UNLOCK();
    return closing;
}

static PyObject *close_memory(PyObject *module, PyObject *memory) {
    (void)module;
    MemoryObject *self = memory_of(memory);
    if (!self) return NULL;
    struct range *range;
    enum closing closing;
    while ((closing = begin_closing(self, &range)) == BUSY) {
        if (PyErr_CheckSignals()) return NULL;
        Py_BEGIN_ALLOW_THREADS
        os_pause();
        Py_END_ALLOW_THREADS
    }
    if (closing == REFUSED) {
        PyErr_SetString(PyExc_BufferError, "the memory is pinned, peeked at, or exported");
        return NULL;
    }
    if (closing == CLOSED) Py_RETURN_NONE;
    Py_BEGIN_ALLOW_THREADS
    range_close(range);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

#define FUNCTION(name, flags, doc) {#name, (PyCFunction)(void (*)(void))name, flags, PyDoc_STR(doc)}

PyMethodDef inner_functions[] = {
    FUNCTION(open_memory, METH_VARARGS,
             "open_memory($module, memory, nbytes, huge, dump, inherit, name, label, /)\n--\n\nTake memory, once."),
    FUNCTION(close_memory, METH_O, "close_memory($module, memory, /)\n--\n\nGive it back; BufferError while it is pinned or peeked at."),
    FUNCTION(hold, METH_FASTCALL, "hold($module, memory, write, /)\n--\n\nPin for reading or writing."),
    FUNCTION(pin, METH_FASTCALL, "pin($module, memory, write, on_purge, /)\n--\n\nA context manager that holds and settles."),
    FUNCTION(pins, METH_O, "pins($module, memory, /)\n--\n\nHow many pins and exports hold it."),
    FUNCTION(is_volatile, METH_O, "is_volatile($module, memory, /)\n--\n\nWhether it is marked now."),
    FUNCTION(refusal, METH_O, "refusal($module, memory, /)\n--\n\nThe errno with which the kernel last refused to make it volatile, or 0."),
    FUNCTION(is_lossy, METH_O, "is_lossy($module, memory, /)\n--\n\nWhether a loss is known that nobody has rebuilt or accepted."),
    FUNCTION(is_valid, METH_O, "is_valid($module, memory, /)\n--\n\nWhether the invariants hold."),
    FUNCTION(lost, METH_FASTCALL, "lost($module, memory, survey, /)\n--\n\n(extents, generation); `survey`: and look what is lost by now."),
    FUNCTION(suspects, METH_O,
             "suspects($module, memories, /)\n--\n\nThe numbers of those that may have lost something: the kernel is asked once for many."),
    FUNCTION(forgive, METH_O, "forgive($module, memory, /)\n--\n\nThe losses known up to now are rebuilt or accepted."),
    FUNCTION(purge, METH_FASTCALL,
             "purge($module, memory, offset=0, length=None, /)\n--\n\nReclaim a window now; answers the bytes that went."),
    FUNCTION(keep_young, METH_O,
             "keep_young($module, memory, /)\n--\n\nRead a byte of each page, so that the kernel takes it later. False where something may be lost."),
    FUNCTION(resident, METH_O, "resident($module, memory, /)\n--\n\nBytes in RAM."),
    {NULL, NULL, 0, NULL},
};
