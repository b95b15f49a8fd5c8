/*
 * result.json: how a cloud task ended.
 *
 * Threads: no state.
 */
#ifndef OVERFLOW_RESULT_H
#define OVERFLOW_RESULT_H

#include "runner/overflow/session.h"
#include "runner/task/engine.h"

#define RESULT_BYTES_MAX (160u << 20)
#define RESULT_OUTPUTS_MAX 4096

struct session_output {
    char *path;
    int64_t size;
};

struct session_result {
    struct task_outcome outcome; /* as at home; an ended state */
    int attempt;
    int64_t events_bytes; /* of the job's events: all pieces together */
    int64_t started_ms;   /* of the job */
    int64_t ended_ms;
    struct session_output *outputs;
    size_t output_count;
};

void session_result_init(struct session_result *result);
void session_result_done(struct session_result *result);
static inline void auto_session_result(struct session_result *result)
{
    session_result_done(result);
}

/* ERR_TOO_LARGE past RESULT_OUTPUTS_MAX. */
int session_result_add_output(struct session_result *result, const char *path, int64_t size,
                              struct err *err);

/* True for the names that an answer has of itself: no member of an outcome may have one. */
bool session_result_is_reserved(const char *member);

void session_result_print(const struct session_result *result, struct buf *out);
/* ERR_UPSTREAM when it is none: a task may have had its hands on it. *ret_result needs no init. */
int session_result_parse(const char *text, size_t len, struct session_result *ret_result,
                         struct err *err);

#endif
