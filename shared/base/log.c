#include "base/log.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 16384

static int out_fd = STDERR_FILENO;
static _Atomic int max_level = LOG_INFO;
static enum log_format out_format = LOG_TEXT;
static struct redact_set *redacted; /* borrowed */

static _Thread_local char request[80];
static _Thread_local char task[80];

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

/* Priorities of syslog. */
static const char *const journal_names[] = {
    [LOG_ERROR] = "<3>", [LOG_WARN] = "<4>", [LOG_INFO] = "<6>", [LOG_DEBUG] = "<7>"};

static const char *const google_names[] = {
    [LOG_ERROR] = "ERROR", [LOG_WARN] = "WARNING", [LOG_INFO] = "INFO", [LOG_DEBUG] = "DEBUG"};

void log_open(int fd, enum log_level level, enum log_format format, struct redact_set *secrets)
{
    out_fd = fd;
    max_level = (int)level;
    out_format = format;
    redacted = secrets;
}

void log_set_level(enum log_level level)
{
    max_level = (int)level;
}

void log_set_request(const char *request_id)
{
    snprintf(request, sizeof(request), "%s", request_id ? request_id : "");
}

void log_set_task(const char *task_id)
{
    snprintf(task, sizeof(task), "%s", task_id ? task_id : "");
}

/* How many lines of this site were suppressed before this one, or -1 when this one is suppressed
 * too. */
static int admit(struct log_site *site)
{
    int64_t now = clock_mono_ms();
    int64_t window = atomic_load(&site->window_ms);
    int held = 0;
    if (window == 0 || now - window >= LOG_WINDOW_MS) {
        if (atomic_compare_exchange_strong(&site->window_ms, &window, now)) {
            int count = atomic_exchange(&site->count, 0);
            held = count > LOG_BURST ? count - LOG_BURST : 0;
        }
    }
    return atomic_fetch_add(&site->count, 1) < LOG_BURST ? held : -1;
}

static void add_json_field(struct buf *line, const char *name, const char *value)
{
    buf_addf(line, ",\"%s\":\"", name);
    str_add_json(line, value, strlen(value));
    buf_addc(line, '"');
}

static void add_json_line(struct buf *line, const char *time, enum log_level level,
                          const char *module, const char *msg, int held)
{
    bool google = out_format == LOG_GOOGLE;
    buf_addf(line, "{\"time\":\"%s\",\"%s\":\"%s\",\"module\":\"%s\"", time,
             google ? "severity" : "level", google ? google_names[level] : level_names[level],
             module);
    if (request[0])
        add_json_field(line, "request_id", request);
    if (task[0])
        add_json_field(line, "task_id", task);
    add_json_field(line, google ? "message" : "msg", msg);
    if (held > 0)
        buf_addf(line, ",\"held_back\":%d", held);
    buf_adds(line, "}\n");
}

/* Control characters would let a message forge lines or colour a terminal. */
static void add_text(struct buf *line, const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            buf_addf(line, "\\x%02x", (unsigned char)*text);
        else
            buf_addc(line, *text);
    }
}

static void add_text_line(struct buf *line, const char *time, enum log_level level,
                          const char *module, const char *msg, int held)
{
    if (out_format == LOG_JOURNAL)
        buf_addf(line, "%s%s: ", journal_names[level], module);
    else
        buf_addf(line, "%s %-5s %s: ", time, level_names[level], module);
    add_text(line, msg);
    if (request[0])
        buf_addf(line, " request=%s", request);
    if (task[0])
        buf_addf(line, " task=%s", task);
    if (held > 0)
        buf_addf(line, " held_back=%d", held);
    buf_addc(line, '\n');
}

void log_line(struct log_site *site, enum log_level level, const char *module, const char *fmt, ...)
{
    if ((int)level > atomic_load(&max_level))
        return;
    int held = admit(site);
    if (held < 0)
        return;
    char msg[2048], time[CLOCK_TEXT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    clock_format(clock_real_ms(), time);
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    bool text = out_format == LOG_TEXT || out_format == LOG_JOURNAL;
    (text ? add_text_line : add_json_line)(&line, time, level, module, msg, held);
    AUTO(buf) struct buf clean = BUF_INIT(LINE_MAX_BYTES);
    if (redacted && !redact_is_clean(redacted, buf_str(&line), line.len))
        redact_text(redacted, buf_str(&line), line.len, &clean);
    const struct buf *say = clean.len > 0 || !buf_ok(&clean) ? &clean : &line;
    if (buf_ok(say) && fd_write_all(out_fd, buf_str(say), say->len))
        return; /* There is no other place to report this. */
}
