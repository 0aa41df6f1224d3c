/* The memory of other processes, given back for them. */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "platform/parts.h"
#include "platform/os.h"

#ifndef SYS_process_madvise
#define SYS_process_madvise 440 /* on every architecture */
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

int os_pageout_of(int pidfd, uintptr_t start, size_t len) {
    while (len) {
        struct iovec range = {(void *)start, len};
        ssize_t done = syscall(SYS_process_madvise, pidfd, &range, (size_t)1, MADV_PAGEOUT, 0U);
        if (done < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        if (!done) return EFAULT;
        start += (size_t)done;
        len -= (size_t)done;
    }
    return 0;
}
