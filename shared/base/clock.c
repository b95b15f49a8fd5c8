#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t system_mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t system_real_ms(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const struct clock system_clock = {system_mono_us, system_real_ms, NULL};
static const struct clock *current = &system_clock;

int64_t clock_mono_us(void)
{
    return current->mono_us(current->arg);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_real_ms(void)
{
    return current->real_ms(current->arg);
}

void clock_use(const struct clock *clock)
{
    current = clock ? clock : &system_clock;
}

char *clock_format(int64_t real_ms, char text[CLOCK_TEXT_SIZE])
{
    int64_t ms = real_ms % 1000;
    if (ms < 0)
        ms += 1000;
    time_t seconds = (time_t)((real_ms - ms) / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || tm.tm_year > 8099 || tm.tm_year < -1900) {
        snprintf(text, CLOCK_TEXT_SIZE, "1970-01-01T00:00:00.000Z");
        return text;
    }
    size_t n = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, CLOCK_TEXT_SIZE - n, ".%03dZ", (int)ms);
    return text;
}
