/* Channel: a client's connection to a keeper; SharedFile: memory that both may have. os_shared.h tells why each use asks whose the descriptor is. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "python/python.h"

#include "platform/shared.h"
#include "platform/stream.h"

#define LONGEST_MESSAGE (128 << 10)

typedef struct {
    PyObject_HEAD
    struct os_channel channel;
    char *buffer;
} ChannelObject;

static PyObject *channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *path;
    if (kwargs && PyDict_Size(kwargs)) return PyErr_SetString(PyExc_TypeError, "Channel takes no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "S:Channel", &path)) return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ChannelObject *self = (ChannelObject *)alloc(type, 0);
    if (!self) return NULL;
    self->channel.fd = -1;
    int err = (self->buffer = malloc(LONGEST_MESSAGE)) ? os_channel_connect(&self->channel, PyBytes_AsString(path)) : ENOMEM;
    if (!err) return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return fail(err, "connect to a keeper");
}

static void channel_dealloc(ChannelObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    os_channel_close(&self->channel);
    free(self->buffer);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *channel_send(ChannelObject *self, PyObject *args) {
    Py_buffer data;
    int pass = -1;
    if (!PyArg_ParseTuple(args, "y*|i:send", &data, &pass)) return NULL;
    int err = os_channel_send(&self->channel, data.buf, (size_t)data.len, pass);
    PyBuffer_Release(&data);
    return err && err != EPIPE && err != EAGAIN ? fail(err, "sendmsg to a keeper") : PyBool_FromLong(!err);
}

static int64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* An answer is mostly there within 20 us. So long Python's lock is kept: where a thread computes, it comes back only after 5 ms. */
#define WITH_LOCK 100

static PyObject *received(ChannelObject *self, int patience, bool soon) {
    int passed;
    int64_t deadline = microseconds() + (int64_t)patience * 1000;
    if (soon) (void)os_channel_wait(&self->channel, WITH_LOCK);
    for (;;) {
        size_t nbytes = LONGEST_MESSAGE;
        int err = os_channel_receive(&self->channel, self->buffer, &nbytes, &passed);
        if (!err) return Py_BuildValue("(Ni)", PyBytes_FromStringAndSize(self->buffer, (Py_ssize_t)nbytes), passed);
        if (passed >= 0) close(passed);
        if (err != EAGAIN) Py_RETURN_NONE;
        int64_t left = patience < 0 ? -1 : deadline - microseconds();
        if (patience >= 0 && left <= 0) Py_RETURN_FALSE;
        Py_BEGIN_ALLOW_THREADS
        err = os_channel_wait(&self->channel, left);
        Py_END_ALLOW_THREADS
        if (err == EINTR && PyErr_CheckSignals()) return NULL;
    }
}

static PyObject *channel_receive(ChannelObject *self, PyObject *args) {
    int patience;
    if (!PyArg_ParseTuple(args, "i:receive", &patience)) return NULL;
    return received(self, patience, patience >= 0 && os_channel_is_ours(&self->channel));
}

static PyObject *channel_ask(ChannelObject *self, PyObject *args) {
    Py_buffer data;
    int patience, pass = -1;
    if (!PyArg_ParseTuple(args, "y*i|i:ask", &data, &patience, &pass)) return NULL;
    int err = os_channel_send(&self->channel, data.buf, (size_t)data.len, pass);
    PyBuffer_Release(&data);
    if (!err) return received(self, patience, true);
    return err != EPIPE && err != EAGAIN ? fail(err, "sendmsg to a keeper") : Py_NewRef(Py_None);
}

static PyObject *channel_close(ChannelObject *self, PyObject *unused) {
    (void)unused;
    os_channel_close(&self->channel);
    Py_RETURN_NONE;
}

static PyObject *channel_fileno(ChannelObject *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(os_channel_is_ours(&self->channel) ? self->channel.fd : -1);
}

static PyObject *get_open(ChannelObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(os_channel_is_open(&self->channel));
}
static PyObject *get_pid(ChannelObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(self->channel.pid);
}
static PyObject *get_uid(ChannelObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->channel.uid);
}

