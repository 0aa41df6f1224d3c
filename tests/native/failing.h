/* The script: which call fails, with what, and whether after doing half of its work. */
#define MOST 32768
#define IN_CHILD MOST /* the calls of a forked child are numbered from here: it and its parent run at once */

static struct call {
    const char *name, *step; /* of the program: every process has it at the same place */
    const int *errors;
    int halves;
} *recorded; /* shared, as the next */
static int *reached;

static bool left_locked; /* munlock(2) failed: the program finds its memory locked, and has to unlock it itself */
static bool recording, suspended; /* suspended: calls of the check itself */
static int calls, target = -1, failure, half;

/* 0: go on; else the errno to fail with. */
static int script(const char *name, const int *errors, int halves) {
    if (suspended) return 0;
    if (recording && calls < 2 * MOST) recorded[calls] = (struct call){name, step, errors, halves};
    if (calls++ != target) return 0;
    *reached = 1;
    return failure;
}

static void stop_failing(void) {
    target = -1;
    recording = false;
}

#define LIST(name, ...) static const int name[] = {__VA_ARGS__, 0}
