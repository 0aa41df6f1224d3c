/* The module: its functions, and the types of python/ and cache/. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "cache/cache.h"
#include "protocol/gate.h"
#include "protocol/linger.h"
#include "protocol/marker.h"
#include "protocol/raw.h"
#include "protocol/watch.h"
#include "python/python.h"

/* ---- functions -------------------------------------------------------------------------------------------------------------------- */

/* Anything with __index__, or -1 with an exception set. What does not fit is EINVAL, once all are known to be numbers. */
static int argument(PyObject *object, size_t most, size_t *out, bool *fits) {
    PyObject *number = PyNumber_Index(object);
    if (!number) return -1;
    *out = PyLong_AsSize_t(number);
    Py_DECREF(number);
    if (*out > most || PyErr_Occurred()) *fits = false;
    PyErr_Clear(); /* OverflowError, of an integer */
    return 0;
}

static PyObject *core_mvolatile(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *objects[4];
    size_t start, length, mode, flags;
    bool fits = true;
    if (!PyArg_ParseTuple(args, "OOOO", &objects[0], &objects[1], &objects[2], &objects[3]) || ready()) return NULL;
    if (argument(objects[0], SIZE_MAX, &start, &fits) || argument(objects[1], PY_SSIZE_T_MAX, &length, &fits) ||
        argument(objects[2], LONG_MAX, &mode, &fits) || argument(objects[3], LONG_MAX, &flags, &fits))
        return NULL;
    if (!fits) return fail(EINVAL, "mvolatile");
    if (watch_signals()) return NULL;
    int purged, err;
    Py_BEGIN_ALLOW_THREADS
    err = raw_mvolatile(start, length, (long)mode, (long)flags, &purged);
    Py_END_ALLOW_THREADS
    return err ? fail(err, "mvolatile") : Py_BuildValue("(ni)", (Py_ssize_t)length, purged);
}

static PyObject *core_tier(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return ready() ? NULL : PyUnicode_FromString(tier_names[range_tier]);
}

static PyObject *core_probe(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (ready()) return NULL;
    const struct os_probe *probe = os_probed();
    return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "userfaultfd", probe->userfaultfd, "userfaultfd_device",
                         probe->userfaultfd_device, "uffd_sigbus", probe->uffd_sigbus, "madv_free", probe->madv_free, "populate_write",
                         probe->populate_write, "pageout", probe->pageout, "pagemap", probe->pagemap, "pagemap_scan", probe->pagemap_scan,
                         "procmap_query", probe->procmap_query, "anon_name", probe->anon_name);
}

static PyObject *core_sizes(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return ready() ? NULL : Py_BuildValue("(nn)", (Py_ssize_t)os_page_size, (Py_ssize_t)os_huge_size);
}

static PyObject *core_raw_volatile(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromSize_t(raw_volatile_bytes());
}

static PyObject *core_forks(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLong(fork_depth);
}

