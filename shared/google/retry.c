#include "google/retry.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "google/limits.h"
#include "net/net.h"

#include <string.h>
#include <time.h>

#define STOP_LOOK_MS 50
#define AFTER_MAX_S INT64_C(31536000)

struct retry retry_begin(int total_ms, bool (*stop)(void *arg), void *arg)
{
    return (struct retry){.end_ms = clock_mono_ms() + total_ms, .stop = stop, .arg = arg};
}

void retry_renew(struct retry *retry, int total_ms)
{
    retry->end_ms = clock_mono_ms() + total_ms;
    retry->tries = 0;
}

bool retry_is_stopped(const struct retry *retry)
{
    return retry->stop && retry->stop(retry->arg);
}

int64_t retry_left_ms(const struct retry *retry)
{
    int64_t left = retry->end_ms - clock_mono_ms();
    return left > 0 ? left : 0;
}

int64_t retry_jitter(int tries)
{
    uint32_t random;
    int64_t most = RETRY_MAX_MS;
    if (tries < 16 && ((int64_t)RETRY_MIN_MS << tries) < most)
        most = (int64_t)RETRY_MIN_MS << tries;
    id_random(&random, sizeof(random));
    return random % (most + 1);
}

bool retry_pause(struct retry *retry, int64_t after_ms)
{
    int64_t wait_ms = retry_jitter(retry->tries++);
    if (after_ms > wait_ms)
        wait_ms = after_ms;
    if (wait_ms >= retry_left_ms(retry))
        return false;
    for (int64_t end = clock_mono_ms() + wait_ms, left; !retry_is_stopped(retry);) {
        left = end - clock_mono_ms();
        if (left <= 0)
            return true;
        left = left < STOP_LOOK_MS ? left : STOP_LOOK_MS;
        nanosleep(&(struct timespec){.tv_nsec = (long)left * 1000000}, NULL);
    }
    return false;
}

int64_t retry_after_value(const char *value)
{
    int64_t seconds;
    struct tm tm = {0};
    if (str_to_int(value, 0, AFTER_MAX_S, &seconds) == 0)
        return seconds * 1000;
    const char *end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end)
        return -1;
    int64_t left = (int64_t)timegm(&tm) * 1000 - clock_real_ms();
    return left < 0 ? 0 : left > AFTER_MAX_S * 1000 ? AFTER_MAX_S * 1000 : left;
}

int64_t retry_after(const struct buf *head)
{
    char value[64];
    return net_header(head, "Retry-After", value, sizeof(value)) ? retry_after_value(value) : -1;
}

void retry_add_words(struct buf *out, const char *words, size_t max)
{
    for (size_t n, used = 0; *words && used < max; words += n ? n : 1) {
        n = str_utf8_char(words, strnlen(words, 4));
        if (n == 0 || used + n > max)
            continue;
        if (n == 1 && ((unsigned char)*words < ' ' || *words == 0x7f))
            buf_addc(out, ' ');
        else
            buf_add(out, words, n);
        used += n;
    }
}
