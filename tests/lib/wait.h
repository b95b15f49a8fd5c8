/*
 * Time in tests: nothing sleeps for a fixed time, everything polls up to a deadline.
 */
#ifndef TESTLIB_WAIT_H
#define TESTLIB_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

/* The factor by which a slow machine may take longer: more than 1 in a build with sanitizers, or
 * the environment variable CR_SLOW. Time limits that a test asserts are multiplied by it. */
int slowness(void);

/* The pause between two looks at a condition. */
void poll_pause(void);

/* Evaluates `cond` until it is true, at most ms × slowness(); then fails the test. It is evaluated
 * once more after the end, because the test may not have run for a while before. */
#define EVENTUALLY(ms, cond)                                          \
    do {                                                              \
        int64_t eventually_end = now_ms() + (int64_t)(ms)*slowness(); \
        bool eventually_late = false;                                 \
        while (!(cond)) {                                             \
            if (eventually_late)                                      \
                fail_msg("not within %d ms: %s", (int)(ms), #cond);   \
            poll_pause();                                             \
            eventually_late = now_ms() > eventually_end;              \
        }                                                             \
    } while (0)

#endif
