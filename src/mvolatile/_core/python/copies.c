/* Memory's methods that copy bytes: read, readinto, write; and peek, which looks at them in place. */
#include "python/python.h"

#include <errno.h>
#include <string.h>

#include "protocol/trap.h"

#define COPY_WITH_GIL ((Py_ssize_t)1 << 16)

/* Optimistic, without a kernel call; false where only range_read() can tell. */
static bool peek_copy(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to) {
    struct peek peek;
    if (range_copy_begin(&peek, range, (size_t)offset, (size_t)n) != PEEK_WHOLE) return false;
    memmove(to, range->base + offset, (size_t)n);
    enum peek_verdict verdict = range_peek_end(&peek);
    if (verdict == PEEK_UNSURE) verdict = range_peek_end_carefully(&peek);
    return verdict == PEEK_WHOLE;
}

int copy_out(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to) {
    int err = 0;
    bool small = n <= COPY_WITH_GIL, traps = traps_here();
    if (small && traps && peek_copy(range, offset, n, to)) return 0;
    Py_BEGIN_ALLOW_THREADS
    if (small || !traps || !trap_catches() || !peek_copy(range, offset, n, to)) /* so many bytes cost more than to ask the kernel */
        err = range_read(range, (size_t)offset, (size_t)n, to);
    Py_END_ALLOW_THREADS
    return err;
}

/* Whether n bytes are whole, without copying more than the last few: to touch each page is enough. False where only copying can tell. */
bool peek_tail(struct range *range, Py_ssize_t offset, Py_ssize_t n, char *to, Py_ssize_t few) {
    struct peek peek;
    if (!traps_here() || range_copy_begin(&peek, range, (size_t)offset, (size_t)n) != PEEK_WHOLE) return false;
    const volatile char *from = range->base + offset;
    for (Py_ssize_t at = 0; at < n; at += (Py_ssize_t)os_page_size) (void)from[at];
    memcpy(to, range->base + offset + n - few, (size_t)few); /* and so the last page */
    enum peek_verdict verdict = range_peek_end(&peek);
    if (verdict == PEEK_UNSURE) verdict = range_peek_end_carefully(&peek);
    return verdict == PEEK_WHOLE;
}

static PyObject *raise_overwritten(MemoryObject *self) {
    return PyObject_CallMethod((PyObject *)self, "_raise_purged", "O", Py_True);
}

PyObject *memory_read(MemoryObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t offset = 0, n = TO_THE_END;
    if (count && !two_sizes(args, count, &offset, &n, "read(offset=0, n=None) takes two integers")) return NULL;
    if (watch_signals()) return NULL;
    struct range *range = use_range(self);
    if (!range) return NULL;
    PyObject *bytes = window(range, offset, &n) ? NULL : PyBytes_FromStringAndSize(NULL, n);
    int err = bytes ? copy_out(range, offset, n, PyBytes_AsString(bytes)) : 0;
    unuse_range(range);
    if (!err) return bytes;
    Py_DECREF(bytes);
    if (err == EFAULT) return PyObject_CallMethod((PyObject *)self, "_read_lost", "nn", offset, n);
    if (err == EAGAIN) return raise_overwritten(self);
    return fail(err, "madvise(MADV_POPULATE_WRITE)");
}

static bool buffer_and_offset(PyObject *const *args, Py_ssize_t count, int flags, Py_buffer *view, Py_ssize_t *offset) {
    *offset = 0;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "takes a bytes-like object and an offset");
        return false;
    }
    if (count == 2) {
        *offset = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
        if (*offset == -1 && PyErr_Occurred()) return false;
    }
    return PyObject_GetBuffer(args[0], view, flags) == 0;
}

PyObject *memory_readinto(MemoryObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_buffer view;
    Py_ssize_t offset;
    if (watch_signals() || !buffer_and_offset(args, count, PyBUF_WRITABLE, &view, &offset)) return NULL;
    struct range *range = use_range(self);
    int err = 0;
    Py_ssize_t n = view.len;
    if (range && !window(range, offset, &n)) err = copy_out(range, offset, n, view.buf);
    if (range) unuse_range(range);
    PyBuffer_Release(&view);
    if (PyErr_Occurred()) return NULL;
    if (err == EFAULT) return PyObject_CallMethod((PyObject *)self, "_readinto_lost", "On", args[0], offset);
    if (err == EAGAIN) return raise_overwritten(self);
    return err ? fail(err, "madvise(MADV_POPULATE_WRITE)") : PyLong_FromSsize_t(n);
}

PyObject *memory_write(MemoryObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_buffer view;
    Py_ssize_t offset;
    if (watch_signals() || !buffer_and_offset(args, count, PyBUF_SIMPLE, &view, &offset)) return NULL;
    struct range *range = use_range(self);
    int err = 0;
    Py_ssize_t n = view.len;
    if (range && !window(range, offset, &n)) {
        Py_BEGIN_ALLOW_THREADS
        err = range_write(range, (size_t)offset, (size_t)n, view.buf);
        Py_END_ALLOW_THREADS
    }
    if (range) unuse_range(range);
    PyBuffer_Release(&view);
    if (PyErr_Occurred()) return NULL;
    if (err) return fail(err, "madvise(MADV_POPULATE_WRITE)");
    after_use(self);
    return PyLong_FromSsize_t(n);
}

PyObject *memory_peek(MemoryObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t offset = 0, length = TO_THE_END;
    if (count && !two_sizes(args, count, &offset, &length, "peek(offset=0, length=None) takes two integers")) return NULL;
    return peek_new(peek_type, self, offset, length);
}
