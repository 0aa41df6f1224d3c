/* The system layer of os.h, any of whose calls may fail; scripted.h sends the core here. */
#include "failing.h"

LIST(no_memory, ENOMEM);
LIST(advice_errors, ENOMEM, EINVAL);
LIST(populate_errors, EFAULT, ENOMEM, EINTR, EHWPOISON);
LIST(watch_errors, ENOMEM, EBUSY, EINVAL);
LIST(zero_errors, ENOMEM);
LIST(copy_errors, ENOMEM, EFAULT, ENOENT, EEXIST);
LIST(scan_errors, EBADF, EIO);
LIST(lock_errors, EPERM, ENOMEM);
LIST(check_errors, EIO, ENOMEM);
LIST(yes, 1);

#define HALVED(real, base, len)                                                                    \
    do {                                                                                           \
        if (half && (len) / 2 / os_page_size) real(base, (len) / 2 / os_page_size * os_page_size); \
    } while (0)
#define ADVICE(call, real, errors)          \
    int call(char *base, size_t len) {      \
        int err = script(#real, errors, 1); \
        if (!err) return real(base, len);   \
        HALVED(real, base, len);            \
        return err;                         \
    }
ADVICE(scripted_free_lazily, os_free_lazily, advice_errors)
ADVICE(scripted_populate_write, os_populate_write, populate_errors)
ADVICE(scripted_populate_read, os_populate_read, populate_errors)
ADVICE(scripted_pageout, os_pageout, advice_errors)
ADVICE(scripted_discard, os_discard, advice_errors)
ADVICE(scripted_watch, os_watch, watch_errors)
ADVICE(scripted_watch_again, os_watch_again, watch_errors)
ADVICE(scripted_fill_unwatched, os_fill_unwatched, populate_errors)
ADVICE(scripted_unwatch, os_unwatch, watch_errors)
ADVICE(scripted_hold_resident, os_hold_resident, lock_errors)

int scripted_reserve(size_t len, size_t align, char **out) {
    int err = script("os_reserve", no_memory, 0);
    return err ? err : os_reserve(len, align, out);
}

int scripted_release(char *base, size_t len) { return os_release(base, len); }

int scripted_zero(char *base, size_t len, size_t *done) {
    int err = script("os_zero", zero_errors, 1);
    if (!err) return os_zero(base, len, done);
    *done = 0;
    size_t part = half ? len / 2 / os_page_size * os_page_size : 0;
    if (part) os_zero(base, part, done);
    return err;
}

int scripted_copy(char *base, const char *from, size_t len, size_t *done) {
    int err = script("os_copy", copy_errors, 1);
    if (!err) return os_copy(base, from, len, done);
    *done = 0;
    size_t part = half ? len / 2 / os_page_size * os_page_size : 0;
    if (part) os_copy(base, from, part, done);
    return err;
}

int scripted_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    int err = script("os_scan", scan_errors, 1);
    if (!err) return os_scan(class, start, end, found, context);
    size_t part = half ? (end - start) / 2 / os_page_size * os_page_size : 0;
    if (part) os_scan(class, start, start + part, found, context);
    return err;
}

bool scripted_watching(void) { return os_watching(); }

int scripted_check_anonymous(uintptr_t start, uintptr_t end, os_found *mapped, void *context) {
    int err = script("os_check_anonymous", check_errors, 0);
    return err ? err : os_check_anonymous(start, end, mapped, context);
}

long scripted_minor_faults(void) { return os_minor_faults() + script("os_minor_faults", yes, 0); }
