/*
 * What every test program includes: cmocka (which wants its own headers first) and the harness.
 */
#ifndef TESTLIB_TESTING_H
#define TESTLIB_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "asked.h"
#include "http.h"
#include "json_check.h"
#include "proc.h"
#include "runner.h"
#include "stream.h"
#include "tmp.h"
#include "wait.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Skips the rest of the test and says why; cmocka itself would be silent. */
#define SKIP_BECAUSE(...)                       \
    do {                                        \
        print_message("SKIPPED: " __VA_ARGS__); \
        print_message("\n");                    \
        skip();                                 \
    } while (0)

#endif
