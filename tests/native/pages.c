/* The system layer with larger pages than the kernel's: what the core sees of it on a machine with pages of FAKE_PAGE bytes. A fake page is
 * there when all of it is, as reclaim leaves it; one of which the kernel took a part counts as missing. */
#define os_open kernel_open
#define os_scan kernel_scan
#define os_zero kernel_zero
#define os_copy kernel_copy
#define os_free_lazily kernel_free_lazily
#include "platform/apart.c"
#include "platform/descriptors.c"
#include "platform/facts.c"
#include "platform/linux.c"
#include "platform/maps.c"
#include "platform/others.c"
#include "platform/pagemap.c"
#include "platform/probe.c"
#include "platform/replace.c"
#include "platform/shared.c"
#include "platform/stream.c"
#include "platform/threads.c"
#include "platform/userfaultfd.c"
#undef os_open
#undef os_scan
#undef os_zero
#undef os_copy
#undef os_free_lazily

static size_t kernel_page;

int os_open(enum os_tier most, enum os_tier *best) {
    int err = kernel_open(most, best);
    kernel_page = os_page_size;
    os_page_size = FAKE_PAGE;
    return err;
}

/* What is found is joined into whole pages, in order, each once. */
struct whole {
    os_found *found;
    void *context;
    uintptr_t start, end;
};

static void round_out(void *context, uintptr_t start, uintptr_t end) {
    struct whole *whole = context;
    start &= ~((uintptr_t)FAKE_PAGE - 1);
    end = (end + FAKE_PAGE - 1) & ~((uintptr_t)FAKE_PAGE - 1);
    if (start > whole->end || !whole->end) {
        if (whole->end) whole->found(whole->context, whole->start, whole->end);
        whole->start = start;
    }
    whole->end = end;
}

int os_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context) {
    struct whole whole = {found, context, 0, 0};
    int err = kernel_scan(class, start, end, round_out, &whole);
    if (whole.end) found(context, whole.start, whole.end);
    return err;
}

int os_zero(char *base, size_t len, size_t *done) {
    for (*done = 0; *done < len; *done += FAKE_PAGE) {
        bool missing = false;
        for (size_t at = 0, filled; at < FAKE_PAGE; at += kernel_page) {
            int err = kernel_zero(base + *done + at, kernel_page, &filled);
            missing |= filled > 0;
            if (err && err != EEXIST) return err;
        }
        if (!missing) return EEXIST;
    }
    return 0;
}

int os_copy(char *base, const char *from, size_t len, size_t *done) {
    for (*done = 0; *done < len; *done += FAKE_PAGE) {
        bool missing = false;
        for (size_t at = *done, filled; at < *done + FAKE_PAGE; at += kernel_page) {
            int err = kernel_copy(base + at, from + at, kernel_page, &filled);
            missing |= filled > 0;
            if (err && err != EEXIST) return err;
        }
        if (!missing) return EEXIST;
        memcpy(base + *done, from + *done, FAKE_PAGE);
    }
    return 0;
}

static void make_whole(void *context, uintptr_t start, uintptr_t end) {
    (void)context;
    (void)os_populate_write((char *)start, end - start);
}

/* The first touch makes all of a page, and not a quarter of it. */
int os_free_lazily(char *base, size_t len) {
    int err = os_scan(OS_DATA, (uintptr_t)base, (uintptr_t)base + len, make_whole, NULL);
    return err ? err : kernel_free_lazily(base, len);
}

/* The core may hold a page by touching one byte of it, which of a fake page holds a quarter or less: so it must not (-Wl,--wrap). */
bool __wrap_trap_catches(void) { return false; }
