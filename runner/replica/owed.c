#include "runner/replica/owed.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strlist.h"
#include "google/storage.h"
#include "net/net.h"
#include "runner/replica/owed_seal.h"
#include "runner/replica/replica_private.h"
#include "runner/version.h"
#include "runner/webhook/payload.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/sign.h"
#include "runner/webhook/webhook.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_MAX 65536
#define TRY_MS 60000 /* whoever is at it has so long before another one tries */
#define RECORD_MAX (OWED_BODY_MAX * 3)
#define SWEEP_MAX 1000
#define PUT_TRIES 5

struct owed {
    struct json *json;      /* of the texts */
    const char *url, *body; /* NULL: it cannot be opened */
    char *sealed;
    int64_t tries, next_ms, generation;
    bool provisional;
    bool second; /* something else was said of the task before, or may have been */
};

static void owed_done(struct owed *owed)
{
    json_free(owed->json);
    free(owed->sealed);
}

static inline void auto_owed(struct owed *owed)
{
    owed_done(owed);
}

enum told {
    TOLD_NOTHING,
    TOLD_PROVISIONALLY,
    TOLD_ALL,
};

#define PROVISIONAL " provisionally"

/* What told/ID says. -1 when the bucket cannot be reached. */
static int read_told(const struct cloud *cloud, const char *id, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(4096);
    replica_name_in("told", id, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, err) == 0)
        return strstr(buf_str(&text), PROVISIONAL) ? TOLD_PROVISIONALLY : TOLD_ALL;
    return err->code == ERR_NOT_FOUND ? TOLD_NOTHING : -1;
}

int owed_print(struct store *store, const char *id, struct buf *out, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    return store_get(store, id, &record, err) || webhook_print_payload(store, &record, out, err) ||
                   buf_check(out, "a webhook", err)
               ? -1
               : 0;
}

/* --- noted ---------------------------------------------------------------------------------- */

int owed_note(const struct cloud *cloud, const struct config *config, const char *id,
              const char *url, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(URL_MAX);
    replica_name_in("owing", id, name);
    if (owed_seal(config->callback_secret, name, url, strlen(url), &sealed, err))
        return -1;
    return replica_put(cloud, name, "text/plain", buf_str(&sealed), sealed.len, err) &&
                   err->code != ERR_MISMATCH
               ? -1
               : 0;
}

static int read_note(const struct cloud *cloud, const struct config *config, const char *id,
                     struct buf *url, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(URL_MAX);
    replica_name_in("owing", id, name);
    return storage_get(cloud->google, cloud->bucket, name, &sealed, NULL, err) ||
                   owed_unseal(config->callback_secret, name, buf_str(&sealed), url, err)
               ? -1
               : 0;
}

int owed_forget(const struct cloud *cloud, const char *id, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    replica_name_in("owing", id, name);
    return storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, err);
}

struct noted {
    struct strlist ids;
    void (*fn)(const char *id, int64_t age_ms, void *arg);
    void *arg;
    int64_t now_ms;
};

static int take_noted(const struct storage_object *object, void *arg)
{
    struct noted *noted = arg;
    const char *id = object->name + strlen("owing/");
    if (id_is_valid(id))
        strlist_addf(&noted->ids, "%s %lld", id, (long long)(noted->now_ms - object->updated_ms));
    return 0;
}

static void pass_on(const struct noted *noted, char *text)
{
    char *space = strchr(text, ' ');
    if (!space)
        return;
    *space = '\0';
    noted->fn(text, strtoll(space + 1, NULL, 10), noted->arg);
}

int owed_each_noted(const struct cloud *cloud,
                    void (*fn)(const char *id, int64_t age_ms, void *arg), void *arg,
                    struct err *err)
{
    const struct storage_list wish = {.prefix = "owing/"};
    struct noted noted = {.ids = STRLIST_INIT, .fn = fn, .arg = arg, .now_ms = clock_real_ms()};
    int rc = storage_list(cloud->google, cloud->bucket, &wish, take_noted, &noted, err);
    for (size_t i = 0; i < noted.ids.count; i++)
        pass_on(&noted, noted.ids.items[i]);
    strlist_done(&noted.ids);
    return rc;
}

