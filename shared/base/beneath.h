/*
 * Opens paths below a directory whose content others write, and may change meanwhile.
 *
 * The kernel resolves them by openat2(). Where it has no such call (gVisor until 2025), or cannot
 * tell where a path leads because others rename without end, they are resolved here, part by part
 * and with the same results, except that a path that is deeper than BENEATH_DEPTH_MAX fails with
 * ENAMETOOLONG.
 *
 * Threads: no shared state. Ownership: `dir` is borrowed; the caller closes what is returned.
 */
#ifndef BASE_BENEATH_H
#define BASE_BENEATH_H

#include <sys/types.h>

#define BENEATH_DEPTH_MAX 128

/* What links, "..", and paths that begin with '/' do. */
enum beneath {
    BENEATH_NO_LINKS, /* a link in the path is ELOOP, what leads out of `dir` EXDEV */
    BENEATH_STAY,     /* links are followed; what leads out of `dir` is EXDEV */
    BENEATH_ROOT,     /* `dir` is the root of all of them */
};

/* Opens as openat() does; O_CLOEXEC is set. `mode` is used with O_CREAT only. Never follows the
 * magic links of /proc. Returns the descriptor, or -1 with errno. */
int beneath_open(int dir, const char *path, int flags, mode_t mode, enum beneath how);

#endif
