/*
 * What every test program can use, for a module as for the whole runner: cmocka (and the
 * headers that it needs), files, time, processes, a disk that can be filled.
 */
#ifndef TESTLIB_TESTBASE_H
#define TESTLIB_TESTBASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/err.h"

#include "proc.h"
#include "small_disk.h"
#include "tmp.h"
#include "wait.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Skips the rest of the test and prints the reason; cmocka itself prints none. */
#define SKIP_BECAUSE(...)                       \
    do {                                        \
        print_message("SKIPPED: " __VA_ARGS__); \
        print_message("\n");                    \
        skip();                                 \
    } while (0)

/* Fails the test with the error's message unless the expression is true. */
#define OK(expr, err)                              \
    do {                                           \
        if (!(expr))                               \
            fail_msg("%s: %s", #expr, (err)->msg); \
    } while (0)

/* Runs fn(arg) on `count` threads at once and waits for all. */
void in_threads(int count, void *(*fn)(void *arg), void *arg);

#endif
