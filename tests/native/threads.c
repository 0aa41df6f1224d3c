/* Threads without Python, for the sanitizers: they write, read, peek, pin, purge, survey, open, close, fork and mark raw memory at once.
 *
 * A writer fills a whole range with one byte. So whatever is read without a report is one byte throughout, and never zeros.
 *
 * usage: threads TIER PAGES HUGE SEED ROUNDS [closing|asking]    exits 0 after so many rounds, and once data was found whole and found lost; or
 * with 1, and names the check; 3: no such tier here. `closing`: the program closes the core's userfaultfd again and again meanwhile. Until the core has
 * noticed, calls may fail and nothing traps, so neither is checked then: only the sanitizer's verdict counts, and that nobody is killed.
 * `asking`: one thread asks after a range and does nothing else, the other forks; no child may find a lock held. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/pool.h"
#include "protocol/range.h"
#include "protocol/raw.h"
#include "protocol/trap.h"
#include "protocol/watch.h"

#define SHARED 3
static struct range *shared[SHARED];
static size_t pages;
static bool exact, closing;
static uint64_t first_seed;
static _Atomic bool done;
static _Atomic long whole, lost_seen;

#define CHECK(what)                                            \
    do {                                                       \
        if (!(what)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            _exit(1);                                          \
        }                                                      \
    } while (0)

#define SUCCEEDS(call) CHECK(!(call) || closing)

static _Thread_local uint64_t seed;
static size_t below(size_t limit) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % limit;
}

static struct range *one_of_them(void) { return shared[below(SHARED)]; }

static bool uniform(const char *base, size_t nbytes) {
    if (closing) return true;
    for (size_t i = 0; i < nbytes; i += 512)
        if (base[i] != base[0]) return false;
    return base[0] && base[nbytes - 1] == base[0];
}

/* A peek reads what others may be writing, and tells at its end whether they did. Its reads of the data race by design, and nothing else
 * does: so ThreadSanitizer is shown everything but them. (With SHOW_PEEKS it is shown them too, and must report: a check that can fail.) */
#ifndef SHOW_PEEKS
__attribute__((no_sanitize("thread"), noinline))
#endif
static void copy_as_a_peek(char *to, const char *from, size_t nbytes) {
    for (size_t i = 0; i < nbytes; i += 8) *(uint64_t *)(to + i) = *(const volatile uint64_t *)(from + i);
}

static void write_one(void) {
    struct range *one = one_of_them();
    int err = range_pin(one, true);
    SUCCEEDS(err);
    if (err) return;
    bool lost = range_any_lost(one, 0, one->nbytes);
    CHECK(lost || uniform(one->base, one->nbytes));
    atomic_fetch_add(&lost_seen, lost);
    memset(one->base, (int)(1 + below(255)), one->nbytes);
    range_forgive(one, 0, one->nbytes);
    range_unpin(one, true);
}

static void pin_one(void) {
    struct range *one = one_of_them();
    if (range_pin_is_quick(one) && below(2)) return;
    int err = range_pin(one, false);
    SUCCEEDS(err);
    if (err) return;
    /* One thread writes, and not under a lock that others could share: the bytes are looked at only where nobody writes. */
    bool lost = range_any_lost(one, 0, one->nbytes);
    atomic_fetch_add(&lost_seen, lost);
    range_unpin(one, false);
}

static void peek_one(char *copy) {
    struct range *one = one_of_them();
    struct peek peek;
    enum peek_verdict verdict = range_peek_begin(&peek, one, 0, one->nbytes);
    if (verdict == PEEK_UNSURE) verdict = range_peek_begin_carefully(&peek, one, 0, one->nbytes);
    if (verdict != PEEK_WHOLE) return;
    copy_as_a_peek(copy, one->base, one->nbytes);
    verdict = range_peek_end(&peek);
    if (verdict == PEEK_UNSURE) verdict = range_peek_end_carefully(&peek);
    if (verdict == PEEK_WHOLE) CHECK(uniform(copy, one->nbytes));
    atomic_fetch_add(verdict == PEEK_LOST ? &lost_seen : &whole, 1);
}

