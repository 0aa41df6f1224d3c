/* Every system call fails once. One program uses a range in every way; it is run again for each call it makes, each error that this call can
 * give, without effect and half done. Whatever fails, no report may be wrong: a page that is not reported lost holds its bytes, and
 * (userfaultfd tier) only pages that were purged are reported. And no descriptor may be left open.
 *
 * Two builds: calls to the system layer fail (failing_layer.h), or, with SYSTEM_CALLS, those that it makes to the kernel (failing_calls.h).
 *
 * usage: faults TIER PAGES HUGE [old]    prints the number of runs, and of different (operation, call, error) among them, and these, a line
 * each; exits 1 and names the run that went wrong; 3: no such tier here. `old`: without PAGEMAP_SCAN (6.7) and PROCMAP_QUERY (6.11), which
 * only SYSTEM_CALLS hides. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/pool.h"
#include "protocol/range.h"
#include "protocol/raw.h"
#include "protocol/spare.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

static const char *step = "start";

#ifdef SYSTEM_CALLS
#include "failing_calls.h"
#else
#include "failing_layer.h"
#endif

#include "oracle.h"

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
    int reported = 0;
    size_t part = 2 * os_page_size; /* in the middle: what is marked is split, and put together again */
    step = "raw unmark of a part";
    if (!raw_mvolatile((uintptr_t)area + part, part, MVOLATILE_NONVOLATILE, 0, &lost)) {
        CHECK(!exact || !lost);
        reported |= lost;
        os_pageout(area + part, part);
        for (int i = 2; i < 4; i++) CHECK(lost || holds(area + i * os_page_size, 7));
    }
    step = "raw mark of the part";
    raw_mvolatile((uintptr_t)area + part, part, MVOLATILE_VOLATILE, 0, &lost);
    step = "raw unmark of the end";
    if (!raw_mvolatile((uintptr_t)area + len - part, part, MVOLATILE_NONVOLATILE, 0, &lost)) {
        CHECK(!exact || !lost);
        reported |= lost;
    }
    step = "raw unmark";
    for (int tries = 0; tries < 2; tries++) {
        err = raw_mvolatile((uintptr_t)area, len, MVOLATILE_NONVOLATILE, 0, &lost);
        reported |= !err && lost;
        if (!err) break;
        stop_failing();
        if (left_locked) munlock(area, len);
    }
    CHECK(!err);
    bool whole = true;
    for (int i = 0; i < 4; i++) whole = whole && holds(area + i * os_page_size, 7);
    CHECK(holds(area + 4 * os_page_size, 0));
    CHECK(whole || reported);
    CHECK(!exact || whole == !reported);
    munmap(area, len);
}

static int descriptors(void) {
    int open = 0;
    for (int fd = 0; fd < 64; fd++) open += fcntl(fd, F_GETFD) >= 0;
    return open;
}

static void open_private(void) {
    struct range *private;
    step = "open with options";
    if (range_open(pages * os_page_size, false, RANGE_WIPE, "private", &private)) return;
    atomic_fetch_add(&private->users, 1);
    if (range_close(private)) atomic_fetch_sub(&private->users, 1);
}

/* Whatever went wrong when the old one closed. */
static void new_owner(bool huge) {
    struct range *range;
    CHECK(!range_open(pages * os_page_size, huge, true, "new owner", &range));
    atomic_fetch_add(&range->users, 1);
    memset(stamp, 0, pages);
    memset(purged, 0, pages * sizeof *purged);
    CHECK(!range->lost.count);
    pin_and_check(range);
    CHECK(!range_close(range));
}

/* Twice in the same memory, of which some is purged between; what is stored is there, or told to be lost, or could not be stored. */
static void store(bool huge) {
    char *bytes = malloc(pages * os_page_size);
    for (int version = 3; version < 5; version++) {
        struct range *range;
        for (size_t i = 0; i < pages; i++) memset(bytes + i * os_page_size, stamp[i] = (unsigned char)(version + i % 90), os_page_size);
        memset(purged, 0, pages * sizeof *purged);
        struct part parts[] = {{bytes, os_page_size / 2}, {bytes + os_page_size / 2, pages * os_page_size - os_page_size / 2}};
        step = version == 3 ? "store" : "store again";
        if (range_open_stored(parts, 2, huge, RANGE_DUMP, "stored", false, &range)) continue;
        atomic_fetch_add(&range->users, 1);
        step = "pin what was stored";
        pin_and_check(range);
        char *base = range->base;
        step = "close and keep";
        if (range_close_and_keep(range)) {
            atomic_fetch_sub(&range->users, 1);
            continue;
        }
        if (range_tier == OS_TIER_USERFAULTFD && spare_bytes()) os_pageout(base + os_page_size, os_page_size);
    }
    step = "give back what is kept";
    range_give_back_kept();
    free(bytes);
}

static void program(bool huge) {
    struct range *range;
    open_private();
    store(huge);
    exact = range_tier == OS_TIER_USERFAULTFD; /* if it could not be had again after the fork, it is no other */
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
    suspended = true;
    CHECK(!range_pin(range, true));
    check_held(range);
    fill(range, 50);
    range_unpin(range, true);
    pin_and_check(range);
    purge(range, 2, 1);
    suspended = false;
    step = "close";
    CHECK(!range_close(range));
    step = "afterwards";
    stop_failing();
    new_owner(huge);
    CHECK(descriptors() <= had_descriptors);
}

