/* What a range may hold and report while calls fail, told by what was written and purged: for faults.c. */

static size_t pages;
static bool exact;
static unsigned char *stamp; /* what each page holds; 0: nothing but zeros */
static int had_descriptors;
static bool *purged;         /* pages that reclaim was asked to take since they were last written */

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "at '%s': %s (line %d)\n", step, #condition, __LINE__); \
            _exit(1);                                                               \
        }                                                                           \
    } while (0)

static void gather(void *context, uintptr_t start, uintptr_t end) { extents_add(context, start, end); }

static bool holds(const char *page, unsigned char value) {
    for (size_t i = 0; i < os_page_size; i++)
        if ((unsigned char)page[i] != value) return false;
    return true;
}

/* The caller holds the range: every page is whole, or reported and zero. */
static void check_held(struct range *range) {
    struct extents lost;
    extents_init(&lost);
    range_lost(range, 0, range->nbytes, gather, &lost);
    for (size_t i = 0; i < pages; i++) {
        size_t at = i * os_page_size;
        bool reported = extents_overlap(&lost, at, at + os_page_size);
        if (reported) {
            CHECK(holds(range->base + at, 0));
            CHECK(!exact || purged[i]);
        } else {
            CHECK(holds(range->base + at, stamp[i]));
        }
    }
    extents_clear(&lost);
    CHECK(range_is_valid(range));
}

static void fill(struct range *range, unsigned char first) {
    for (size_t i = 0; i < pages; i++) {
        stamp[i] = (unsigned char)(first + i % 100);
        purged[i] = false;
        memset(range->base + i * os_page_size, stamp[i], os_page_size);
    }
    range_forgive(range, 0, range->nbytes);
}

static void purge(struct range *range, size_t first, size_t count) {
    size_t bytes;
    if (range_purge(range, first * os_page_size, count * os_page_size, &bytes) && !range->marked) return;
    for (size_t i = 0; i < pages; i++)
        if (range->huge || (i >= first && i < first + count)) purged[i] = purged[i] || stamp[i];
}

static void peek_all(struct range *range) {
    struct peek peek;
    bool right = true;
    if (!exact && range_pin(range, false)) return; /* where nothing traps, a peek is a pin */
    enum peek_verdict verdict = range_peek_begin(&peek, range, 0, range->nbytes);
    if (verdict == PEEK_UNSURE) verdict = range_peek_begin_carefully(&peek, range, 0, range->nbytes);
    bool opened = verdict == PEEK_WHOLE;
    for (size_t i = 0; i < pages && opened; i++) right = holds(range->base + i * os_page_size, stamp[i]) && right;
    if (opened) verdict = range_peek_end(&peek);
    if (opened && verdict == PEEK_UNSURE) verdict = range_peek_end_carefully(&peek);
    CHECK(right || verdict != PEEK_WHOLE);
    if (!exact) range_unpin(range, false);
}

static void read_all(struct range *range) {
    char *copy = malloc(range->nbytes);
    if (!range_read(range, 0, range->nbytes, copy))
        for (size_t i = 0; i < pages; i++) CHECK(holds(copy + i * os_page_size, stamp[i]));
    free(copy);
}

static void pin_and_check(struct range *range) {
    if (range_pin(range, false)) return;
    check_held(range);
    range_unpin(range, false);
}

static void in_child(struct range *range) {
    int here = calls;
    calls = IN_CHILD;
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        step = "in the child";
        exact = exact && range_tier == OS_TIER_USERFAULTFD;
        pin_and_check(range);
        stop_failing(); /* and with nothing failing any more, a pin must succeed */
        CHECK(!range_pin(range, false));
        check_held(range);
        _exit(0);
    }
    calls = here;
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
}
