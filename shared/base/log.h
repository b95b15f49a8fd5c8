/*
 * The program's log: one line per event, to stderr; JSON for machines, text for people. Every line
 * carries the request and the task that the writing thread works for (log_set_request,
 * log_set_task), has registered secrets removed, and is written by one write(). Lines that repeat
 * too often at one place are suppressed and counted.
 *
 * Threads: log_* from any; log_open before threads start. Code in shared/ does not log: it returns
 * errors.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/redact.h"

#include <stdatomic.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format {
    LOG_TEXT,
    LOG_JOURNAL, /* text with a priority and without a time, as journald takes it */
    LOG_JSON,
    LOG_GOOGLE, /* JSON with the names that Google's Cloud Logging knows */
};

/* Sets where log lines go from now on. `secrets` is borrowed and may be NULL. */
void log_open(int fd, enum log_level level, enum log_format format, struct redact_set *secrets);
void log_set_level(enum log_level level);

/* For the calling thread, until changed; NULL for none. Copied. */
void log_set_request(const char *request_id);
void log_set_task(const char *task_id);

/* One place in the code that logs: at most LOG_BURST lines in LOG_WINDOW_MS. */
struct log_site {
    _Atomic int64_t window_ms;
    _Atomic int count;
};

#define LOG_BURST 50
#define LOG_WINDOW_MS 10000

void log_line(struct log_site *site, enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* `module` is the part of the program that speaks: "http", "task". */
#define log_at(level, module, ...)                        \
    do {                                                  \
        static struct log_site site_;                     \
        log_line(&site_, (level), (module), __VA_ARGS__); \
    } while (0)

#define log_error(module, ...) log_at(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_at(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_at(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_at(LOG_DEBUG, module, __VA_ARGS__)

#endif
