/* Descriptors that are ours, beside a program that may close any; and the text of a file by one. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/parts.h"

bool passes(int err) { return err == EMFILE || err == ENFILE; }

/* The call itself: glibc's fstat() walks a path, which costs more. */
static bool is_ours(struct own *own, int fd) {
    struct stat now;
    return fd >= 0 && !syscall(SYS_fstat, fd, &now) && now.st_ino == own->inode && now.st_dev == own->device;
}

int own_fd(struct own *own) {
    int fd = own->fd;
    return is_ours(own, fd) ? fd : -1;
}

/* The number last: who reads the old one with the new inode is told that it is not ours, and asks again where others are kept out. */
void own_keep(struct own *own, int fd) {
    struct stat opened;
    own->openings++;
    own->fd = -1;
    if (fd < 0 || syscall(SYS_fstat, fd, &opened)) return;
    own->device = opened.st_dev;
    own->inode = opened.st_ino;
    own->fd = fd;
}

void own_close(struct own *own) {
    int fd = atomic_exchange(&own->fd, -1); /* of two who close, one has it: the other would close what has got the number since */
    if (is_ours(own, fd)) close(fd);
}

static int read_all(struct own *file, char **text, size_t *length) {
    size_t room = 4096;
    *length = 0;
    for (;;) {
        char *larger = *length + 1 < room ? *text : realloc(*text, room *= 2);
        int fd = own_fd(file);
        if (!larger) return ENOMEM;
        *text = larger;
        ssize_t got = fd < 0 ? -1 : read(fd, *text + *length, room - 1 - *length);
        int err = got < 0 ? errno : 0;
        if (fd < 0 || own_fd(file) != fd) return EBADF;
        if (err && err != EINTR) return err;
        if (!got) return 0;
        if (got > 0) *length += (size_t)got;
    }
}

int os_read(const char *path, char **text, size_t *length) {
    int err = EBADF;
    if (!(*text = malloc(4096))) return ENOMEM;
    for (int tries = 0; err == EBADF && tries < 10; tries++) {
        struct own file = NO_DESCRIPTOR;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        err = errno_of(fd);
        own_keep(&file, fd);
        if (!err) err = read_all(&file, text, length);
        own_close(&file);
    }
    if (err)
        free(*text);
    else
        (*text)[*length] = 0;
    return err;
}