static PyMethodDef channel_methods[] = {
    {"send", (PyCFunction)channel_send, METH_VARARGS,
     "send($self, data, pass_=-1, /)\n--\n\nOne message, and perhaps a descriptor. False: it is over. Never waits."},
    {"receive", (PyCFunction)channel_receive, METH_VARARGS,
     "receive($self, milliseconds, /)\n--\n\n(message, a descriptor or -1); False if none came in time (-1: for ever), None: it is over."},
    {"ask", (PyCFunction)channel_ask, METH_VARARGS,
     "ask($self, data, milliseconds, pass_=-1, /)\n--\n\nSends a message, and answers as `receive`; None also where it could not be sent."},
    {"close", (PyCFunction)channel_close, METH_NOARGS, "close($self, /)\n--\n\nNot what is another's by now."},
    {"fileno", (PyCFunction)channel_fileno, METH_NOARGS, "fileno($self, /)\n--\n\nThe descriptor, or -1 if it is not ours any more."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef channel_getset[] = {
    {"open", (getter)get_open, NULL, "Whether the other side has not closed it.", NULL},
    {"pid", (getter)get_pid, NULL, "Who listened there, as the kernel says; 0 from another pid namespace.", NULL},
    {"uid", (getter)get_uid, NULL, "Whose it is, as the kernel says.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot channel_slots[] = {
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_getset},
    {Py_tp_doc, "Channel(path, /)\n--\n\nA connection to a keeper, of one thread at a time. OSError if nobody listens there."},
    {0, NULL},
};
static PyType_Spec channel_spec = {
    .name = "mvolatile._core.Channel",
    .basicsize = sizeof(ChannelObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = channel_slots,
};

/* ---- memory that two processes have ----------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct os_channel file;
    void *base;
    Py_ssize_t nbytes;
} FileObject;

static PyObject *file_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    Py_ssize_t nbytes;
    if (kwargs && PyDict_Size(kwargs)) return PyErr_SetString(PyExc_TypeError, "SharedFile takes no keywords"), NULL;
    if (!PyArg_ParseTuple(args, "n:SharedFile", &nbytes)) return NULL;
    if (nbytes <= 0) return PyErr_SetString(PyExc_ValueError, "a size is positive"), NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    FileObject *self = (FileObject *)alloc(type, 0);
    if (!self) return NULL;
    int err = os_file_make(&self->file, (size_t)nbytes);
    if (!err) err = os_map_file(self->file.fd, (size_t)nbytes, true, &self->base);
    if (!err) {
        self->nbytes = nbytes;
        return (PyObject *)self;
    }
    self->base = NULL;
    Py_DECREF((PyObject *)self);
    return fail(err, "memfd_create");
}

static void file_dealloc(FileObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    os_channel_close(&self->file);
    if (self->base) os_unmap_file(self->base, (size_t)self->nbytes);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static int file_buffer(FileObject *self, Py_buffer *view, int flags) {
    return PyBuffer_FillInfo(view, (PyObject *)self, self->base, self->nbytes, 0, flags);
}

static PyObject *file_fileno(FileObject *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(os_channel_is_ours(&self->file) ? self->file.fd : -1);
}
static PyObject *file_close(FileObject *self, PyObject *unused) {
    (void)unused;
    os_channel_close(&self->file);
    Py_RETURN_NONE;
}
static PyObject *file_empty(FileObject *self, PyObject *unused) {
    (void)unused;
    os_empty_file(self->base, (size_t)self->nbytes);
    Py_RETURN_NONE;
}

#define WITHOUT_LOCK (4 << 20) /* bytes from which on a copy lets other threads run: it takes a millisecond */

static PyObject *file_write(FileObject *self, PyObject *args) {
    Py_ssize_t at;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "ny*:write", &at, &data)) return NULL;
    bool fits = at >= 0 && data.len <= self->nbytes && at <= self->nbytes - data.len;
    char *to = (char *)self->base + (fits ? at : 0);
    if (fits && data.len < WITHOUT_LOCK) stream_hand_over(to, data.buf, (size_t)data.len);
    else if (fits) {
        Py_BEGIN_ALLOW_THREADS
        stream_hand_over(to, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    if (fits) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "there is no room for it there");
    return NULL;
}

static PyMethodDef file_methods[] = {
    {"write", (PyCFunction)file_write, METH_VARARGS,
     "write($self, at, data, /)\n--\n\nCopy contiguous bytes to there, for another process."},
    {"fileno", (PyCFunction)file_fileno, METH_NOARGS, "fileno($self, /)\n--\n\nThe descriptor, or -1 if it is closed or not ours any more."},
    {"close", (PyCFunction)file_close, METH_NOARGS, "close($self, /)\n--\n\nThe descriptor alone: the memory stays."},
    {"empty", (PyCFunction)file_empty, METH_NOARGS, "empty($self, /)\n--\n\nGive its pages back; it reads as zeros."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot file_slots[] = {
    {Py_tp_new, file_new},
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_methods, file_methods},
    {Py_bf_getbuffer, file_buffer},
    {Py_tp_doc, "SharedFile(nbytes, /)\n--\n\nA memfd that is mapped, and that nobody can make shorter or longer."},
    {0, NULL},
};
static PyType_Spec file_spec = {
    .name = "mvolatile._core.SharedFile",
    .basicsize = sizeof(FileObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = file_slots,
};

static PyObject *let_others_read(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    int err = os_let_others_read();
    return err ? fail(err, "PR_SET_PTRACER") : Py_NewRef(Py_None);
}
static PyObject *boot_seconds(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyFloat_FromDouble(os_boot_seconds());
}
/* Ours and, in a child that was forked, the child's. */
static uint64_t known = 0x6d766f6c6174696c;

static PyObject *read_refusal(PyObject *module, PyObject *number) {
    (void)module;
    long pid = PyLong_AsLong(number);
    if (PyErr_Occurred()) return NULL;
    uint64_t copy = 0;
    struct iovec local = {&copy, sizeof copy};
    return PyLong_FromLong(os_copy_from((pid_t)pid, &local, 1, (uintptr_t)&known, sizeof known));
}
static PyMethodDef functions[] = {
    {"let_others_read", let_others_read, METH_NOARGS,
     "let_others_read($module, /)\n--\n\nProcesses of the same user may read this one's memory, also where Yama restricts that."},
    {"read_refusal", read_refusal, METH_O,
     "read_refusal($module, pid, /)\n--\n\n0 if this process may read the memory of a child that it has forked, or the errno that says why not."},
    {"boot_seconds", boot_seconds, METH_NOARGS, "boot_seconds($module, /)\n--\n\nThe clock of a shared cache's times to live."},
    {NULL, NULL, 0, NULL},
};

int add_channel_types(PyObject *module) {
    PyObject *channel = PyType_FromModuleAndSpec(module, &channel_spec, NULL), *file = PyType_FromModuleAndSpec(module, &file_spec, NULL);
    int failed = !channel || !file || PyModule_AddObjectRef(module, "Channel", channel) || PyModule_AddObjectRef(module, "SharedFile", file) ||
                 PyModule_AddFunctions(module, functions);
    Py_XDECREF(channel);
    Py_XDECREF(file);
    return failed ? -1 : 0;
}
