#include "runner/oauth/usage.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/str.h"
#include "base/thread.h"
#include "json/json.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES 1024
#define PAUSE_MS 2000 /* least time between two writes */
#define IDLE_MS 3600000
#define AHEAD_MS (8LL * 86400000) /* no window ends later than this */
#define RATIO_MAX 1000.0

static const struct {
    const char *name;  /* name in JSON */
    const char *label; /* name in metrics */
} windows[USAGE_WINDOWS] = {
    [USAGE_FIVE_HOUR] = {"five_hour", "5h"}, [USAGE_SEVEN_DAY] = {"seven_day", "7d"}};

struct usage_windows {
    struct breaker *breaker;
    struct thread thread;

    /* Held while the breaker is informed, so that the last information is the newest. Taken before
     * `lock`, never while that is held. */
    struct lock telling;

    struct lock lock; /* guards the fields below; never held across I/O or the breaker's
                       * functions */
    pthread_cond_t changed;
    struct usage_reading readings[USAGE_WINDOWS];
    int keep_percent;
    char *path; /* file that keeps the windows; NULL: none */
    bool dirty; /* the file is out of date */
    bool stopping;
};

const char *usage_window_name(enum usage_window window)
{
    return windows[window].name;
}

/* True when a reading makes sense and its window has not ended. */
static bool is_current(const struct usage_reading *reading, int64_t now_ms)
{
    return reading->known && isfinite(reading->ratio) && reading->ratio >= 0 &&
           reading->ratio <= RATIO_MAX && reading->resets_ms > now_ms &&
           reading->resets_ms <= now_ms + AHEAD_MS;
}

/* The end of the last window that is used beyond the tasks' share, in real ms; 0 when there is
 * none. */
static int64_t held_until_locked(const struct usage_windows *usage) HOLDS(usage->lock);
static int64_t held_until_locked(const struct usage_windows *usage)
{
    int64_t until = 0, now = clock_real_ms();
    double most = 100.0 - usage->keep_percent;
    for (int i = 0; i < USAGE_WINDOWS && usage->keep_percent > 0; i++) {
        const struct usage_reading *reading = &usage->readings[i];
        if (is_current(reading, now) && reading->ratio * 100.0 > most && reading->resets_ms > until)
            until = reading->resets_ms;
    }
    return until;
}

static void tell(struct usage_windows *usage)
{
    if (!usage->breaker)
        return;
    lock_take(&usage->telling);
    lock_take(&usage->lock);
    int64_t until = held_until_locked(usage);
    lock_drop(&usage->lock);
    breaker_reserve(usage->breaker, until);
    lock_drop(&usage->telling);
}

void usage_note(struct usage_windows *usage, const struct usage_reading readings[USAGE_WINDOWS])
{
    bool changed = false;
    int64_t now = clock_real_ms();
    lock_take(&usage->lock);
    for (int i = 0; i < USAGE_WINDOWS; i++) {
        struct usage_reading *mine = &usage->readings[i];
        if (!is_current(&readings[i], now))
            continue;
        changed |= !mine->known || fabs(mine->ratio - readings[i].ratio) > 1e-9 ||
                   mine->resets_ms != readings[i].resets_ms;
        *mine = readings[i];
    }
    usage->dirty |= changed;
    if (changed)
        pthread_cond_broadcast(&usage->changed);
    lock_drop(&usage->lock);
    if (changed)
        tell(usage);
}

void usage_forget(struct usage_windows *usage)
{
    lock_take(&usage->lock);
    for (int i = 0; i < USAGE_WINDOWS; i++)
        usage->readings[i] = (struct usage_reading){0};
    usage->dirty = true;
    pthread_cond_broadcast(&usage->changed);
    lock_drop(&usage->lock);
    tell(usage);
}

void usage_keep(struct usage_windows *usage, int percent)
{
    REQUIRE(percent >= 0 && percent <= 100);
    lock_take(&usage->lock);
    usage->keep_percent = percent;
    lock_drop(&usage->lock);
    tell(usage);
}

void usage_read(struct usage_windows *usage, struct usage_reading ret_readings[USAGE_WINDOWS])
{
    int64_t now = clock_real_ms();
    lock_take(&usage->lock);
    for (int i = 0; i < USAGE_WINDOWS; i++)
        ret_readings[i] =
            is_current(&usage->readings[i], now) ? usage->readings[i] : (struct usage_reading){0};
    lock_drop(&usage->lock);
}

/* --- in words and numbers ------------------------------------------------------------------ */

void usage_print(struct usage_windows *usage, struct buf *out)
{
    struct usage_reading readings[USAGE_WINDOWS];
    char time[CLOCK_TEXT_SIZE];
    usage_read(usage, readings);
    for (int i = 0; i < USAGE_WINDOWS; i++) {
        buf_addf(out, "%s\"%s\":", i ? "," : "{", windows[i].name);
        if (readings[i].known)
            buf_addf(out, "{\"used_percent\":%.6g,\"resets_at\":\"%s\"}", readings[i].ratio * 100.0,
                     clock_format(readings[i].resets_ms, time));
        else
            buf_adds(out, "null");
    }
    buf_addc(out, '}');
}

