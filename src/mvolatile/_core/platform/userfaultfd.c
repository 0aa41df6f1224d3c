/* Watching: a missing page in memory that a userfaultfd watches traps, instead of being filled. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform/parts.h"

/* Newer than the headers this may be built against. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define FLAGS (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)

static struct own uffd = NO_DESCRIPTOR;
_Atomic bool os_watch_ended;

static int call(int fd, unsigned long request, void *arg) { return ioctl(fd, request, arg) ? errno : 0; }

/* EBADF: it is not ours any more. Another's userfaultfd would watch our memory, and let whoever touches it wait for ever. */
static int call_own(unsigned long request, void *arg) {
    int fd = own_fd(&uffd);
    return fd < 0 ? EBADF : call(fd, request, arg);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

/* Where a profile refuses the system call, and a device plugin or a udev rule gives the process the device (Linux 6.1). */
static int new_by_device(void) {
    struct own device = NO_DESCRIPTOR;
    int opened = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;
    own_keep(&device, opened);
    note(&os_probe.userfaultfd_device, errno_of(opened));
    if (opened < 0) return -1;
    fd = ioctl(opened, USERFAULTFD_IOC_NEW, FLAGS);
    note(&os_probe.userfaultfd_device, errno_of(fd));
    own_close(&device);
    return fd;
}

static int new_descriptor(void) {
    int fd = (int)syscall(SYS_userfaultfd, FLAGS), err = errno_of(fd);
    if (err && !passes(err)) {
        fd = new_by_device();
        if (fd >= 0)
            err = 0;
        else if (passes(os_probe.userfaultfd_device))
            err = os_probe.userfaultfd_device;
    }
    note(&os_probe.userfaultfd, err);
    return fd;
}

bool open_userfaultfd(void) {
    for (;;) {
        int fd = new_descriptor();
        if (fd < 0) return false;
        own_keep(&uffd, fd);
        struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
        int err = call_own(UFFDIO_API, &api);
        if (err && own_fd(&uffd) != fd) continue; /* the program has closed this one, too */
        note(&os_probe.uffd_sigbus, err);
        if (err == ENOTTY) uffd.fd = -1; /* closed before it was known by its inode: the program's, not to be closed */
        if (err) own_close(&uffd);
        return !err;
    }
}

void os_stop_watching(void) { own_close(&uffd); }

bool os_watch_is_open(void) { return own_fd(&uffd) >= 0; }

/* Nobody sleeps, so waking does nothing. A second handshake would tell as well, by its refusal, but for the bad schedule: the number is by now
 * that of a new userfaultfd, which another thread is just opening, and this would be its first handshake, without our features. */
bool os_watching(void) {
    struct uffdio_range here = {(uintptr_t)&uffd & ~(os_page_size - 1), os_page_size};
    return !call_own(UFFDIO_WAKE, &here);
}

/* ---- watching --------------------------------------------------------------------------------------------------------------------- */

static int watch_by(int fd, char *base, size_t len) {
    struct uffdio_register arg = {.range = {(uintptr_t)base, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    return fd < 0 ? EBADF : call(fd, UFFDIO_REGISTER, &arg);
}

int os_watch(char *base, size_t len) { return watch_by(own_fd(&uffd), base, len); }

int os_unwatch(char *base, size_t len) {
    struct uffdio_range arg = {(uintptr_t)base, len};
    return call(uffd.fd, UFFDIO_UNREGISTER, &arg); /* where it is another's, ours watches nothing any more */
}

/* close() frees the number first and lets go of the memory at its end, and the thread that called it may stand in between; a child on its way to
 * exec() that has a copy keeps the memory watched until it gets there. */
static bool wait_for_close(int *waits) {
    (void)syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 1000000}, NULL); /* libc's may end here a thread that was cancelled, in the trap */
    return ++*waits < 1000;
}

int os_watch_again(char *base, size_t len) {
    int err, waits = 0;
    do err = os_watch(base, len);
    while (err == EBUSY && wait_for_close(&waits));
    return err;
}

/* The bad schedule of a sandbox that came late and refuses ioctl(2): the memory is watched still, nobody can fill it, and a peek or a hold that
 * touches what is lost would be killed. So the watch ends here, for all; peeks learn it from os_watch_ended. */
int os_fill_unwatched(char *base, size_t len) {
    int err, waits = 0;
    while ((err = os_populate_read(base, len)) == EFAULT) {
        if (os_watching()) return EAGAIN;
        if (os_watch_is_open()) {
            atomic_store(&os_watch_ended, true); /* before it ends: who reads zeros afterwards looks here at its end */
            os_stop_watching();
        } else if (!wait_for_close(&waits)) {
            break;
        }
    }
    return err;
}

bool os_is_watched(char *page) {
    struct uffdio_copy arg = {.dst = (uintptr_t)page, .src = 0, .len = os_page_size, .mode = UFFDIO_COPY_MODE_DONTWAKE};
    int err, fd = own_fd(&uffd); /* nothing is mapped at 0, so nothing is copied; that the mapping is not watched is found first */
    if (fd < 0) return true; /* nobody can tell; who watches again finds out */
    do err = call(fd, UFFDIO_COPY, &arg);
    while (err == EAGAIN || err == EINTR);
    if (err == ENOENT) return false;
    return watch_by(fd, page, os_page_size) != EBUSY; /* some userfaultfd watches it: another than ours says so here, ours changes nothing */
}

int os_zero(char *base, size_t len, size_t *done) {
    *done = 0;
    while (*done < len) {
        struct uffdio_zeropage arg = {
            .range = {(uintptr_t)base + *done, len - *done},
            .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE,
        };
        int err = call_own(UFFDIO_ZEROPAGE, &arg);
        if (arg.zeropage > 0) *done += (size_t)arg.zeropage;
        if (err && err != EAGAIN && err != EINTR) return err;
        if (err) os_pause(); /* EAGAIN: the mappings are changing (fork, mmap), or a part is done */
    }
    return 0;
}

int os_copy(char *base, const char *from, size_t len, size_t *done) {
    *done = 0;
    while (*done < len) {
        struct uffdio_copy arg = {
            .dst = (uintptr_t)base + *done,
            .src = (uintptr_t)from + *done,
            .len = len - *done,
            .mode = UFFDIO_COPY_MODE_DONTWAKE,
        };
        int err = call_own(UFFDIO_COPY, &arg);
        if (arg.copy > 0) *done += (size_t)arg.copy;
        if (err && err != EAGAIN && err != EINTR) return err;
        if (err) os_pause(); /* as above */
    }
    return 0;
}
