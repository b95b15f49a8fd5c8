#include "testbase.h"

#include <stdlib.h>
#include <time.h>

int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int slowness(void)
{
    const char *text = getenv("CR_SLOW");
    int factor = text ? (int)strtol(text, NULL, 10) : TEST_SLOWNESS;
    return factor > 0 ? factor : 1;
}

void poll_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* Debian's cmocka does not read the variable by itself. */
__attribute__((constructor)) static void heed_test_filter(void)
{
    const char *filter = getenv("CMOCKA_TEST_FILTER");
    if (filter)
        cmocka_set_test_filter(filter);
}
