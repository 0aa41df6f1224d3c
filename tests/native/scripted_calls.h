/* Put before the files of the system layer (platform/): their system calls go to failing_calls.h, which lets one of them fail. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int failing_madvise(void *base, size_t len, int advice);
int failing_ioctl(int fd, unsigned long request, void *arg);
void *failing_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int failing_munmap(void *base, size_t len);
ssize_t failing_pread(int fd, void *to, size_t n, off_t offset);
long failing_syscall(long number, ...);
int failing_open(const char *path, int flags, ...); /* none creates a file here */
int failing_prctl(int option, ...);
int failing_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int failing_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);

#define madvise failing_madvise
#define ioctl failing_ioctl
#define mmap failing_mmap
#define munmap failing_munmap
#define pread failing_pread
#define syscall failing_syscall
#define open failing_open
#define prctl failing_prctl
#define sched_getaffinity failing_getaffinity
#define sched_setaffinity failing_setaffinity
