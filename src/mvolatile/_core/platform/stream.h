/* A copy that the processor who makes it does not read again soon: a large value for another process, or a record for who asks some day. */
#ifndef MVOLATILE_PLATFORM_STREAM_H
#define MVOLATILE_PLATFORM_STREAM_H

#include <stddef.h>

void stream_copy(void *to, const void *from, size_t nbytes);

#endif
