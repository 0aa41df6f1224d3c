/* Copies of large values that the processor who makes them does not read again soon. */
#ifndef MVOLATILE_PLATFORM_STREAM_H
#define MVOLATILE_PLATFORM_STREAM_H

#include <stddef.h>

void stream_copy(void *to, const void *from, size_t nbytes);  /* to memory that somebody reads some day */
void stream_hand_over(void *to, const void *from, size_t nbytes); /* to what another processor reads next */

#endif
