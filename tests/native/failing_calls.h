/* The system calls of the system layer (platform/), any of which may fail; scripted_calls.h sends it here.
 *
 * Not here: fstat(2) and getrusage(2), which cannot fail on what they are given, and close(2), whose result means nothing. Answers that would
 * be lies are not errors: ENOENT of PROCMAP_QUERY ("nothing is mapped there") and of UFFDIO_COPY ("not watched"). */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "failing.h"

#define SHORT 1000 /* no error, but less than was asked for */
static bool old_kernel;

LIST(map_errors, ENOMEM, EAGAIN, EPERM);
LIST(unmap_errors, ENOMEM);
LIST(advice_errors, ENOMEM, EINVAL, EINTR, EAGAIN);
LIST(populate_errors, EFAULT, ENOMEM, EINVAL, EINTR, EAGAIN, EHWPOISON);
LIST(handshake_errors, EINVAL);
LIST(register_errors, ENOMEM, EINVAL, EPERM, EBUSY);
LIST(again_errors, ENOMEM, EINVAL, EPERM);
LIST(unregister_errors, ENOMEM, EINVAL);
LIST(zero_errors, EAGAIN, EINTR, ENOMEM);
LIST(copy_errors, EAGAIN, EINTR);
LIST(scan_errors, EINTR, ENOMEM, EFAULT, EIO, SHORT);
LIST(query_errors, ENAMETOOLONG, EINTR, ENOMEM);
LIST(read_errors, EINTR, EIO, ENOMEM, SHORT);
LIST(uffd_errors, EPERM, ENOSYS, EMFILE, ENFILE, ENOMEM);
LIST(lock_errors, EPERM, ENOMEM, EAGAIN, EINVAL);
LIST(move_errors, EPERM, ENOSYS);
LIST(open_errors, EACCES, ENOENT, EMFILE, ENFILE, ENOMEM, EINTR);
LIST(name_errors, EINVAL, ENOMEM);
LIST(affinity_errors, EINVAL, EPERM);

#define FAIL(err) return errno = (err), -1
#define PART(len) ((len) / 2 / os_page_size * os_page_size)

int failing_madvise(void *base, size_t len, int advice) {
    static const struct {
        int advice;
        const char *name;
        const int *errors;
    } known[] = {
        {MADV_FREE, "madvise(MADV_FREE)", advice_errors},
        {22, "madvise(MADV_POPULATE_READ)", populate_errors},
        {23, "madvise(MADV_POPULATE_WRITE)", populate_errors},
        {20, "madvise(MADV_COLD)", advice_errors},
        {21, "madvise(MADV_PAGEOUT)", advice_errors},
        {MADV_DONTNEED, "madvise(MADV_DONTNEED)", advice_errors},
        {MADV_HUGEPAGE, "madvise(MADV_HUGEPAGE)", advice_errors},
        {MADV_NOHUGEPAGE, "madvise(MADV_NOHUGEPAGE)", advice_errors},
        {MADV_DONTDUMP, "madvise(MADV_DONTDUMP)", advice_errors},
        {MADV_WIPEONFORK, "madvise(MADV_WIPEONFORK)", advice_errors},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].advice != advice) continue;
        int err = script(known[i].name, known[i].errors, 1);
        if (!err) break;
        if (half && PART(len) > 0) madvise(base, PART(len), advice);
        FAIL(err);
    }
    return madvise(base, len, advice);
}

static int fail_zeropage(int fd, struct uffdio_zeropage *zero, int err) {
    struct uffdio_zeropage part = *zero;
    part.range.len = PART(zero->range.len);
    bool some = half && part.range.len && !ioctl(fd, UFFDIO_ZEROPAGE, &part);
    zero->zeropage = some ? part.zeropage : -err;
    FAIL(some ? EAGAIN : err); /* the kernel says EAGAIN for a part that is done */
}

/* EBUSY says that another userfaultfd watches the memory. Of memory that ours watches the kernel never says so. */
static const int *errors_of_register(int fd, const struct uffdio_register *given) {
    struct uffdio_copy question = {.dst = given->range.start, .len = os_page_size};
    return ioctl(fd, UFFDIO_COPY, &question) && errno == ENOENT ? register_errors : again_errors;
}

