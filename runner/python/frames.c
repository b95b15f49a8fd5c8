/* What a child reports about its run, and what its end means. */
#include "runner/python/core.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define ITEMS_MAX 64

void python_outcome_done(struct python_outcome *outcome)
{
    buf_done(&outcome->out);
    buf_done(&outcome->errors);
    free(outcome->result);
    strlist_done(&outcome->images);
    strlist_done(&outcome->files);
    free(outcome->refusal.reason);
    free(outcome->refusal.message);
    free(outcome->refusal.excerpt);
    *outcome = (struct python_outcome){0};
    buf_init(&outcome->out, PYTHON_OUTPUT_MAX + 1);
    buf_init(&outcome->errors, PYTHON_OUTPUT_MAX + 1);
}

static bool is_base64(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    len += strspn(text + len, "=");
    return text[len] == '\0' && len % 4 == 0;
}

static void take_item(const struct json *body, struct strlist *to)
{
    const char *name = json_text(json_get(body, "name"));
    const char *mime = json_text(json_get(body, "mime"));
    const char *data = json_text(json_get(body, "base64"));
    if (!name || !mime || !data || !is_base64(data) || to->count >= 3 * ITEMS_MAX)
        return;
    strlist_add(to, name);
    strlist_add(to, mime);
    strlist_add(to, data);
}

static char *copy_text(const struct json *body, const char *name)
{
    const char *text = json_text(json_get(body, name));
    return text ? strdup(text) : NULL;
}

/* Reads why the code is refused. The code has not begun, so this comes from our own part. */
static void take_refusal(struct python_refusal *refusal, const struct json *body)
{
    if (refusal->message)
        return;
    refusal->reason = copy_text(body, "reason");
    refusal->message = copy_text(body, "message");
    refusal->excerpt = copy_text(body, "excerpt");
    json_int(json_get(body, "line"), &refusal->line);
    json_int(json_get(body, "column"), &refusal->column);
}

static void take_end(struct run *run, const struct json *body)
{
    int64_t status = 0;
    run->told_end = true;
    run->told_memory = false;
    json_bool(json_get(body, "memory"), &run->told_memory);
    json_int(json_get(body, "status"), &status);
    run->told_status = (int)(status & 0xff);
}

void python_run_take_frame(struct run *run, char letter, const char *data, size_t len)
{
    struct err ignored;
    AUTO(json) struct json *body = len > 0 ? json_parse(data, len, &ignored) : NULL;
    struct python_outcome *outcome = &run->outcome;
    switch (letter) {
    case 'S':
        run->begun = true;
        break;
    case 'P':
        if (!run->begun && body)
            take_refusal(&outcome->refusal, body);
        break;
    case 'I':
        take_item(body, &outcome->images);
        break;
    case 'F':
        take_item(body, &outcome->files);
        break;
    case 'V':
        if (!outcome->result)
            outcome->result = copy_text(body, "result");
        break;
    case 'T':
        outcome->truncated = true;
        break;
    case 'E':
        take_end(run, body);
        break;
    default:
        break;
    }
}

/* The exit code that a shell would report. */
static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static enum python_status judge(const struct run *run, int status, unsigned exceeded)
{
    if (run->outcome.refusal.message && !run->begun)
        return PYTHON_REJECTED;
    if (exceeded & 1) /* JAIL_MEMORY */
        return PYTHON_MEMORY_EXCEEDED;
    if (run->timed_out)
        return PYTHON_TIMED_OUT;
    if (run->told_memory)
        return PYTHON_MEMORY_EXCEEDED;
    return status == 0 && run->begun ? PYTHON_SUCCESS : PYTHON_ERROR;
}

void python_run_conclude(struct run *run, int wait_status, unsigned exceeded, int64_t peak_kib)
{
    struct python_outcome *outcome = &run->outcome;
    outcome->status = judge(run, wait_status, exceeded);
    outcome->took_us = clock_mono_us() - run->started_us;
    outcome->peak_kib = peak_kib;
    outcome->exit_code = outcome->status == PYTHON_REJECTED    ? -1
                         : outcome->status == PYTHON_TIMED_OUT ? 124 /* the same code as for a
                                                                      * task */
                                                               : exit_code(wait_status);
}