/* ---- the runs --------------------------------------------------------------------------------------------------------------------- */

/* Different (operation, call, error) among the runs. */
static struct {
    const char *step, *name;
    int error;
} triples[4096];
static int count;

static int runs, wrong;

static void count_triple(const struct call *call, int error) {
    for (int i = 0; i < count; i++)
        if (triples[i].error == error && !strcmp(triples[i].step, call->step) && !strcmp(triples[i].name, call->name)) return;
    if (count == sizeof triples / sizeof *triples) exit(1);
    triples[count].step = call->step;
    triples[count].name = call->name;
    triples[count++].error = error;
}

/* Where one operation makes the same call again and again, a page at a time, the first four and the last four are enough. */
static bool is_enough(const struct call *call) {
    int earlier = 0, later = 0;
    for (const struct call *other = recorded; other < recorded + 2 * MOST; other++) {
        if (!other->name || strcmp(other->name, call->name) || strcmp(other->step, call->step)) continue;
        earlier += other < call;
        later += other > call;
    }
    return earlier >= 4 && later >= 4;
}

/* The first probe of the kernel, with which every process begins: it ends in a tier, the wanted one or a lesser, that works. */
static void begin(enum os_tier tier, bool huge) {
    step = "probe";
    had_descriptors = descriptors() + 3; /* the userfaultfd, pagemap and maps: one that could not be opened is opened later */
    (void)range_init(tier);
    stop_failing();
    CHECK(range_tier <= tier);
    if (range_tier == OS_TIER_UNSUPPORTED) return;
    watch_init();
    if (range_tier == OS_TIER_USERFAULTFD) trap_ensure();
    program(huge);
}

static int run_begin(int call, int error, enum os_tier tier, bool huge) {
    calls = *reached = 0;
    target = call;
    failure = error;
    half = 0;
    pid_t child = fork();
    if (!child) {
        alarm(200);
        begin(tier, huge);
        _exit(0);
    }
    stop_failing();
    int status;
    waitpid(child, &status, 0);
    return status;
}

/* Started before the fork, as what the core opens again in the child may fail, too. */
static int run(int call, int error, int halved, bool huge) {
    step = "start after a fork";
    target = call;
    failure = error;
    half = halved;
    pid_t child = fork();
    if (!child) {
        alarm(200);
        program(huge);
        _exit(0);
    }
    stop_failing();
    int status;
    waitpid(child, &status, 0);
    return status;
}

static void tell(const struct call *call, int error, int halved, int status) {
    if (*reached) runs++, count_triple(call, error);
    if (!status) return;
    wrong++;
    fprintf(stderr, "in '%s', %s fails with '%s'%s: status %d\n", call->step, call->name, strerror(error), halved ? " half way" : "", status);
}

static void try_begin(enum os_tier tier, bool huge) {
    recording = true;
    run_begin(-1, 0, tier, huge); /* where there is no such tier, the caller finds out */
    for (struct call *call = recorded; call < recorded + MOST && call->name; call++)
        for (int i = 0; call->errors[i]; i++)
            tell(call, call->errors[i], 0, run_begin((int)(call - recorded), call->errors[i], tier, huge));
    memset(recorded, 0, 2 * MOST * sizeof *recorded);
}

static void *shared(size_t size) { return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }

int main(int argc, char **argv) {
    if (argc < 4) return 2;
#ifdef SYSTEM_CALLS
    old_kernel = argc > 4;
#endif
    bool huge = atoi(argv[3]);
    pages = (size_t)atoi(argv[2]);
    recorded = shared(2 * MOST * sizeof *recorded);
    reached = shared(sizeof *reached);
    enum os_tier tier = strcmp(argv[1], "userfaultfd") ? OS_TIER_FAULTCOUNT : OS_TIER_USERFAULTFD;
    stamp = calloc(pages, 1);
    purged = calloc(pages, sizeof *purged);
    try_begin(tier, huge);
    (void)range_init(tier);
    if (range_tier != tier) return 3;
    watch_init();
    if (tier == OS_TIER_USERFAULTFD) trap_ensure();
    had_descriptors = descriptors();
    calls = 0;
    recording = true;
    int status = run(-1, 0, 0, huge);
    if (status) {
        fprintf(stderr, "without any failure: status %d\n", status);
        return 1;
    }
    for (struct call *call = recorded; call < recorded + 2 * MOST; call++) {
        if (!call->name || is_enough(call)) continue;
        for (int i = 0; call->errors[i]; i++)
            for (int halved = 0; halved <= call->halves; halved++) {
                calls = *reached = 0;
                status = run((int)(call - recorded), call->errors[i], halved, huge);
                tell(call, call->errors[i], halved, status);
            }
    }
    printf("%d %d\n", runs, count);
    for (int i = 0; i < count; i++) printf("%s|%s|%d\n", triples[i].step, triples[i].name, triples[i].error);
    return wrong > 0;
}
