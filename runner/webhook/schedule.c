#include "runner/webhook/schedule.h"

#include "base/check.h"
#include "base/str.h"

#include <string.h>
#include <time.h>

#define ASKED_MAX_S 31536000

static int64_t wait_ms(const char *seconds)
{
    int64_t value = 0;
    str_to_int(seconds, 0, INT32_MAX, &value); /* The configuration has checked it. */
    return value * 1000;
}

int64_t schedule_longest(const struct strlist *waits)
{
    int64_t longest = 0;
    for (size_t i = 0; i < waits->count; i++)
        if (wait_ms(waits->items[i]) > longest)
            longest = wait_ms(waits->items[i]);
    return longest;
}

bool schedule_next(const struct strlist *waits, int tries, int64_t asked_ms, int64_t *ret_wait_ms)
{
    if (tries < 1 || (size_t)tries > waits->count)
        return false;
    int64_t wait = wait_ms(waits->items[tries - 1]), longest = schedule_longest(waits);
    if (asked_ms > wait)
        wait = asked_ms < longest ? asked_ms : longest;
    *ret_wait_ms = wait;
    return true;
}

int64_t schedule_retry_after(const char *value, int64_t now_ms)
{
    int64_t seconds;
    struct tm tm = {0};
    if (str_to_int(value, 0, ASKED_MAX_S, &seconds) == 0)
        return seconds * 1000;
    const char *end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end)
        return 0;
    int64_t left = (int64_t)timegm(&tm) * 1000 - now_ms;
    return left > 0 ? left : 0;
}
