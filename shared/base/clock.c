#include "base/clock.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
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

int64_t clock_files_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

void clock_use(const struct clock *clock)
{
    current = clock ? clock : &system_clock;
}

/* Written by hand because every answer and every log line has a time in it, and strftime() is
 * slow. */
static void put_number(char *to, int digits, int value)
{
    for (; digits > 0; value /= 10)
        to[--digits] = (char)('0' + value % 10);
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
    static const char blank[CLOCK_TEXT_SIZE] = "0000-00-00T00:00:00.000Z";
    memcpy(text, blank, sizeof(blank));
    put_number(text, 4, tm.tm_year + 1900);
    put_number(text + 5, 2, tm.tm_mon + 1);
    put_number(text + 8, 2, tm.tm_mday);
    put_number(text + 11, 2, tm.tm_hour);
    put_number(text + 14, 2, tm.tm_min);
    put_number(text + 17, 2, tm.tm_sec);
    put_number(text + 20, 3, (int)ms);
    return text;
}

/* Reads `count` digits at *text as a number within min..max. */
static bool take_number(const char **text, int count, int min, int max, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < count; i++, (*text)++) {
        if (!isdigit((unsigned char)**text))
            return false;
        value = value * 10 + (**text - '0');
    }
    *ret_value = value;
    return value >= min && value <= max;
}

static bool take_char(const char **text, const char *any)
{
    if (!**text || !strchr(any, **text))
        return false;
    (*text)++;
    return true;
}

static bool take_fraction(const char **text, int *ret_ms)
{
    int ms = 0, weight = 100;
    if (!take_char(text, "."))
        return true;
    if (!isdigit((unsigned char)**text))
        return false;
    for (; isdigit((unsigned char)**text); (*text)++, weight /= 10)
        ms += (**text - '0') * weight;
    *ret_ms = ms;
    return true;
}

static bool take_offset(const char **text, int *ret_minutes)
{
    int hours, minutes, sign = **text == '-' ? -1 : 1;
    if (take_char(text, "Zz"))
        return true;
    if (!take_char(text, "+-") || !take_number(text, 2, 0, 23, &hours) || !take_char(text, ":") ||
        !take_number(text, 2, 0, 59, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

int clock_parse(const char *text, int64_t *ret_real_ms)
{
    struct tm tm = {0};
    int year, month, ms = 0, offset = 0;
    if (!take_number(&text, 4, 0, 9999, &year) || !take_char(&text, "-") ||
        !take_number(&text, 2, 1, 12, &month) || !take_char(&text, "-") ||
        !take_number(&text, 2, 1, 31, &tm.tm_mday) || !take_char(&text, "Tt ") ||
        !take_number(&text, 2, 0, 23, &tm.tm_hour) || !take_char(&text, ":") ||
        !take_number(&text, 2, 0, 59, &tm.tm_min) || !take_char(&text, ":") ||
        !take_number(&text, 2, 0, 60, &tm.tm_sec) || !take_fraction(&text, &ms) ||
        !take_offset(&text, &offset) || *text)
        return -1;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    *ret_real_ms = ((int64_t)timegm(&tm) - offset * INT64_C(60)) * 1000 + ms;
    return 0;
}
