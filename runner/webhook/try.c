#include "runner/webhook/try.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/form.h"
#include "net/net.h"
#include "runner/webhook/allow.h"
#include "runner/webhook/payload.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/sign.h"

#include <stdio.h>
#include <string.h>

struct
try {
    const struct webhook_config *config;
    const struct config *in_force;
    const struct webhook_record *record;
    bool (*stop)(void *arg);
    void *arg;
    struct buf body;
    struct strlist headers;
};

struct reach {
    const struct webhook_post *post;
    bool named; /* CALLBACK_ALLOW names the host */
};

static bool may_reach(const struct sockaddr *address, void *arg)
{
    const struct reach *reach = arg;
    return reach->named || allow_has(&reach->post->config->callback_allow, address);
}

static bool is_stopped(void *arg)
{
    const struct reach *reach = arg;
    return reach->post->stop(reach->post->arg);
}

int webhook_send(const struct webhook_post *post, struct net_answer *ret_answer, struct err *err)
{
    REQUIRE(post->url && post->config);
    struct form_url url;
    struct reach reach = {.post = post};
    if (form_url(post->url, &url))
        return err_set(err, ERR_INVALID, "that is no URL");
    reach.named = allow_names(&post->config->callback_allow, url.host, url.port);
    const struct net_request request = {.method = "POST",
                                        .url = post->url,
                                        .headers = post->headers,
                                        .body = post->body,
                                        .body_len = post->body_len,
                                        .reach = NET_PUBLIC,
                                        .total_ms = WEBHOOK_TRY_MS,
                                        .answer_max = WEBHOOK_ANSWER_MAX,
                                        .head_enough = true,
                                        .arg = &reach,
                                        .allow = may_reach,
                                        .stop = is_stopped};
    return net_call(&request, ret_answer, err);
}

static int make_request(struct try *try, int64_t now_ms, struct err *err)
{
    struct form_url url;
    AUTO(task_record) struct task_record task = {0};
    const char *secret = try->in_force->callback_secret;
    if (!secret)
        return err_set(err, ERR_CONFIG, "CALLBACK_SECRET is not set: it cannot be signed");
    if (!try->record->url || form_url(try->record->url, &url))
        return err_set(err, ERR_INTERNAL, "its URL cannot be read with this secret.key");
    if (store_get(try->config->store, try->record->task_id, &task, err) ||
        webhook_print_payload(try->config->store, &task, &try->body, err) ||
        sign_webhook(secret, try->record->id, now_ms / 1000, &try->body, &try->headers, err))
        return -1;
    strlist_add(&try->headers, "Content-Type: application/json");
    strlist_addf(&try->headers, "User-Agent: claude-runner/%s", try->config->version);
    return try->headers.failed ? err_set(err, ERR_INTERNAL, "out of memory") : 0;
}

static int post(struct try *try, struct net_answer *answer, struct err *err)
{
    const struct webhook_post request = {.config = try->in_force,
                                         .url = try->record->url,
                                         .headers = &try->headers,
                                         .body = try->body.data,
                                         .body_len = try->body.len,
                                         .stop = try->stop,
                                         .arg = try->arg};
    return webhook_send(&request, answer, err);
}

/* Decides when to try again. A Retry-After counts for all webhooks to that host. */
static void postpone(const struct try *try, const struct net_answer *answer,
                     struct webhook_try *noted)
{
    char value[64];
    int64_t wait = 0, asked = 0;
    const struct strlist *waits = &try->in_force->callback_retry_seconds;
    if ((answer->status == 429 || answer->status == 503) &&
        net_header(&answer->head, "Retry-After", value, sizeof(value)))
        asked = schedule_retry_after(value, noted->now_ms);
    if (asked > schedule_longest(waits))
        asked = schedule_longest(waits);
    noted->rest_ms = asked > 0 ? noted->now_ms + asked : 0;
    if (answer->status == 410 || !schedule_next(waits, try->record->tries + 1, asked, &wait))
        noted->state = WEBHOOK_DEAD;
    noted->next_ms = noted->now_ms + wait;
}

void try_webhook(const struct webhook_config *config, const struct webhook_record *record,
                 bool (*stop)(void *arg), void *arg, struct try_result *ret_result)
{
    struct err err;
    AUTO(net_answer) struct net_answer answer = {0};
    struct webhook_try *noted = &ret_result->noted;
    AUTO(config_ref) const struct config *in_force = config_ref(config->config);
    struct try try = {.config = config,
                      .in_force = in_force,
                      .record = record,
                      .stop = stop,
                      .arg = arg,
                      .body = BUF_INIT(PAYLOAD_BYTES_MAX)};
    int rc = make_request(&try, clock_real_ms(), &err) ? -1 : post(&try, &answer, &err);
    *noted = (struct webhook_try){.state = WEBHOOK_PENDING,
                                  .status = answer.status,
                                  .error = ret_result->error,
                                  .now_ms = clock_real_ms()};
    ret_result->error[0] = '\0';
    if (rc == 0 && answer.status / 100 == 2) {
        noted->state = WEBHOOK_DELIVERED;
    } else {
        if (rc)
            snprintf(ret_result->error, sizeof(ret_result->error), "%s", err.msg);
        else
            snprintf(ret_result->error, sizeof(ret_result->error), "it answered %d", answer.status);
        postpone(&try, &answer, noted);
    }
    buf_done(&try.body);
    strlist_done(&try.headers);
}
