/* The one door to the kernel. Every function states what it needs and answers 0 or an errno, never -1; none touches Python. Addresses and
 * lengths are multiples of os_page_size unless said otherwise.
 *
 * Marked [signal]: async-signal-safe, called from the trap and in a forked child. Of the others a walk over mappings may allocate, and what
 * opens descriptors takes a lock of its own. */
#ifndef MVOLATILE_PLATFORM_OS_H
#define MVOLATILE_PLATFORM_OS_H

#if !defined(__linux__)
#error "mvolatile works on Linux alone: it is made of the kernel's own calls"
#elif !defined(__LP64__)
#error "mvolatile needs a 64-bit system: it reserves address space by the gigabyte"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A variable of each thread that is there before its first use, which may be in the trap: glibc would allocate it then. musl makes room when the
 * library is loaded, and loads none that asks for less. */
#ifdef __GLIBC__
#define OF_EACH_THREAD _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define OF_EACH_THREAD _Thread_local
#endif

extern size_t os_page_size;
extern size_t os_huge_size; /* what one page-table entry of the level above maps; 2 MiB on x86-64 */

extern bool os_huge_by_default; /* memory gets huge pages unasked: the setting 'always', when the core was opened */

enum os_tier {
    OS_TIER_UNSUPPORTED,
    OS_TIER_FAULTCOUNT,
    OS_TIER_USERFAULTFD
};

/* What a kernel mechanism answered when it was tried: 0 or an errno; OS_UNTRIED where the tier that was asked for does not use it. */
#define OS_UNTRIED (-1)
struct os_probe {
    int userfaultfd;   /* userfaultfd(UFFD_USER_MODE_ONLY), Linux 5.11 for the flag, or the same from the device */
    int userfaultfd_device; /* /dev/userfaultfd, Linux 6.1, where the call was refused */
    int uffd_sigbus;   /* UFFD_FEATURE_SIGBUS, Linux 4.14 */
    int madv_free;     /* Linux 4.5; swapless since 4.12 */
    int populate_write; /* Linux 5.14 */
    int pageout;       /* Linux 5.4 */
    int pagemap;       /* /proc/self/pagemap readable */
    int pagemap_scan;  /* Linux 6.7 */
    int procmap_query; /* Linux 6.11 */
    int anon_name;     /* PR_SET_VMA_ANON_NAME: Linux 5.17 with CONFIG_ANON_VMA_NAME */
};

/* Open descriptors and try every mechanism once; before anything else. `*best`: the best tier that works, at most `most`. EMFILE, ENFILE, or
 * ENOMEM where not a page can be mapped: that passes, and a lower tier would stay; nothing is open, and it may be called again. */
int os_open(enum os_tier most, enum os_tier *best);
/* New descriptors, in a forked child, where the inherited ones still act on the parent's memory, or where the program has closed them itself or
 * a sandbox refuses them. Answers the best tier that still works, at most `tier`. [signal] */
enum os_tier os_open_again(enum os_tier tier, bool in_child);
enum os_tier os_without_watch(void); /* it ends, and the best tier that does without is the answer [signal] */
const struct os_probe *os_probed(void);

/* Private anonymous memory, readable and writable, reserved without swap accounting. */
int os_reserve(size_t len, size_t align, char **out);
int os_release(char *base, size_t len);
void os_name(char *base, size_t len, const char *name); /* at most 79 printable characters; silent where unsupported */
int os_huge(char *base, size_t len, bool wanted);       /* MADV_HUGEPAGE or MADV_NOHUGEPAGE */
int os_dump(char *base, size_t len, bool wanted);       /* in core dumps or not */
int os_wipe_on_fork(char *base, size_t len);            /* a child finds nothing mapped in there; stays so in its children. Linux 4.14 */

int os_free_lazily(char *base, size_t len); /* MADV_FREE: mark */
int os_populate_write(char *base, size_t len); /* EFAULT: a watched page is missing; 0: all present and dirty */
int os_populate_read(char *base, size_t len);  /* gives every hole the zero page */
int os_pageout(char *base, size_t len);        /* the kernel's own reclaim, now; best effort, no partial report */
/* The same of another process, process_madvise(2), Linux 5.10: EPERM without CAP_SYS_NICE and the right to read it; ESRCH: it has ended; ENOMEM:
 * part of it is not mapped any more. others.c */
int os_pageout_of(int pidfd, uintptr_t start, size_t len);
int os_discard(char *base, size_t len);        /* MADV_DONTNEED */
int os_cold(char *base, size_t len);           /* MADV_COLD: EINVAL on mlocked, hugetlb and device memory */
int os_hold_resident(char *base, size_t len);  /* mlock2(MLOCK_ONFAULT): reclaim stays away, nothing is faulted in */
int os_let_go(char *base, size_t len);         /* munlock */

/* Watching: a missing page in watched memory traps instead of being filled. EBADF: the program has closed the descriptor; any other errno that the
 * memory does not explain: a sandbox refuses ioctl(2). os_watching() tells. */
