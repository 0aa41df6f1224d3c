/* What the shared cache asks of the kernel: mappings of files, the memory of another process, and messages between processes. */
#ifndef MVOLATILE_PLATFORM_SHARED_H
#define MVOLATILE_PLATFORM_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

int os_map_file(int fd, size_t nbytes, bool write, void **base); /* it stays when the descriptor is closed */
void os_unmap_file(void *base, size_t nbytes);
void os_empty_file(void *base, size_t nbytes); /* gives its pages back; it reads as zeros */
double os_boot_seconds(void); /* one clock for all processes of a host, which goes on while the machine sleeps */

/* Copy `nbytes` from `from` in the process to `local`. 0: all of it; EFAULT: a page was missing; ESRCH: there is no such process, or it is
 * dying; EPERM, ENOSYS: refused. A page is copied under a reference of its own, so none is half purged in the copy. */
int os_copy_from(pid_t pid, const struct iovec *local, size_t count, uintptr_t from, size_t nbytes);
/* The same of `count` pieces that lie apart, into one buffer. */
int os_gather_from(pid_t pid, void *local, const struct iovec *pieces, size_t count, size_t nbytes);
int os_let_others_read(void); /* processes of the same user may read this one's memory, also where Yama restricts that; 0 without Yama */

/* A descriptor that the program may close behind our back and open anew for a file of its own: it is used only while it is still the file
 * that was opened, and, but in a free-threaded Python, no thread of Python's runs between the question and the use. */
struct os_channel {
    int fd; /* -1: closed */
    dev_t device;
    ino_t inode;
    pid_t pid; /* of who listened there, as the kernel tells it, in our own pid namespace; 0: not in it */
    uid_t uid;
};
int os_channel_connect(struct os_channel *channel, const char *path);
bool os_channel_is_ours(const struct os_channel *channel);
int os_channel_send(const struct os_channel *channel, const void *data, size_t nbytes, int pass); /* EPIPE: it is over; never waits */
/* `*nbytes`: room, then length; `*passed`: a descriptor that came along, or -1. EAGAIN: nothing yet; EPIPE: it is over. Never waits. */
int os_channel_receive(const struct os_channel *channel, void *data, size_t *nbytes, int *passed);
int os_channel_wait(const struct os_channel *channel, int64_t microseconds); /* -1: for ever. 0, EINTR, ETIMEDOUT */
bool os_channel_is_open(const struct os_channel *channel); /* the other side has not closed it; takes nothing out of it */
void os_channel_close(struct os_channel *channel);
int os_file_make(struct os_channel *file, size_t nbytes); /* a memfd of so many zeros; closed as a channel is */

#endif