static PyObject *core_set_unpin_hook(PyObject *module, PyObject *hook) {
    (void)module;
    PyObject *old;
    LOCK(memory_type);
    old = unpin_hook;
    if (!old != (hook == Py_None)) linger_forbid(hook != Py_None);
    unpin_hook = hook == Py_None ? NULL : Py_NewRef(hook);
    UNLOCK();
    Py_XDECREF(old);
    Py_BEGIN_ALLOW_THREADS
    if (linger_bytes()) marker_give_up(); /* what lingers on would be used again untold */
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Under the GIL, where there is one: open() in Python lets it go between the call and the end, and a thread that closes all and opens its own files
 * would have one of them read and closed. */
static PyObject *core_read_file(PyObject *module, PyObject *args) {
    (void)module;
    const char *path;
    char *text;
    size_t length;
    if (!PyArg_ParseTuple(args, "y:read_file", &path)) return NULL;
    int err = os_read(path, &text, &length);
    if (err) return fail(err, path);
    PyObject *bytes = PyBytes_FromStringAndSize(text, (Py_ssize_t)length);
    free(text);
    return bytes;
}

static PyObject *core_replace_file(PyObject *module, PyObject *args) {
    (void)module;
    const char *path, *beside, *text;
    int err;
    if (!PyArg_ParseTuple(args, "yyy:replace_file", &path, &beside, &text)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = os_replace(path, beside, text);
    Py_END_ALLOW_THREADS
    if (err) return fail(err, path);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"mvolatile", core_mvolatile, METH_VARARGS, "mvolatile($module, address, length, mode, flags, /)\n--\n\n(nbytes, purged)."},
    {"tier", core_tier, METH_NOARGS, "tier($module, /)\n--\n\n'userfaultfd', 'faultcount' or 'unsupported'."},
    {"probe", core_probe, METH_NOARGS, "probe($module, /)\n--\n\nWhat each kernel mechanism answered: 0 or an errno, by name; -1 if not tried."},
    {"sizes", core_sizes, METH_NOARGS, "sizes($module, /)\n--\n\n(page size, huge page size) in bytes."},
    {"raw_volatile_bytes", core_raw_volatile, METH_NOARGS,
     "raw_volatile_bytes($module, /)\n--\n\nBytes marked with mvolatile() now."},
    {"work", listener_work, METH_O,
     "work($module, step, /)\n--\n\nOf a thread that listens for the library: 1 before it is started, by who starts it; 0 by itself, first; -1 when it "
     "ends, or could not be started. A fork waits while it works, which is while it is not in Listener.wait()."},
    {"forks_by_python", listener_forks_by_python, METH_O,
     "forks_by_python($module, begins, /)\n--\n\nThis thread begins os.fork() with True, and has ended it with False."},
    {"forks", core_forks, METH_NOARGS,
     "forks($module, /)\n--\n\nHow many forks, by Python or by C, lie between the process that loaded the core and this one."},
    {"replace_file", core_replace_file, METH_VARARGS,
     "replace_file($module, path, beside, text, /)\n--\n\nWrite a file as a whole, beside it first, by no descriptor of the program's."},
    {"read_file", core_read_file, METH_VARARGS, "read_file($module, path, /)\n--\n\nAll of a file of the kernel's, as bytes."},
    {"set_unpin_hook", core_set_unpin_hook, METH_O,
     "set_unpin_hook($module, hook, /)\n--\n\nCall hook(memory) whenever a Memory becomes volatile; None ends it."},
    {NULL, NULL, 0, NULL},
};

static PyObject *add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddObjectRef(module, name, type)) Py_CLEAR(type);
    return type;
}

/* The signal handler, the fork handlers and the memory belong to the process, and what stands above are its globals: one interpreter has
 * them, once. */
static bool loaded;

static bool refuse_another(void) {
    bool main = PyInterpreterState_GetID(PyInterpreterState_Get()) == 0;
    if (!main)
        PyErr_SetString(PyExc_ImportError, "mvolatile works in the main interpreter alone: its SIGBUS handler, its fork handlers and "
                                           "its memory belong to the whole process");
    else if (loaded)
        PyErr_SetString(PyExc_ImportError, "mvolatile can be loaded once in a process, and was loaded before");
    return PyErr_Occurred() != NULL;
}

static int run_module(PyObject *module) {
    if (refuse_another() || find_watched() || !(release_name = PyUnicode_InternFromString("release"))) return -1;
    memory_type = (PyTypeObject *)add_type(module, &memory_spec, "Memory");
    if (!memory_type || PyModule_AddFunctions(module, inner_functions) || PyModule_AddFunctions(module, stored_functions) || PyModule_AddFunctions(module, residence_functions) || add_lookup_types(module) || add_memoized_type(module) || add_tinylfu_types(module) || add_listener_type(module) || add_table_types(module) ||
        add_channel_types(module)) return -1;
    watch_count_forks();
    hold_type = (PyTypeObject *)add_type(module, &hold_spec, "Hold");
    pin_type = (PyTypeObject *)add_type(module, &pin_spec, "Pin");
    peek_type = (PyTypeObject *)add_type(module, &peek_spec, "Peek");
    window_type = (PyTypeObject *)add_type(module, &window_spec, "Window");
    loaded = hold_type && pin_type && peek_type && window_type;
    return loaded ? 0 : -1;
}

static PyModuleDef_Slot slots[4] = {{Py_mod_exec, run_module}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mvolatile._core",
    .m_doc = "The C core of mvolatile; use the package.",
    .m_methods = functions,
    .m_slots = slots,
};

/* Python 3.12's slots, which 3.11 does not know and refuses, by their numbers in the stable ABI. Python would refuse a second interpreter
 * with a lock of its own before run_module() can say why; and not one that shares the lock. */
#define MOD_MULTIPLE_INTERPRETERS 3
#define PER_INTERPRETER_GIL_SUPPORTED ((void *)2)

PyMODINIT_FUNC PyInit__core(void) {
    PyModuleDef_Slot *slot = slots + 1;
    if (Py_Version >= 0x030C0000) *slot++ = (PyModuleDef_Slot){MOD_MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED};
#ifdef Py_GIL_DISABLED
    *slot++ = (PyModuleDef_Slot){Py_mod_gil, Py_MOD_GIL_NOT_USED};
#endif
    return PyModuleDef_Init(&definition);
}