static void read_one(char *copy) {
    struct range *one = one_of_them();
    int err = range_read(one, 0, one->nbytes, copy);
    CHECK(!err || err == EFAULT || err == EAGAIN || closing);
    if (!err) CHECK(uniform(copy, one->nbytes));
    atomic_fetch_add(err == EFAULT ? &lost_seen : &whole, 1);
}

static void purge_one(void) {
    struct range *one = one_of_them();
    size_t bytes;
    if (below(4)) { /* as the kernel does it: at any moment, whatever locks are held. What is pinned stays */
        int err = os_pageout(one->base, one->mapped);
        CHECK(!err || err == EINVAL); /* locked for a moment, by a hold after a fork */
        return;
    }
    int err = range_purge(one, 0, one->nbytes, &bytes);
    CHECK(!err || err == EDEADLK || closing);
}

static void count(void *context, uintptr_t start, uintptr_t end) { *(size_t *)context += end - start; }

static void look_at_one(void) {
    struct range *one = one_of_them();
    size_t lost = 0, resident;
    SUCCEEDS(range_survey(one));
    range_lost(one, 0, one->nbytes, count, &lost);
    CHECK(lost <= one->nbytes && (range_resident(one, &resident) || resident <= one->mapped));
    CHECK(range_is_valid(one));
    CHECK(raw_volatile_bytes() <= 64 * os_page_size);
}

/* Ranges come and go, at addresses that others had before. Now and then a large one, with a mapping of its own, read while it goes. */
static void open_and_close(void) {
    struct range *one;
    char zeros[256] = {0}, found[256];
    size_t nbytes = below(16) ? (1 + below(40)) * os_page_size : CHUNK_SIZE + below(40) * os_page_size, bytes;
    int err = range_open(nbytes, below(2), true, "churn", &one);
    SUCCEEDS(err);
    if (err) return;
    atomic_fetch_add(&one->users, 1);
    SUCCEEDS(range_read(one, 0, sizeof found, found) || memcmp(zeros, found, sizeof found));
    SUCCEEDS(range_write(one, 0, 8, "churned!"));
    SUCCEEDS(range_purge(one, 0, one->nbytes, &bytes));
    struct peek peek;
    if (exact && range_peek_begin(&peek, one, 0, 8) == PEEK_WHOLE) {
        CHECK(range_close(one) == EBUSY);
        copy_as_a_peek(found, one->base, 8);
        if (range_peek_end(&peek) == PEEK_UNSURE) range_peek_end_carefully(&peek);
    }
    SUCCEEDS(range_close(one));
}

/* In memory that another store may have had, which goes meanwhile; the bytes come from two places. */
static void store_one(void) {
    struct range *one;
    size_t nbytes = below(16) ? 1 + below(40 * (unsigned)os_page_size) : CHUNK_SIZE + below(4) * os_page_size;
    char *bytes = malloc(nbytes), *copy = malloc(nbytes);
    memset(bytes, (int)(1 + below(255)), nbytes);
    struct part parts[] = {{bytes, nbytes / 3}, {bytes + nbytes / 3, nbytes - nbytes / 3}};
    int err = range_open_stored(parts, 2, below(2), RANGE_DUMP, "stored", false, &one);
    SUCCEEDS(err);
    if (!err) {
        atomic_fetch_add(&one->users, 1);
        err = range_read(one, 0, nbytes, copy);
        CHECK(!err || err == EFAULT || closing);
        CHECK(err || !memcmp(copy, bytes, nbytes));
        char *base = one->base;
        SUCCEEDS(below(4) ? range_close_and_keep(one) : range_close(one));
        if (below(4)) (void)os_pageout(base, os_page_size); /* whoever has it by now */
        if (!below(64)) (void)range_give_back_kept();
    }
    free(bytes);
    free(copy);
}

static void mark_raw(void) {
    size_t len = (1 + below(16)) * os_page_size;
    int purged;
    char *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    memset(area, 9, len);
    SUCCEEDS(raw_mvolatile((uintptr_t)area, len, MVOLATILE_VOLATILE, 0, &purged));
    if (below(2)) SUCCEEDS(os_pageout(area, len));
    /* Refused, for the userfaultfd that is gone, it is still volatile: it traps as soon as another thread has opened a new one, and so would
     * what is mapped here next. */
    while (raw_mvolatile((uintptr_t)area, len, MVOLATILE_NONVOLATILE, 0, &purged)) CHECK(closing);
    CHECK(purged || area[0] == 9 || closing);
    munmap(area, len);
}

