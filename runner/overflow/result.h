/*
 * result.json: how a cloud task ended.
 *
 * Threads: no state.
 */
#ifndef OVERFLOW_RESULT_H
#define OVERFLOW_RESULT_H

#include "runner/overflow/folder.h"
#include "runner/task/engine.h"

#define RESULT_BYTES_MAX (160u << 20)
#define RESULT_OUTPUTS_MAX 4096

struct folder_output {
    char *path;
    int64_t size;
};

struct folder_result {
    struct task_outcome outcome; /* as of a local task; an ended state */
    int attempt;
    int64_t events_bytes; /* total length of the job's events */
    int64_t started_ms;   /* start of the job */
    int64_t ended_ms;
    int64_t idle_ms;   /* the execution stays so long for another task (warm.h); 0: it does not */
    int64_t left_ms;   /* and can run that for so long */
    bool conversation; /* it has left a conversation to continue */
    struct folder_output *outputs;
    size_t output_count;
};

void folder_result_init(struct folder_result *result);
void folder_result_done(struct folder_result *result);
static inline void auto_folder_result(struct folder_result *result)
{
    folder_result_done(result);
}

/* Adds an output. ERR_TOO_LARGE past RESULT_OUTPUTS_MAX. */
int folder_result_add_output(struct folder_result *result, const char *path, int64_t size,
                             struct err *err);

/* Keeps the outputs for which kept[index] is true; NULL: none. Returns how many are left out. */
size_t folder_result_keep_outputs(struct folder_result *result, const bool *kept);

/* True for names that an answer itself has: no member of an outcome may have one. */
bool folder_result_is_reserved(const char *member);

void folder_result_print(const struct folder_result *result, struct buf *out);
/* Reads a result. ERR_UPSTREAM when it is malformed: a task may have tampered with it. *ret_result
 * needs no init; end it by folder_result_done(). */
int folder_result_parse(const char *text, size_t len, struct folder_result *ret_result,
                        struct err *err);

#endif