void usage_metrics(struct metric_page *page, void *arg)
{
    struct usage_reading readings[USAGE_WINDOWS];
    usage_read(arg, readings);
    metric_family(page, "claude_runner_account_utilization_ratio", METRIC_GAUGE,
                  "How much of a subscription's window is used, as the API last said (1: all).");
    for (int i = 0; i < USAGE_WINDOWS; i++)
        if (readings[i].known)
            metric_value(page, readings[i].ratio, "window", windows[i].label, NULL);
    metric_family(page, "claude_runner_account_reset_timestamp_seconds", METRIC_GAUGE,
                  "When a subscription's window ends, as the API last said.");
    for (int i = 0; i < USAGE_WINDOWS; i++)
        if (readings[i].known)
            metric_value(page, (double)readings[i].resets_ms / 1000.0, "window", windows[i].label,
                         NULL);
}

/* --- over restarts ------------------------------------------------------------------------- */

static void load(const char *path, struct usage_reading readings[USAGE_WINDOWS])
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES);
    if (file_read(path, &text, &ignored))
        return;
    AUTO(json) struct json *root = json_parse(buf_str(&text), text.len, &ignored);
    for (int i = 0; root && i < USAGE_WINDOWS; i++) {
        const struct json *window = json_get(root, windows[i].name);
        struct usage_reading *reading = &readings[i];
        reading->known = json_number(json_get(window, "ratio"), &reading->ratio) == 0 &&
                         json_int(json_get(window, "resets_ms"), &reading->resets_ms) == 0;
    }
}

static void save(const char *path, const struct usage_reading readings[USAGE_WINDOWS])
{
    struct err err = ERR_INIT;
    const char *separator = "{";
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES);
    for (int i = 0; i < USAGE_WINDOWS; i++) {
        if (!readings[i].known)
            continue;
        buf_addf(&text, "%s\"%s\":{\"ratio\":%.9g,\"resets_ms\":%lld}", separator, windows[i].name,
                 readings[i].ratio, (long long)readings[i].resets_ms);
        separator = ",";
    }
    buf_adds(&text, *separator == '{' ? "{}\n" : "}\n");
    if (buf_check(&text, "usage", &err) || file_replace(path, text.data, text.len, 0600, &err))
        log_warn("oauth", "a restart will not know how much of the account is used: %s", err.msg);
}

/* Writes the file when it is out of date; true when it released the lock meanwhile. On the thread
 * only. */
static bool save_locked(struct usage_windows *usage) HOLDS(usage->lock);
static bool save_locked(struct usage_windows *usage)
{
    struct usage_reading readings[USAGE_WINDOWS];
    if (!usage->path || !usage->dirty)
        return false;
    memcpy(readings, usage->readings, sizeof(readings));
    usage->dirty = false;
    lock_drop(&usage->lock);
    save(usage->path, readings);
    lock_take(&usage->lock);
    return true;
}

static void *write_often(void *arg)
{
    struct usage_windows *usage = arg;
    lock_take(&usage->lock);
    while (!usage->stopping) {
        int64_t until = clock_mono_ms() + PAUSE_MS;
        if (!save_locked(usage)) {
            lock_wait(&usage->changed, &usage->lock, IDLE_MS);
            continue;
        }
        for (int64_t now = clock_mono_ms(); now < until && !usage->stopping; now = clock_mono_ms())
            lock_wait(&usage->changed, &usage->lock, until - now);
    }
    save_locked(usage);
    lock_drop(&usage->lock);
    return NULL;
}

int usage_remember(struct usage_windows *usage, const char *path, struct err *err)
{
    REQUIRE(path && !usage->path);
    struct usage_reading readings[USAGE_WINDOWS] = {0};
    char *copy = strdup(path);
    if (!copy)
        return err_sys(err, "usage");
    load(path, readings);
    usage_note(usage, readings);
    lock_take(&usage->lock);
    usage->path = copy;
    pthread_cond_broadcast(&usage->changed);
    lock_drop(&usage->lock);
    return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

struct usage_windows *usage_new(struct breaker *breaker, struct err *err)
{
    struct usage_windows *usage = calloc(1, sizeof(*usage));
    if (!usage) {
        err_sys(err, "usage");
        return NULL;
    }
    usage->breaker = breaker;
    lock_init(&usage->telling);
    lock_init(&usage->lock);
    cond_init(&usage->changed);
    if (thread_start(&usage->thread, "usage", THREAD_STACK_SMALL, write_often, usage, err)) {
        usage_free(usage);
        return NULL;
    }
    return usage;
}

void usage_free(struct usage_windows *usage)
{
    if (!usage)
        return;
    lock_take(&usage->lock);
    usage->stopping = true;
    pthread_cond_broadcast(&usage->changed);
    lock_drop(&usage->lock);
    thread_join(&usage->thread);
    pthread_cond_destroy(&usage->changed);
    lock_done(&usage->lock);
    lock_done(&usage->telling);
    free(usage->path);
    free(usage);
}
