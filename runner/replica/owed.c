#include "runner/replica/owed.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strlist.h"
#include "google/storage.h"
#include "net/net.h"
#include "runner/version.h"
#include "runner/webhook/payload.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/sign.h"
#include "runner/webhook/webhook.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 256
#define TRY_MS 60000 /* whoever is at it has so long before another one tries */
#define RECORD_MAX (OWED_BODY_MAX * 2)
#define SWEEP_MAX 1000

struct owed {
    struct json *json; /* of the texts */
    const char *url, *body;
    int64_t tries, next_ms, generation;
};

static void owed_done(struct owed *owed)
{
    json_free(owed->json);
}

static inline void auto_owed(struct owed *owed)
{
    owed_done(owed);
}

static void name_of(const char *place, const char *id, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s/%s", place, id);
}

static bool exists(const struct cloud *cloud, const char *place, const char *id)
{
    struct err err;
    char name[NAME_SIZE];
    AUTO(storage_object) struct storage_object object = {0};
    name_of(place, id, name);
    return storage_stat(cloud->google, cloud->bucket, name, &object, &err) == 0;
}

int owed_print(struct store *store, const char *id, struct buf *out, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    return store_get(store, id, &record, err) || webhook_print_payload(store, &record, out, err) ||
                   buf_check(out, "a webhook", err)
               ? -1
               : 0;
}

bool owed_is_known(const struct cloud *cloud, const char *id)
{
    return exists(cloud, "owed", id) || exists(cloud, "told", id);
}

/* --- the object ----------------------------------------------------------------------------- */

static int write(const struct cloud *cloud, const char *id, const struct owed *owed,
                 int64_t *ret_generation, struct err *err)
{
    char name[NAME_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    AUTO(storage_object) struct storage_object object = {0};
    name_of("owed", id, name);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "url", owed->url);
    json_add_text(&w, "body", owed->body);
    json_add_int(&w, "tries", owed->tries);
    json_add_int(&w, "nextMs", owed->next_ms);
    json_close(&w);
    const struct storage_at at = {cloud->bucket, name, "application/json", owed->generation};
    if (buf_check(&text, "a webhook", err) ||
        storage_put(cloud->google, &at, text.data, text.len, &object, err))
        return -1;
    *ret_generation = object.generation;
    return 0;
}

static int read_owed(const struct cloud *cloud, const char *id, struct owed *owed, struct err *err)
{
    char name[NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    name_of("owed", id, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, &owed->generation, err))
        return -1;
    owed->json = json_parse(buf_str(&text), text.len, err);
    owed->url = json_text(json_get(owed->json, "url"));
    owed->body = json_text(json_get(owed->json, "body"));
    json_int(json_get(owed->json, "tries"), &owed->tries);
    json_int(json_get(owed->json, "nextMs"), &owed->next_ms);
    return owed->url && owed->body ? 0 : err_set(err, ERR_MISMATCH, "%s is no webhook", name);
}

int owed_put(const struct cloud *cloud, const char *id, const char *url, const struct buf *body,
             struct err *err)
{
    int64_t ignored;
    const struct owed owed = {.url = url, .body = buf_str(body), .generation = STORAGE_ABSENT};
    if (exists(cloud, "told", id))
        return 0;
    return write(cloud, id, &owed, &ignored, err) && err->code != ERR_MISMATCH ? -1 : 0;
}

/* First the word that it is told, then what was owed goes: no other is made in between. */
static int settle(const struct cloud *cloud, const char *id, const char *how, struct err *err)
{
    char name[NAME_SIZE];
    name_of("told", id, name);
    const struct storage_at at = {cloud->bucket, name, "text/plain", STORAGE_ANY};
    if (storage_put(cloud->google, &at, how, strlen(how), NULL, err))
        return -1;
    name_of("owed", id, name);
    return storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, err) ? -1 : 1;
}

/* --- a try ---------------------------------------------------------------------------------- */

struct stopper {
    bool (*stop)(void *arg);
    void *arg;
};

static bool is_stopped(void *arg)
{
    const struct stopper *stopper = arg;
    return stopper->stop && stopper->stop(stopper->arg);
}

/* The HTTP status, 0 when no answer came. */
static int post(const struct config *config, const char *id, const struct owed *owed,
                struct stopper *stopper, struct err *err)
{
    char message[ID_SIZE + 8];
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf body = BUF_INIT(OWED_BODY_MAX);
    snprintf(message, sizeof(message), "msg_%s", id);
    buf_adds(&body, owed->body);
    if (!config->callback_secret) {
        err_set(err, ERR_CONFIG, "CALLBACK_SECRET is not set: it cannot be signed");
        return 0;
    }
    if (sign_webhook(config->callback_secret, message, clock_real_ms() / 1000, &body, &headers,
                     err))
        return 0;
    strlist_add(&headers, "Content-Type: application/json");
    strlist_add(&headers, "User-Agent: claude-runner/" RUNNER_VERSION);
    const struct webhook_post wish = {.config = config,
                                      .url = owed->url,
                                      .headers = &headers,
                                      .body = body.data,
                                      .body_len = body.len,
                                      .stop = is_stopped,
                                      .arg = stopper};
    return webhook_send(&wish, &answer, err) ? 0 : answer.status;
}

int owed_try(const struct cloud *cloud, const struct config *config, const char *id,
             bool (*stop)(void *arg), void *arg, struct err *err)
{
    int64_t wait = 0;
    struct stopper stopper = {stop, arg};
    AUTO(owed) struct owed owed = {.json = NULL};
    if (read_owed(cloud, id, &owed, err))
        return err->code == ERR_NOT_FOUND ? 1 : -1;
    if (exists(cloud, "told", id))
        return settle(cloud, id, "", err);
    if (owed.next_ms > clock_real_ms())
        return 0;
    owed.tries++;
    owed.next_ms = clock_real_ms() + TRY_MS;
    if (write(cloud, id, &owed, &owed.generation, err))
        return err->code == ERR_MISMATCH ? 0 : -1; /* somebody else is at it */
    struct err why = ERR_INIT;
    int status = post(config, id, &owed, &stopper, &why);
    if (status / 100 == 2)
        return settle(cloud, id, "delivered", err);
    log_warn("service", "webhook of %s, try %lld: %s (%d)", id, (long long)owed.tries,
             status ? "refused" : why.msg, status);
    if (status == 410 || !schedule_next(&config->callback_retry_seconds, (int)owed.tries, 0, &wait))
        return settle(cloud, id, "given up", err);
    owed.next_ms = clock_real_ms() + wait;
    return write(cloud, id, &owed, &owed.generation, err) && err->code != ERR_MISMATCH ? -1 : 0;
}

static int take_id(const struct storage_object *object, void *arg)
{
    const char *id = object->name + strlen("owed/");
    if (id_is_valid(id))
        strlist_add(arg, id);
    return 0;
}

void owed_sweep(const struct cloud *cloud, const struct config *config, bool (*stop)(void *arg),
                void *arg)
{
    struct err err;
    AUTO(strlist) struct strlist ids = STRLIST_INIT;
    const struct storage_list wish = {.prefix = "owed/", .max = SWEEP_MAX};
    if (storage_list(cloud->google, cloud->bucket, &wish, take_id, &ids, &err))
        log_warn("service", "cannot look for webhooks that are owed: %s", err.msg);
    for (size_t i = 0; i < ids.count && !(stop && stop(arg)); i++)
        if (owed_try(cloud, config, ids.items[i], stop, arg, &err) < 0)
            log_warn("service", "webhook of %s: %s", ids.items[i], err.msg);
}
