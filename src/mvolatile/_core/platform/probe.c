/* Trying once what the kernel gives; the best tier that it is enough for, and the next best when something of it ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "platform/parts.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static void close_all(void) {
    os_stop_watching();
    close_pagemap();
    close_maps();
}

static int try_advice(void) {
    char *page = mmap(NULL, os_page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return errno;
    os_probe.populate_write = os_populate_write(page, os_page_size);
    os_probe.madv_free = os_free_lazily(page, os_page_size);
    os_probe.pageout = os_pageout(page, os_page_size);
    int named = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, os_page_size, "mvolatile:probe");
    os_probe.anon_name = errno_of(named);
    munmap(page, os_page_size);
    return 0;
}

static void read_settings(void) {
    char *text;
    size_t length, size = 0;
    if (!os_read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &text, &length)) {
        size = strtoul(text, NULL, 10);
        free(text);
    }
    os_huge_size = size ? size : (size_t)2 << 20;
    if (os_read("/sys/kernel/mm/transparent_hugepage/enabled", &text, &length)) return;
    os_huge_by_default = strstr(text, "[always]");
    free(text);
}

/* A filter may kill whoever makes a call that is not on its list, as systemd's SystemCallFilter= does, and the administrator who knows says so by
 * a lower tier: what that tier does not use is not tried. */
int os_open(enum os_tier most, enum os_tier *best) {
    os_page_size = (size_t)sysconf(_SC_PAGESIZE);
    read_settings();
    *best = OS_TIER_UNSUPPORTED;
    if (most == OS_TIER_UNSUPPORTED) return 0;
    int err = try_advice();
    if (err) return err;
    open_pagemap();
    open_maps();
    bool watching = most == OS_TIER_USERFAULTFD && open_userfaultfd();
    if (passes(os_probe.userfaultfd) || passes(os_probe.pagemap) || passes(os_probe.procmap_query)) {
        err = passes(os_probe.userfaultfd) ? os_probe.userfaultfd : passes(os_probe.pagemap) ? os_probe.pagemap
                                                                                             : os_probe.procmap_query;
        close_all();
        return err;
    }
    /* MADV_COLD and MADV_PAGEOUT (5.4) are older than MADV_POPULATE_WRITE (5.14), which decides. */
    bool purges = !os_probe.madv_free && !os_probe.populate_write;
    if (purges && watching)
        *best = OS_TIER_USERFAULTFD;
    else if (purges && !os_probe.pagemap)
        *best = OS_TIER_FAULTCOUNT;
    if (*best != OS_TIER_USERFAULTFD) os_stop_watching();
    os_serving = *best;
    return 0;
}

enum os_tier os_open_again(enum os_tier tier, bool in_child) {
    if (in_child)
        close_all();
    else
        os_stop_watching(); /* it may be open still, and refused */
    if (tier == OS_TIER_UNSUPPORTED) return tier;
    open_pagemap();
    open_maps();
    if (tier == OS_TIER_USERFAULTFD && open_userfaultfd()) return os_serving = tier;
    return os_without_watch();
}

enum os_tier os_without_watch(void) {
    os_stop_watching();
    return os_serving = ask_without_pagemap() ? OS_TIER_FAULTCOUNT : OS_TIER_UNSUPPORTED;
}
