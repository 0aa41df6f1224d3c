/* A file written anew, by a thread with a descriptor table of its own: beside a program that closes all descriptors and opens its own files, what was
 * written by number might land in one of those. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/apart.h"
#include "platform/parts.h"

struct writing {
    const char *path, *beside, *text;
    int err;
    _Atomic uint32_t over;
};

static int write_beside(const struct writing *this) {
    int fd = open(this->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    int err = errno_of(fd);
    for (const char *rest = this->text; !err && *rest;) {
        ssize_t written = write(fd, rest, strlen(rest));
        if (written < 0) err = errno;
        if (written > 0) rest += written;
    }
    if (fd >= 0) close(fd);
    return err;
}

static void write_apart(void *context) {
    struct writing *this = context;
    this->err = os_own_table();
    if (!this->err) {
        this->err = write_beside(this);
        if (!this->err && rename(this->beside, this->path)) this->err = errno;
        if (this->err) unlink(this->beside);
    }
    atomic_store(&this->over, 1);
    os_wake(&this->over); /* nobody may sleep there any more, which is no harm */
}

int os_replace(const char *path, const char *beside, const char *text) {
    struct writing this = {path, beside, text, 0, 0};
    int err = os_apart(write_apart, &this);
    while (!err && !atomic_load(&this.over)) (void)os_sleep_while(&this.over, 0, -1);
    return err ? err : this.err;
}
