/* extents.c for Python: with a switch that lets the heap run dry. */
#include <stdbool.h>
#include <stdlib.h>

static bool dry;

static void *realloc_or_not(void *old, size_t size) { return dry ? NULL : (realloc)(old, size); }
#define realloc realloc_or_not

#include "protocol/extents.c"

void run_dry(bool value) { dry = value; }