/* --- owed ----------------------------------------------------------------------------------- */

static int write_owed(const struct cloud *cloud, const char *id, struct owed *owed, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    AUTO(storage_object) struct storage_object object = {0};
    replica_name_in("owed", id, name);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "sealed", owed->sealed);
    json_add_int(&w, "tries", owed->tries);
    json_add_int(&w, "nextMs", owed->next_ms);
    if (owed->provisional)
        json_add_bool(&w, "provisional", true);
    if (owed->second)
        json_add_bool(&w, "second", true);
    json_close(&w);
    const struct storage_at at = {cloud->bucket, name, "application/json", owed->generation};
    if (buf_check(&text, "a webhook", err) ||
        storage_put(cloud->google, &at, text.data, text.len, &object, err))
        return -1;
    owed->generation = object.generation;
    return 0;
}

static void open_owed(const struct config *config, const char *name, struct owed *owed)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    if (owed_unseal(config->callback_secret, name, owed->sealed, &text, &err)) {
        log_warn("service", "%s: %s", name, err.msg);
        return;
    }
    owed->json = json_parse(buf_str(&text), text.len, &err);
    owed->url = json_text(json_get(owed->json, "url"));
    owed->body = json_text(json_get(owed->json, "body"));
}

static int read_owed(const struct cloud *cloud, const struct config *config, const char *id,
                     struct owed *owed, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    replica_name_in("owed", id, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, &owed->generation, err))
        return -1;
    AUTO(json) struct json *json = json_parse(buf_str(&text), text.len, err);
    const char *sealed = json_text(json_get(json, "sealed"));
    json_int(json_get(json, "tries"), &owed->tries);
    json_int(json_get(json, "nextMs"), &owed->next_ms);
    json_bool(json_get(json, "provisional"), &owed->provisional);
    json_bool(json_get(json, "second"), &owed->second);
    owed->sealed = strdup(sealed ? sealed : "");
    if (!owed->sealed)
        return err_sys(err, "a webhook");
    open_owed(config, name, owed);
    return 0;
}

static int seal_owed(const struct config *config, const char *id, const char *url,
                     const struct buf *body, struct owed *owed, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX), sealed = BUF_INIT(RECORD_MAX);
    replica_name_in("owed", id, name);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "url", url);
    json_add_text(&w, "body", buf_str(body));
    json_close(&w);
    if (buf_check(&text, "a webhook", err) ||
        owed_seal(config->callback_secret, name, text.data, text.len, &sealed, err))
        return -1;
    owed->sealed = strdup(buf_str(&sealed));
    return owed->sealed ? 0 : err_sys(err, "a webhook");
}

int owed_is_known(const struct cloud *cloud, const char *id, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    int told = read_told(cloud, id, err);
    replica_name_in("owed", id, name);
    return told < 0 ? -1 : told != TOLD_NOTHING || replica_has(cloud, name);
}

/* Takes the place of what is owed provisionally. Returns 1 when nothing is to be done: somebody
 * owes it. The first one may have arrived if it was tried. */
static int replace_owed(const struct cloud *cloud, const struct config *config, const char *id,
                        struct owed *owed, struct err *err)
{
    AUTO(owed) struct owed before = {.json = NULL};
    if (read_owed(cloud, config, id, &before, err))
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (owed->provisional || !before.provisional)
        return 1;
    owed->generation = before.generation;
    owed->second |= before.tries > 0;
    return 0;
}

static int put_anew(const struct cloud *cloud, const struct config *config, const char *id,
                    const char *url, const struct buf *body, struct owed *owed, struct err *err)
{
    AUTO(buf) struct buf noted = BUF_INIT(URL_MAX);
    if (!url && read_note(cloud, config, id, &noted, err))
        return -1;
    if (seal_owed(config, id, url ? url : buf_str(&noted), body, owed, err))
        return -1;
    for (int tries = 0; tries < PUT_TRIES; tries++) { /* Another writer may be faster. */
        int rc = replace_owed(cloud, config, id, owed, err);
        if (rc)
            return rc > 0 ? 0 : -1;
        if (write_owed(cloud, id, owed, err) == 0)
            return 0;
        if (err->code != ERR_MISMATCH)
            return -1;
        owed->generation = STORAGE_ABSENT;
    }
    return err_set(err, ERR_BUSY, "others change what is owed");
}