static void fork_one(void) {
    struct range *one = one_of_them();
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        alarm(200); /* rather than wait for ever for a lock that a thread held which is not here */
        SUCCEEDS(range_pin(one, false));
        /* A fork may come in the middle of the writer's memset; then the child holds that writer's pin, and a mixture by right. */
        bool lost = range_any_lost(one, 0, one->nbytes);
        CHECK(lost || atomic_load(&one->writing) || uniform(one->base, one->nbytes));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* As daemons do. */
static void close_descriptors(void) {
    DIR *listing = opendir("/proc/self/fd");
    char target[64];
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        ssize_t n = readlinkat(dirfd(listing), entry->d_name, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = 0;
        if (strstr(target, "[userfaultfd]")) close(atoi(entry->d_name));
    }
    if (listing) closedir(listing);
}

static void *work(void *number) {
    size_t kind = (size_t)(uintptr_t)number;
    seed = first_seed + 100 * (kind + 1);
    char *copy = malloc(shared[0]->nbytes);
    while (!atomic_load(&done)) {
        switch (kind) {
        case 1:
        case 2: exact &&below(2) ? peek_one(copy) : read_one(copy); break;
        case 3: purge_one(); break;
        case 4: below(2) ? open_and_close() : store_one(); break;
        case 5: below(2) ? pin_one() : look_at_one(); break;
        case 6: mark_raw(); break;
        case 7:
            closing ? close_descriptors() : below(8) ? pin_one()
                                                     : fork_one();
            break;
        default: CHECK(false);
        }
    }
    free(copy);
    return NULL;
}

static void *ask(void *unused) {
    (void)unused;
    while (!atomic_load(&done)) {
        struct range *one = shared[0];
        if (!range_pin_is_quick(one)) CHECK(range_is_valid(one));
        range_any_lost(one, 0, one->nbytes);
    }
    return NULL;
}

static void fork_among_questions(long rounds) {
    pthread_t asking;
    CHECK(!pthread_create(&asking, NULL, ask, NULL));
    for (long i = 0; i < rounds; i++) fork_one();
    atomic_store(&done, true);
    pthread_join(asking, NULL);
}

#define THREADS 7

static void run(long rounds) {
    pthread_t running[THREADS];
    for (size_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&running[i], NULL, work, (void *)(i + 1)));
    for (long i = 0; i < rounds || (!closing && !(atomic_load(&lost_seen) && atomic_load(&whole))); i++) write_one();
    atomic_store(&done, true);
    for (int i = 0; i < THREADS; i++) pthread_join(running[i], NULL);
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    enum os_tier tier = strcmp(argv[1], "userfaultfd") ? OS_TIER_FAULTCOUNT : OS_TIER_USERFAULTFD;
    if (range_init(tier) || range_tier != tier) return 3;
    exact = tier == OS_TIER_USERFAULTFD;
    pages = (size_t)atoi(argv[2]);
    first_seed = seed = strtoull(argv[4], NULL, 10) * 2654435761u + 1;
    closing = argc > 6 && !strcmp(argv[6], "closing");
    watch_init();
    if (exact) trap_ensure();
    for (int i = 0; i < SHARED; i++) {
        SUCCEEDS(range_open(pages * os_page_size, atoi(argv[3]), true, "shared", &shared[i]));
        atomic_fetch_add(&shared[i]->users, 1);
        char *data = malloc(pages * os_page_size);
        memset(data, 1, pages * os_page_size);
        CHECK(!range_write(shared[i], 0, pages * os_page_size, data));
        free(data);
    }
    argc > 6 && !closing ? fork_among_questions(atol(argv[5])) : run(atol(argv[5]));
    CHECK(range_tier == tier);
    for (int i = 0; i < SHARED; i++) {
        CHECK(range_is_valid(shared[i]));
        SUCCEEDS(range_close(shared[i]));
    }
    return 0;
}