int failing_ioctl(int fd, unsigned long request, void *arg) {
    int err = 0;
    bool scan = _IOC_TYPE(request) == 'f' && _IOC_NR(request) == 16, query = _IOC_TYPE(request) == 'f' && _IOC_NR(request) == 17;
    if (old_kernel && (scan || query)) FAIL(ENOTTY);
    if (request == UFFDIO_API) err = script("UFFDIO_API", handshake_errors, 0);
    if (request == UFFDIO_REGISTER) err = script("UFFDIO_REGISTER", errors_of_register(fd, arg), 1);
    if (request == UFFDIO_UNREGISTER) err = script("UFFDIO_UNREGISTER", unregister_errors, 1);
    if (request == UFFDIO_ZEROPAGE) err = script("UFFDIO_ZEROPAGE", zero_errors, 1);
    if (request == UFFDIO_COPY) err = script("UFFDIO_COPY", copy_errors, 0);
    if (scan) err = script("PAGEMAP_SCAN", scan_errors, 0);
    if (query) err = script("PROCMAP_QUERY", query_errors, 0);
    if (!err) return ioctl(fd, request, arg);
    if (err == SHORT) { /* one region, and where the walk ended */
        ((uint64_t *)arg)[6] = 1;
        return ioctl(fd, request, arg);
    }
    if (request == UFFDIO_ZEROPAGE) return fail_zeropage(fd, arg, err);
    if (half && (request == UFFDIO_REGISTER || request == UFFDIO_UNREGISTER)) {
        struct uffdio_register part = {.mode = UFFDIO_REGISTER_MODE_MISSING};
        part.range = *(struct uffdio_range *)arg; /* first in both */
        part.range.len = PART(part.range.len);
        if (part.range.len) ioctl(fd, request, request == UFFDIO_REGISTER ? (void *)&part : (void *)&part.range);
    }
    FAIL(err);
}

void *failing_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    if (!(errno = script("mmap", map_errors, 0))) return mmap(at, len, protection, flags, fd, offset);
    return MAP_FAILED;
}

int failing_munmap(void *base, size_t len) {
    int err = script("munmap", unmap_errors, 0);
    if (err) FAIL(err);
    return munmap(base, len);
}

ssize_t failing_pread(int fd, void *to, size_t n, off_t offset) {
    int err = script("pread(pagemap)", read_errors, 0);
    if (err && err != SHORT) FAIL(err);
    return pread(fd, to, err == SHORT ? 8 : n, offset);
}

long failing_syscall(long number, ...) {
    long args[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) args[i] = va_arg(rest, long);
    va_end(rest);
    int err = 0;
    if (number == SYS_userfaultfd) err = script("userfaultfd", uffd_errors, 0);
    if (number == SYS_mlock2) err = script("mlock2", lock_errors, 1);
    if (number == SYS_munlock) err = script("munlock", unmap_errors, 0);
    if (number == SYS_move_pages) err = script("move_pages", move_errors, 0);
    if (!err) return syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (half && number == SYS_mlock2) {
        syscall(number, args[0], PART((size_t)args[1]), args[2]);
    }
    left_locked = left_locked || number == SYS_munlock;
    FAIL(err);
}

int failing_open(const char *path, int flags, ...) {
    int err = script("open", open_errors, 0);
    if (err) FAIL(err);
    return open(path, flags);
}

int failing_prctl(int option, ...) {
    unsigned long args[4];
    va_list rest;
    va_start(rest, option);
    for (int i = 0; i < 4; i++) args[i] = va_arg(rest, unsigned long);
    va_end(rest);
    int err = script("prctl(PR_SET_VMA)", name_errors, 0);
    if (err) FAIL(err);
    return prctl(option, args[0], args[1], args[2], args[3]);
}

int failing_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    int err = script("sched_getaffinity", affinity_errors, 0);
    if (err) FAIL(err);
    return sched_getaffinity(pid, size, set);
}

int failing_setaffinity(pid_t pid, size_t size, const cpu_set_t *set) {
    int err = script("sched_setaffinity", affinity_errors, 0);
    if (err) FAIL(err);
    return sched_setaffinity(pid, size, set);
}
