/*
 * What the unit tests of modules with files, threads or processes share: a scratch directory, a
 * file system that can be filled, bounded polling, and counts of what a process holds.
 */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

/* Says why; cmocka itself would be silent. */
#define SKIP_BECAUSE(...)                       \
    do {                                        \
        print_message("SKIPPED: " __VA_ARGS__); \
        print_message("\n");                    \
        skip();                                 \
    } while (0)

/* Evaluates `cond` until it is true, for at most ms; then fails the test. */
#define EVENTUALLY(ms, cond)                                        \
    do {                                                            \
        int64_t eventually_end_ = unit_now_ms() + (int64_t)(ms);    \
        while (!(cond)) {                                           \
            if (unit_now_ms() > eventually_end_)                    \
                fail_msg("not within %d ms: %s", (int)(ms), #cond); \
            unit_pause();                                           \
        }                                                           \
    } while (0)

/* Fails the test with the error's message unless the expression is true. */
#define OK(expr, err)                              \
    do {                                           \
        if (!(expr))                               \
            fail_msg("%s: %s", #expr, (err)->msg); \
    } while (0)

int64_t unit_now_ms(void);
void unit_pause(void); /* a millisecond, between two looks at a condition */

/* A fresh directory that any user may enter; unit_scratch_free() removes it. */
char *unit_scratch(void);
void unit_scratch_free(char *path);

/* Mounts an empty file system of that size over `path`, seen by this process alone (its mount
 * namespace becomes private). False where that is not possible. It is gone with the process, or by
 * unit_unmount(). */
bool unit_mount_small(const char *path, size_t size_bytes);
void unit_unmount(const char *path);

/* Fills the file system of `path` to the last byte with a file of that name; removing the file
 * gives the space back. */
void unit_fill(const char *path);

/* Of this process. */
int unit_fds(void);
int unit_threads(void);
int unit_children(void); /* direct ones, zombies included */

/* How many live processes have NAME=VALUE in their environment. */
int unit_processes_with(const char *assignment);
bool unit_alive(pid_t pid); /* exists and is no zombie */

/* Reads a whole file; the caller frees it. NULL when there is none. */
char *unit_slurp(const char *path, size_t *ret_size);
void unit_spit(const char *path, const void *data, size_t size);
char *unit_textf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs fn(arg) on `count` threads at once and waits for all. */
void unit_in_threads(int count, void *(*fn)(void *arg), void *arg);

#endif