int owed_put(const struct cloud *cloud, const struct config *config, const char *id,
             const char *url, const struct buf *body, bool provisional, struct err *err)
{
    AUTO(owed) struct owed owed = {.generation = STORAGE_ABSENT, .provisional = provisional};
    int told = read_told(cloud, id, err);
    if (told < 0)
        return -1;
    owed.second = told == TOLD_PROVISIONALLY;
    bool said = told == TOLD_ALL || (provisional && told == TOLD_PROVISIONALLY);
    if (!said && put_anew(cloud, config, id, url, body, &owed, err))
        return -1;
    return provisional && told != TOLD_ALL ? 0 : owed_forget(cloud, id, err);
}

/* What was owed goes, unless it has become something else meanwhile. */
static int drop(const struct cloud *cloud, const char *id, const struct owed *owed, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    replica_name_in("owed", id, name);
    if (storage_delete(cloud->google, cloud->bucket, name, owed->generation, err) == 0)
        return 1;
    return err->code == ERR_MISMATCH ? 0 : -1;
}

/* First the word that it is told, then what was owed goes: no other is made in between. A
 * provisional word replaces no other one. */
static int settle(const struct cloud *cloud, const char *id, const char *how,
                  const struct owed *owed, struct err *err)
{
    char name[REPLICA_NAME_SIZE], text[64];
    replica_name_in("told", id, name);
    snprintf(text, sizeof(text), "%s%s", how, owed->provisional ? PROVISIONAL : "");
    const struct storage_at at = {cloud->bucket, name, "text/plain",
                                  owed->provisional ? STORAGE_ABSENT : STORAGE_ANY};
    if (storage_put(cloud->google, &at, text, strlen(text), NULL, err) && err->code != ERR_MISMATCH)
        return -1;
    return drop(cloud, id, owed, err);
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
    char message[ID_SIZE + 16];
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf body = BUF_INIT(OWED_BODY_MAX);
    snprintf(message, sizeof(message), "msg_%s%s", id, owed->second ? "_late" : "");
    if (!owed->url || !owed->body) {
        err_set(err, ERR_MISMATCH, "it was sealed by another CALLBACK_SECRET");
        return 0;
    }
    buf_adds(&body, owed->body);
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
    if (read_owed(cloud, config, id, &owed, err))
        return err->code == ERR_NOT_FOUND ? 1 : -1;
    int told = read_told(cloud, id, err);
    if (told < 0)
        return -1;
    if (told == TOLD_ALL || (told == TOLD_PROVISIONALLY && owed.provisional))
        return drop(cloud, id, &owed, err);
    owed.second |= told == TOLD_PROVISIONALLY;
    if (owed.next_ms > clock_real_ms())
        return 0;
    owed.tries++;
    owed.next_ms = clock_real_ms() + TRY_MS;
    if (write_owed(cloud, id, &owed, err))
        return err->code == ERR_MISMATCH ? 0 : -1; /* somebody else is at it */
    struct err why = ERR_INIT;
    int status = post(config, id, &owed, &stopper, &why);
    if (status / 100 == 2)
        return settle(cloud, id, "delivered", &owed, err);
    log_warn("service", "webhook of %s, try %lld: %s (%d)", id, (long long)owed.tries,
             status ? "refused" : why.msg, status);
    if (status == 410 || !schedule_next(&config->callback_retry_seconds, (int)owed.tries, 0, &wait))
        return settle(cloud, id, "given up", &owed, err);
    owed.next_ms = clock_real_ms() + wait;
    return write_owed(cloud, id, &owed, err) && err->code != ERR_MISMATCH ? -1 : 0;
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
