/* The shared cache's part of the system layer. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "platform/parts.h"
#include "platform/shared.h"

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

int os_map_file(int fd, size_t nbytes, bool write, void **base) {
    *base = mmap(NULL, nbytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    return *base == MAP_FAILED ? errno : 0;
}

void os_unmap_file(void *base, size_t nbytes) { (void)munmap(base, nbytes); }

void os_empty_file(void *base, size_t nbytes) { (void)madvise(base, nbytes, MADV_REMOVE); }

double os_boot_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- another's memory ------------------------------------------------------------------------------------------------------------- */

/* Our own memory where the call is refused: write(2) answers EFAULT at a missing page, as the call does, and makes no trap. */
static int copy_own_by_pipe(const struct iovec *local, size_t count, uintptr_t from, size_t nbytes) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return errno;
    int err = 0;
    size_t in = 0, piece = 0, at = 0; /* of `nbytes`; of `local` */
    while (!err && in < nbytes) {
        size_t part = nbytes - in < 4096 ? nbytes - in : 4096; /* what a pipe takes at once, whatever its size */
        ssize_t put = write(ends[1], (const void *)(from + in), part);
        if (put != (ssize_t)part) err = put < 0 ? errno : EFAULT;
        for (size_t out = 0; !err && out < part;) {
            while (piece < count && at == local[piece].iov_len) piece++, at = 0;
            size_t room = piece < count ? local[piece].iov_len - at : 0;
            ssize_t got = read(ends[0], (char *)local[piece].iov_base + at, room < part - out ? room : part - out);
            if (got <= 0) err = got < 0 ? errno : EFAULT;
            else out += (size_t)got, at += (size_t)got;
        }
        in += part;
    }
    close(ends[0]);
    close(ends[1]);
    return err;
}

static bool refused(int err) { return err == EPERM || err == ENOSYS || err == EACCES; }

int os_copy_from(pid_t pid, const struct iovec *local, size_t count, uintptr_t from, size_t nbytes) {
    struct iovec remote = {(void *)from, nbytes};
    ssize_t copied = process_vm_readv(pid, local, count, &remote, 1, 0);
    if (copied == (ssize_t)nbytes) return 0;
    int err = copied < 0 ? errno : EFAULT;
    return refused(err) && pid == getpid() ? copy_own_by_pipe(local, count, from, nbytes) : err;
}

int os_gather_from(pid_t pid, void *local, const struct iovec *pieces, size_t count, size_t nbytes) {
    struct iovec whole = {local, nbytes};
    ssize_t copied = process_vm_readv(pid, &whole, 1, pieces, count, 0);
    if (copied == (ssize_t)nbytes) return 0;
    int err = copied < 0 ? errno : EFAULT;
    if (!refused(err) || pid != getpid()) return err;
    char *to = local;
    for (err = 0; !err && count--; to += pieces->iov_len, pieces++) {
        struct iovec part = {to, pieces->iov_len};
        err = copy_own_by_pipe(&part, 1, (uintptr_t)pieces->iov_base, pieces->iov_len);
    }
    return err;
}

int os_let_others_read(void) {
    if (!prctl(PR_SET_PTRACER, -1L, 0, 0, 0) || errno == EINVAL) return 0; /* EINVAL: a kernel without Yama */
    return errno;
}

/* ---- messages --------------------------------------------------------------------------------------------------------------------- */

int os_channel_connect(struct os_channel *channel, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    channel->fd = -1;
    if (length >= sizeof address.sun_path) return ENAMETOOLONG;
    memcpy(address.sun_path, path, length);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno;
    struct ucred peer;
    socklen_t size = sizeof peer;
    struct stat file;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
        fstat(fd, &file)) {
        int err = errno;
        close(fd);
        return err;
    }
    *channel = (struct os_channel){fd, file.st_dev, file.st_ino, peer.pid, peer.uid};
    return 0;
}

bool os_channel_is_ours(const struct os_channel *channel) {
    struct stat file;
    return channel->fd >= 0 && !fstat(channel->fd, &file) && file.st_dev == channel->device && file.st_ino == channel->inode;
}

static bool nothing_yet(int err) { return err == EAGAIN || err == EWOULDBLOCK; }

int os_channel_send(const struct os_channel *channel, const void *data, size_t nbytes, int pass) {
    if (!os_channel_is_ours(channel)) return EPIPE;
    struct iovec whole = {(void *)(uintptr_t)data, nbytes};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &pass, sizeof pass);
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    if (pass >= 0) message.msg_control = &control, message.msg_controllen = sizeof control;
    ssize_t sent;
    do sent = sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) return 0;
    return nothing_yet(errno) ? EAGAIN : errno == EBADF || errno == ECONNRESET ? EPIPE
                                                                               : errno;
}

int os_channel_receive(const struct os_channel *channel, void *data, size_t *nbytes, int *passed) {
    *passed = -1;
    if (!os_channel_is_ours(channel)) return EPIPE;
    struct iovec whole = {data, *nbytes};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    do got = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return nothing_yet(errno) ? EAGAIN : EPIPE;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) memcpy(passed, CMSG_DATA(header), sizeof *passed);
    *nbytes = (size_t)got;
    return got && !(message.msg_flags & MSG_TRUNC) ? 0 : EPIPE; /* no message of ours is empty */
}

int os_channel_wait(const struct os_channel *channel, int64_t microseconds) {
    struct pollfd one = {.fd = channel->fd, .events = POLLIN};
    struct timespec patience = {microseconds / 1000000, microseconds % 1000000 * 1000};
    int ready = ppoll(&one, 1, microseconds < 0 ? NULL : &patience, NULL);
    return ready > 0 ? 0 : ready < 0 ? errno
                                     : ETIMEDOUT;
}

bool os_channel_is_open(const struct os_channel *channel) {
    char byte;
    if (!os_channel_is_ours(channel)) return false;
    ssize_t got = recv(channel->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && (nothing_yet(errno) || errno == EINTR));
}

void os_channel_close(struct os_channel *channel) {
    if (os_channel_is_ours(channel)) close(channel->fd);
    channel->fd = -1;
}

int os_file_make(struct os_channel *file, size_t nbytes) {
    file->fd = -1;
    int fd = memfd_create("mvolatile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return errno;
    struct stat status;
    if (ftruncate(fd, (off_t)nbytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) || fstat(fd, &status)) {
        int err = errno;
        close(fd);
        return err;
    }
    *file = (struct os_channel){fd, status.st_dev, status.st_ino, 0, 0};
    return 0;
}