int os_watch(char *base, size_t len);   /* [signal] UFFDIO_REGISTER; idempotent */
int os_unwatch(char *base, size_t len); /* UFFDIO_UNREGISTER */
/* Of memory that a userfaultfd watched which the program has closed: both wait, a second at most, until that is over. [signal] */
int os_watch_again(char *base, size_t len);
int os_fill_unwatched(char *base, size_t len); /* os_populate_read(); EAGAIN: watched again by now */
void os_stop_watching(void);            /* everything, at once [signal] */
extern _Atomic bool os_watch_ended;     /* by the trap, which could not repair otherwise: peeks may have read zeros since */
bool os_watch_is_open(void);            /* the descriptor is still ours: programs that close all descriptors end it [signal] */
bool os_watching(void);                 /* it is, and the kernel does what we ask of it [signal] */

/* Map zero pages into the missing pages of [base, base+len) from the front. `*done` bytes were missing and are filled now. 0: all
 * of it; EEXIST: the page at base+*done is there already; ENOENT: it is not watched. [signal] */
int os_zero(char *base, size_t len, size_t *done);

/* Map copies of [from, from+len) into the missing pages of [base, base+len), as os_zero(). `from` may be unaligned. EFAULT: it cannot be read at
 * *done, or is lost there; ENOMEM: no memory for another page. */
int os_copy(char *base, const char *from, size_t len, size_t *done);

/* Call `found(context, start, end)` for the pages of the class in [start, end), in order. */
enum os_class {
    OS_DATA,    /* present or swapped, and not the shared zero page */
    OS_MISSING, /* neither present nor swapped */
    OS_RESIDENT, /* present, and not the shared zero page */
};
typedef void os_found(void *context, uintptr_t start, uintptr_t end);
int os_scan(enum os_class class, uintptr_t start, uintptr_t end, os_found *found, void *context);
bool os_can_scan(void);

/* The text of a small file of the kernel's, from malloc() and closed by a zero. Another thread that closes all descriptors meanwhile has no file of the
 * program's read or closed here. */
int os_read(const char *path, char **text, size_t *length);
/* A file, new or in place of another, in one step: written `beside` first. EAGAIN: no thread is to be had, which writes it where nobody can close or
 * reuse its descriptor; ENOSYS, EPERM: nor can it have its own here. */
int os_replace(const char *path, const char *beside, const char *text);

/* 0 when all of [start, end) is private, anonymous, writable, not locked and not hugetlb; ENOMEM: part of it is not mapped;
 * EINVAL otherwise. Calls `mapped(context, start, end)` for each mapping's part, in order, until something is refused. */
int os_check_anonymous(uintptr_t start, uintptr_t end, os_found *mapped, void *context);

/* A walk over the mappings, upwards: each step to the mapping that holds `at`, or the next one; ENOMEM if there is none. `at` never goes down:
 * without PROCMAP_QUERY all steps are one pass over the text of /proc/self/maps, which may have tens of thousands of lines. */
struct os_mapping {
    uintptr_t start, end;
    bool usable; /* private, anonymous, writable */
};
struct os_walk {
    FILE *text;
    struct os_mapping found;
};
int os_walk_begin(struct os_walk *walk);
int os_walk_to(struct os_walk *walk, uintptr_t at);
void os_walk_end(struct os_walk *walk);

bool os_is_watched(char *page); /* the mapping that holds it, by us; changes nothing [signal] */

bool os_is_mapped(char *base, size_t len); /* all of it [signal] */
/* Visit the parts where nothing is mapped, in order; `map`: with zeroed memory by then, if it can be had. Where no other thread maps. [signal] */
void os_each_unmapped(char *base, size_t len, bool map, os_found *found, void *context);

long os_minor_faults(void); /* of the calling thread */
uint64_t os_thread_id(void); /* of the calling thread, and of no other before or after it, nor in a forked child; not 0 */
void os_pause(void);        /* [signal] let another thread go on */
/* Which signals this thread has blocked, a bit each from signal 1: also those by which libc cancels threads, which its own calls leave out. [signal] */
void os_set_mask(uint64_t mask, uint64_t *was);
/* Any thread of this process has SIGBUS blocked, so that the kernel kills it for a trap, and the process with it; also where the kernel does not
 * say. Looks at all of them, unless that would take more than a hundredth of the time since it last did: then it answers what was found then.
 * Not for two threads at once. threads.c */
bool os_any_thread_blocks_sigbus(void);

/* Pages reach the LRU, where reclaim finds them, by way of per-CPU lists. A page that is marked while it waits on another CPU's list stays
 * unmarked in the kernel's eyes, and one that os_pageout() meets while its mark waits on another CPU's list loses the mark. So: visit every
 * CPU this thread may run on, mark once more, and reclaim. */
void os_reclaim_all(char *base, size_t len);

#endif
