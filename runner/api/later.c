#include "runner/api/later.h"

#include "base/lock.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define OUT_MAX (16u << 20)

/* What the connection and the thread share; either may end first. */
struct answer {
    struct later *later;
    char request_id[80];
    _Atomic int refs;
    struct lock lock;
    struct http_parked *parked; /* NULL once one of them answers */
};

static void answer_unref(struct answer *answer)
{
    if (atomic_fetch_sub(&answer->refs, 1) > 1)
        return;
    lock_done(&answer->lock);
    free(answer);
}

static struct http_parked *take_parked(struct answer *answer)
{
    lock_take(&answer->lock);
    struct http_parked *parked = answer->parked;
    answer->parked = NULL;
    lock_drop(&answer->lock);
    return parked;
}

static void on_gone(void *arg)
{
    struct http_parked *parked = take_parked(arg);
    if (parked)
        http_parked_drop(parked);
}

static void on_done(void *arg)
{
    answer_unref(arg);
}

static void send(struct answer *answer, int status, struct buf *out, struct err *err)
{
    struct http_parked *parked = take_parked(answer);
    bool good = status > 0 && buf_ok(out);
    if (!parked)
        return;
    if (status > 0 && !good)
        err_set(err, ERR_TOO_LARGE, "the answer is too large");
    if (!good) {
        buf_done(out);
        buf_init(out, OUT_MAX);
        http_add_problem(out, err, answer->request_id, 0, NULL);
        status = err_http(err->code);
    }
    const char *headers = status == 429 || status == 503 ? "Retry-After: 5\r\n" : NULL;
    http_parked_send(parked, status, good ? "application/json" : "application/problem+json",
                     headers, buf_str(out), out->len);
}

static void *run(void *arg)
{
    struct answer *answer = arg;
    struct later *later = answer->later;
    struct err err;
    int status = 200;
    AUTO(buf) struct buf out = BUF_INIT(OUT_MAX);
    int rc = later->make(later, &out, &status, &err);
    later->done(later);
    send(answer, rc ? 0 : status, &out, &err);
    answer_unref(answer);
    return NULL;
}

/* Answers an error; the request has not been parked. */
static void refuse(struct http_request *req, struct later *later, const struct err *err)
{
    send_err(req, err);
    later->done(later);
}

void later_answer(struct http_request *req, struct later *later)
{
    struct err err;
    struct answer *answer = calloc(1, sizeof(*answer));
    AUTO(config_ref) const struct config *config = config_ref(later->api->config);
    if (!answer) {
        err_sys(&err, "answer");
        refuse(req, later, &err);
        return;
    }
    answer->later = later;
    answer->refs = 2;
    lock_init(&answer->lock);
    snprintf(answer->request_id, sizeof(answer->request_id), "%s", http_id(req));
    const struct http_park_config park = {.keepalive_after_ms = config->keepalive_after_ms,
                                          .keepalive_every_ms = config->keepalive_every_ms,
                                          .gone = on_gone,
                                          .done = on_done,
                                          .arg = answer};
    lock_take(&answer->lock); /* gone() may be called before the handle is stored. */
    struct http_parked *parked = answer->parked = http_park(req, &park, &err);
    lock_drop(&answer->lock);
    if (!parked) {
        refuse(req, later, &err);
        lock_done(&answer->lock); /* No other thread has it. */
        free(answer);
        return;
    }
    if (thread_start_detached("later", THREAD_STACK_DEFAULT, run, answer, &err) == 0)
        return;
    AUTO(buf) struct buf out = BUF_INIT(OUT_MAX);
    later->done(later);
    send(answer, 0, &out, &err);
    answer_unref(answer);
}
