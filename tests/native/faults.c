/* Every system call fails once. One program uses a range in every way; it is run again for each call it makes to the system layer, each
 * error that this call can give, without effect and half done. Whatever fails, no report may be wrong: a page that is not reported lost
 * holds its bytes, and (userfaultfd tier) only pages that were purged are reported.
 *
 * usage: faults TIER PAGES HUGE    prints the number of (call, error, extent) runs; exits 1 and names the run that went wrong. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"
#include "range.h"
#include "raw.h"
#include "trap.h"
#include "watch.h"

/* ---- the scripted layer ----------------------------------------------------------------------------------------------------------- */

static int calls, target = -1, failure, half; /* the call that fails, how, and whether after doing half of its work */
static const char *target_name = "";
static const int *target_errors;
static int target_halves;

/* 0: go on; else the errno to fail with. */
static int script(const char *name, const int *errors, int halves) {
    if (target < 0 && target != -2) return 0;
    if (calls++ != target) return 0;
    target_name = name;
    target_errors = errors;
    target_halves = halves;
    return failure;
}

#define LIST(name, ...) static const int name[] = {__VA_ARGS__, 0}
LIST(no_memory, ENOMEM);
LIST(advice_errors, ENOMEM, EINVAL);
LIST(populate_errors, EFAULT, ENOMEM, EINTR, EHWPOISON);
LIST(watch_errors, ENOMEM, EBUSY, EINVAL);
LIST(zero_errors, ENOMEM);
LIST(scan_errors, EBADF, EIO);
LIST(lock_errors, EPERM, ENOMEM);
LIST(check_errors, EIO, ENOMEM);
LIST(yes, 1);

#define HALVED(real, base, len)                                              \
    do {                                                                     \
        if (half && (len) / 2 / os_page_size) real(base, (len) / 2 / os_page_size * os_page_size); \
    } while (0)
#define ADVICE(call, real, errors)                    \
    int call(char *base, size_t len) {                \
        int err = script(#real, errors, 1);           \
        if (!err) return real(base, len);             \
        HALVED(real, base, len);                      \
        return err;                                   \
    }
ADVICE(scripted_free_lazily, os_free_lazily, advice_errors)
ADVICE(scripted_populate_write, os_populate_write, populate_errors)
ADVICE(scripted_populate_read, os_populate_read, populate_errors)
ADVICE(scripted_pageout, os_pageout, advice_errors)
ADVICE(scripted_discard, os_discard, advice_errors)
ADVICE(scripted_watch, os_watch, watch_errors)
ADVICE(scripted_unwatch, os_unwatch, watch_errors)
ADVICE(scripted_hold_resident, os_hold_resident, lock_errors)

int scripted_reserve(size_t len, size_t align, char **out) {
    int err = script("os_reserve", no_memory, 0);
    return err ? err : os_reserve(len, align, out);
}

int scripted_release(char *base, size_t len) { return os_release(base, len); }

int scripted_zero(char *base, size_t len, size_t *done) {
    int err = script("os_zero", zero_errors, 1);
    if (!err) return os_zero(base, len, done);
    *done = 0;
    size_t part = half ? len / 2 / os_page_size * os_page_size : 0;
    if (part) os_zero(base, part, done);
    return err;
}

int scripted_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    int err = script("os_scan", scan_errors, 1);
    if (!err) return os_scan(class, start, end, found, context);
    size_t part = half ? (end - start) / 2 / os_page_size * os_page_size : 0;
    if (part) os_scan(class, start, start + part, found, context);
    return err;
}

bool scripted_watching(void) { return os_watching(); }

int scripted_check_anonymous(uintptr_t start, uintptr_t end, os_found *mapped, void *context) {
    int err = script("os_check_anonymous", check_errors, 0);
    return err ? err : os_check_anonymous(start, end, mapped, context);
}

long scripted_minor_faults(void) { return os_minor_faults() + script("os_minor_faults", yes, 0); }

/* ---- the oracle ------------------------------------------------------------------------------------------------------------------- */

static size_t pages;
static bool exact;
static unsigned char *stamp; /* what each page holds; 0: nothing but zeros */
static bool *purged;         /* pages that reclaim was asked to take since they were last written */
static const char *step = "start";

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "at '%s': %s (line %d)\n", step, #condition, __LINE__);             \
            _exit(1);                                                                           \
        }                                                                                       \
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
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        step = "in the child";
        pin_and_check(range);
        target = -1; /* and with nothing failing any more, a pin must succeed */
        CHECK(!range_pin(range, false));
        check_held(range);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
}

