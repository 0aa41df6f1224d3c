/* What is set up once: the types, and the kernel's side when it is first needed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/watch.h"
#include "python/python.h"

PyTypeObject *memory_type, *hold_type, *pin_type, *peek_type, *window_type;
PyObject *release_name;

const char *const tier_names[] = {"unsupported", "faultcount", "userfaultfd"};

static int refuse_tier(enum os_tier wanted) {
    PyObject *errors = PyImport_ImportModule("mvolatile.errors");
    PyObject *class = errors ? PyObject_GetAttrString(errors, "UnsupportedError") : NULL;
    const struct os_probe *probe = os_probed();
    const struct {
        const char *name;
        int err;
    } needed[] = {
        {"MADV_FREE", probe->madv_free},
        {"MADV_POPULATE_WRITE", probe->populate_write},
        {"userfaultfd", wanted == OS_TIER_USERFAULTFD ? probe->userfaultfd : 0},
        {"UFFD_FEATURE_SIGBUS", wanted == OS_TIER_USERFAULTFD ? probe->uffd_sigbus : 0},
        {"/proc/self/pagemap", wanted == OS_TIER_FAULTCOUNT ? probe->pagemap : 0},
    };
    size_t last = sizeof needed / sizeof *needed - 1, i = 0;
    while (i < last && !needed[i].err) i++;
    if (class)
        PyErr_Format(class, "MVOLATILE_TIER=%s cannot be had here: %s: %s", tier_names[wanted], needed[i].name,
                     strerror(needed[i].err));
    Py_XDECREF(class);
    Py_XDECREF(errors);
    return -1;
}

static int start(void) {
    const char *forced = getenv("MVOLATILE_TIER");
    int wanted = OS_TIER_USERFAULTFD;
    if (forced && *forced) {
        for (wanted = OS_TIER_USERFAULTFD; wanted >= 0 && strcmp(forced, tier_names[wanted]); wanted--) {}
        if (wanted < 0) {
            PyErr_Format(PyExc_ValueError, "MVOLATILE_TIER=%s: must be userfaultfd, faultcount or unsupported", forced);
            return -1;
        }
    }
    int err = range_init((enum os_tier)wanted);
    if (err) {
        fail(err, err == ENOMEM ? "mmap" : "userfaultfd, or open of /proc/self/pagemap or maps");
        return -1;
    }
    if (forced && *forced && range_tier != (enum os_tier)wanted) return refuse_tier((enum os_tier)wanted);
    watch_init();
    return 0;
}

int ready(void) {
    static _Atomic bool done;
    if (done) return 0;
    int failed = 0;
    LOCK(memory_type);
    if (!done) failed = start();
    if (!failed) done = true;
    UNLOCK();
    return failed;
}
