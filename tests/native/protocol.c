/* The protocol without Python, for the sanitizers: one range against an oracle, a page at a time. (Threads that share some: threads.c.)
 *
 * The oracle knows what each page was written with, and whether it was purged since. A page that is not reported lost holds its bytes;
 * only purged pages are reported (faultcount tier: or what was lost beside them). A purge that is not reported shows as a page of zeros.
 *
 * usage: protocol TIER PAGES HUGE SEED ROUNDS    exits 0, or 1 and names the check; 3: no such tier here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/pool.h"
#include "protocol/range.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

static size_t pages;
static bool exact, huge;
static int round_now;

#define CHECK(what)                                                                 \
    do {                                                                            \
        if (!(what)) {                                                              \
            fprintf(stderr, "line %d, round %d: %s\n", __LINE__, round_now, #what); \
            _exit(1);                                                               \
        }                                                                           \
    } while (0)

static _Thread_local uint64_t seed;
static size_t below(size_t limit) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % limit;
}

/* ---- one range --------------------------------------------------------------------------------------------------------------------- */

static struct range *range;
static unsigned char *value, *purged;

static void open_it(void) {
    CHECK(!range_open(pages * os_page_size, huge, true, "protocol", &range));
    memset(value, 0, pages);
    memset(purged, 0, pages);
}

static void close_it(struct range *one) {
    atomic_fetch_add(&one->users, 1);
    CHECK(!range_close(one));
}

static bool holds(const char *page, unsigned char wanted) {
    for (size_t i = 0; i < os_page_size; i += 64)
        if ((unsigned char)page[i] != wanted) return false;
    return (unsigned char)page[os_page_size - 1] == wanted;
}

static void mark_lost(void *context, uintptr_t start, uintptr_t end) {
    bool *lost = context;
    CHECK(start % os_page_size == 0 && end % os_page_size == 0 && start < end && end <= range->nbytes);
    for (size_t page = start / os_page_size; page < end / os_page_size; page++) {
        if (exact) CHECK(purged[page]);
        lost[page] = true;
    }
}

static bool any_purged(size_t from, size_t to) { return memchr(purged + from, 1, to - from) != NULL; }

static void pick(size_t *from, size_t *to) {
    *from = below(pages);
    *to = *from + 1 + below(pages - *from);
}

static void write_some(void) {
    size_t from, to;
    pick(&from, &to);
    unsigned char stamp = (unsigned char)(1 + below(255));
    char *data = malloc((to - from) * os_page_size);
    memset(data, stamp, (to - from) * os_page_size);
    CHECK(!range_write(range, from * os_page_size, (to - from) * os_page_size, data));
    memset(value + from, stamp, to - from);
    memset(purged + from, 0, to - from);
    free(data);
}

static void read_some(void) {
    size_t from, to;
    pick(&from, &to);
    char *data = malloc((to - from) * os_page_size);
    int err = range_read(range, from * os_page_size, (to - from) * os_page_size, data);
    CHECK(!err || err == EFAULT);
    if (err && exact) CHECK(any_purged(from, to));
    for (size_t page = from; !err && page < to; page++) CHECK(holds(data + (page - from) * os_page_size, value[page]));
    free(data);
}

static void verify_pinned(bool accept) {
    bool *lost = calloc(pages, sizeof *lost);
    range_lost(range, 0, range->nbytes, mark_lost, lost);
    for (size_t page = 0; page < pages; page++) CHECK(holds(range->base + page * os_page_size, lost[page] ? 0 : value[page]));
    if (accept) range_forgive(range, 0, range->nbytes);
    for (size_t page = 0; page < pages && accept; page++) {
        if (lost[page]) value[page] = 0;
        purged[page] = 0; /* what was purged and held nothing is not reported */
    }
    free(lost);
}

static void pin_it(void) {
    bool write = below(2);
    CHECK(!range_pin(range, write));
    verify_pinned(below(2) || write);
    size_t bytes;
    CHECK(range_purge(range, 0, range->nbytes, &bytes) == EDEADLK);
    if (below(2)) {
        CHECK(!range_pin(range, false));
        verify_pinned(false);
        range_unpin(range, false);
    }
    if (write) {
        size_t page = below(pages);
        value[page] = (unsigned char)(1 + below(255));
        memset(range->base + page * os_page_size, value[page], os_page_size);
    }
    range_unpin(range, write);
}

static void purge_some(void) {
    size_t from, to, bytes;
    pick(&from, &to);
    CHECK(!range_purge(range, from * os_page_size, (to - from) * os_page_size, &bytes));
    CHECK(bytes <= (to - from) * os_page_size);
    if (bytes) memset(purged + from, 1, to - from);
}

static void peek_some(void) {
    size_t from, to;
    pick(&from, &to);
    struct peek peek;
    size_t offset = from * os_page_size, length = (to - from) * os_page_size;
    enum peek_verdict verdict = range_peek_begin(&peek, range, offset, length);
    if (verdict == PEEK_UNSURE) verdict = range_peek_begin_carefully(&peek, range, offset, length);
    CHECK(verdict == PEEK_WHOLE || verdict == PEEK_LOST);
    if (verdict == PEEK_LOST) {
        CHECK(any_purged(from, to));
        return;
    }
    if (below(2)) purge_some();
    bool same = true;
    for (size_t page = from; page < to; page++) same &= holds(range->base + page * os_page_size, value[page]);
    CHECK(range_close(range) == EBUSY); /* not counted in `users`, but peeked at */
    verdict = range_peek_end(&peek);
    if (verdict == PEEK_UNSURE) verdict = range_peek_end_carefully(&peek);
    CHECK(verdict != PEEK_OVERWRITTEN && verdict != PEEK_UNSURE);
    CHECK(same || verdict == PEEK_LOST);
    if (verdict == PEEK_LOST) CHECK(any_purged(from, to));
}

static void survey_it(void) {
    bool *lost = calloc(pages, sizeof *lost);
    uint64_t before = range->generation;
    CHECK(!range_survey(range));
    uint64_t after = range_lost(range, 0, range->nbytes, mark_lost, lost);
    CHECK(after >= before && after <= before + 2);
    free(lost);
}

static void fork_it(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        CHECK(!range_pin(range, false));
        verify_pinned(true);
        range_unpin(range, false);
        CHECK(range_is_valid(range));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void one_range(int rounds) {
    open_it();
    for (round_now = 0; round_now < rounds; round_now++) {
        switch (below(16)) {
        case 0:
        case 1:
        case 2:
        case 3: write_some(); break;
        case 4:
        case 5: read_some(); break;
        case 6:
        case 7: pin_it(); break;
        case 8:
        case 9:
        case 10: purge_some(); break;
        case 11:
        case 12:
            if (exact) peek_some();
            break;
        case 13: survey_it(); break;
        case 14:
            if (!below(8)) fork_it();
            break;
        default:
            if (below(8)) break;
            close_it(range);
            open_it();
        }
        CHECK(range_is_valid(range));
    }
    close_it(range);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    enum os_tier tier = strcmp(argv[1], "userfaultfd") ? OS_TIER_FAULTCOUNT : OS_TIER_USERFAULTFD;
    if (range_init(tier) || range_tier != tier) return 3;
    exact = tier == OS_TIER_USERFAULTFD;
    pages = (size_t)atoi(argv[2]);
    huge = atoi(argv[3]);
    seed = strtoull(argv[4], NULL, 10) * 2654435761u + 1;
    watch_init();
    if (exact) trap_ensure();
    value = calloc(pages, 1);
    purged = calloc(pages, 1);
    one_range(atoi(argv[5]));
    free(value);
    free(purged);
    return 0;
}