static void raw_program(void) {
    size_t len = 8 * os_page_size;
    char *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int lost;
    memset(area, 7, len / 2); /* the other half is never written */
    step = "raw mark";
    int err = raw_mvolatile((uintptr_t)area, len, MVOLATILE_VOLATILE, 0, &lost);
    os_pageout(area + os_page_size, os_page_size);
    if (err) { /* nothing changed */
        for (int i = 0; i < 4; i++) CHECK(holds(area + i * os_page_size, 7));
        CHECK(holds(area + 4 * os_page_size, 0));
    }
    step = "raw unmark";
    int reported = 0;
    for (int tries = 0; tries < 2; tries++) {
        err = raw_mvolatile((uintptr_t)area, len, MVOLATILE_NONVOLATILE, 0, &lost);
        reported |= !err && lost;
        if (!err) break;
        target = -1;
    }
    CHECK(!err);
    bool whole = true;
    for (int i = 0; i < 4; i++) whole = whole && holds(area + i * os_page_size, 7);
    CHECK(holds(area + 4 * os_page_size, 0));
    CHECK(whole || reported);
    CHECK(!exact || whole == !reported);
    munmap(area, len);
}

static void program(bool huge) {
    struct range *range;
    step = "open";
    if (range_open(pages * os_page_size, huge, true, "faults", &range)) return raw_program();
    atomic_fetch_add(&range->users, 1);
    memset(stamp, 0, pages);
    step = "first fill";
    if (!range_pin(range, true)) {
        fill(range, 1);
        range_unpin(range, true);
    }
    step = "purge two pages";
    purge(range, 1, 2);
    step = "peek";
    peek_all(range);
    step = "read";
    read_all(range);
    step = "survey";
    range_survey(range);
    step = "pin";
    pin_and_check(range);
    step = "write";
    char *page = malloc(os_page_size);
    memset(page, 200, os_page_size);
    if (!range_write(range, os_page_size, os_page_size, page)) stamp[1] = 200, purged[1] = false;
    free(page);
    step = "read after write";
    read_all(range);
    step = "fork";
    in_child(range);
    step = "purge all";
    purge(range, 0, pages);
    step = "pin after all is gone";
    pin_and_check(range);
    step = "refill";
    if (!range_pin(range, true)) {
        fill(range, 101);
        range_unpin(range, true);
    }
    step = "purge a page again";
    purge(range, 0, 1);
    pin_and_check(range);
    raw_program();
    step = "afterwards";
    target = -1;
    CHECK(!range_pin(range, true));
    check_held(range);
    fill(range, 50);
    range_unpin(range, true);
    pin_and_check(range);
    CHECK(!range_close(range));
}

/* ---- the runs --------------------------------------------------------------------------------------------------------------------- */

/* What a run says of the call that failed: its errors, or none when the program makes fewer calls. */
struct told {
    char name[32];
    int errors[8], halves, reached;
};

static int run(struct told *told, int call, int error, int halved, bool huge) {
    told->reached = 0;
    pid_t child = fork();
    if (!child) {
        alarm(20);
        target = call;
        failure = error;
        half = halved;
        program(huge);
        told->reached = *target_name != 0;
        snprintf(told->name, sizeof told->name, "%s", target_name);
        for (int i = 0; target_errors && (i < 8); i++)
            if (!(told->errors[i] = target_errors[i])) break;
        told->halves = target_halves;
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    bool huge = atoi(argv[3]);
    pages = (size_t)atoi(argv[2]);
    enum os_tier tier = strcmp(argv[1], "userfaultfd") ? OS_TIER_FAULTCOUNT : OS_TIER_USERFAULTFD;
    if (range_init(tier) != tier) return 3;
    exact = tier == OS_TIER_USERFAULTFD;
    watch_init();
    if (exact) trap_ensure();
    stamp = calloc(pages, 1);
    purged = calloc(pages, sizeof *purged);
    struct told *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int runs = 0, wrong = 0;
    for (int call = 0;; call++) {
        struct told first;
        int status = run(told, call, 0, 0, huge); /* which call is this? */
        first = *told;
        if (status) {
            fprintf(stderr, "without any failure: status %d\n", status);
            return 1;
        }
        if (!first.reached) break;
        for (int i = 0; first.errors[i]; i++)
            for (int halved = 0; halved <= first.halves; halved++, runs++) {
                status = run(told, call, first.errors[i], halved, huge);
                if (!status) continue;
                wrong++;
                fprintf(stderr, "call %d, %s fails with '%s'%s: status %d\n", call, first.name, strerror(first.errors[i]),
                        halved ? " half way" : "", status);
            }
    }
    printf("%d\n", runs);
    return wrong > 0;
}
