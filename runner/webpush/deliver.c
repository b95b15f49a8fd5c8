/* Delivers one message. */
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "net/net.h"
#include "runner/webhook/webhook.h"
#include "runner/webpush/webpush_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAILURES_MAX 20 /* failures in a row after which a subscription is removed */
#define URGENT_LIFE_S 86400
#define LIFE_S 14400

static const int waits_s[] = {5, 30, 120, 600}; /* pauses after failed tries; after the last the
                                                 * message is dropped */

static bool is_stopping(void *arg)
{
    struct push *push = arg;
    lock_take(&push->lock);
    bool stopping = push->stopping;
    lock_drop(&push->lock);
    return stopping;
}

/* The contact for a push service: the console's address, when others can reach it. */
static void contact_of(const struct subscription *to, char *contact, size_t size)
{
    snprintf(contact, size, "%s",
             strncmp(to->origin, "https://", 8) == 0 ? to->origin : "mailto:owner@localhost");
}

/* Copies "https://host[:port]" of the endpoint. */
static void origin_of(const char *url, char *origin, size_t size)
{
    const char *host = strstr(url, "://");
    size_t n = host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : strlen(url);
    snprintf(origin, size, "%.*s", (int)n, url);
}

static int add_headers(struct crypto_p256 *key, const struct push *push,
                       const struct subscription *to, const struct letter *letter,
                       struct strlist *headers, struct err *err)
{
    char origin[PUSH_ENDPOINT_SIZE], contact[sizeof(to->origin)];
    AUTO(buf) struct buf vapid = BUF_INIT(16384);
    origin_of(to->endpoint, origin, sizeof(origin));
    contact_of(to, contact, sizeof(contact));
    if (webpush_vapid(key, origin, contact, clock_real_ms() / 1000, &vapid, err))
        return -1;
    strlist_addf(headers, "Authorization: %s", buf_str(&vapid));
    strlist_add(headers, "Content-Encoding: aes128gcm");
    strlist_add(headers, "Content-Type: application/octet-stream");
    strlist_addf(headers, "TTL: %d", letter->urgent ? URGENT_LIFE_S : LIFE_S);
    strlist_addf(headers, "Urgency: %s", letter->urgent ? "high" : "normal");
    strlist_addf(headers, "Topic: %s", letter->topic);
    strlist_addf(headers, "User-Agent: claude-runner/%s", push->config.version);
    return headers->failed ? err_set(err, ERR_INTERNAL, "out of memory") : 0;
}

/* Returns the status of the answer, or -1. */
static int send_letter(struct push *push, const struct subscription *to,
                       const struct letter *letter, struct err *err)
{
    unsigned char salt[PUSH_SALT_SIZE];
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf body = BUF_INIT(8192);
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(config_ref) const struct config *config = config_ref(push->config.config);
    struct crypto_p256 *key = webpush_key(push, err);
    AUTO(crypto_p256) struct crypto_p256 *once = key ? crypto_p256_new(err) : NULL;
    id_random(salt, sizeof(salt));
    if (!once || webhook_check_place(to->endpoint, config, err) ||
        webpush_encrypt(&to->peer, once, salt, letter->text, strlen(letter->text), &body, err) ||
        add_headers(key, push, to, letter, &headers, err))
        return -1;
    const struct webhook_post post = {.config = config,
                                      .url = to->endpoint,
                                      .headers = &headers,
                                      .body = body.data,
                                      .body_len = body.len,
                                      .stop = is_stopping,
                                      .arg = push};
    return webhook_send(&post, &answer, err) ? -1 : answer.status;
}

static void note_locked(struct push *push, struct letter *letter, const char *id, int status,
                        const char *why) HOLDS(push->lock);
static void note_locked(struct push *push, struct letter *letter, const char *id, int status,
                        const char *why)
{
    struct subscription *one = webpush_find_locked(push, id);
    bool taken = status / 100 == 2;
    bool again = status < 0 || status == 429 || status / 100 == 5;
    if (one) {
        one->failures = taken ? 0 : one->failures + 1;
        snprintf(one->error, sizeof(one->error), "%s", taken ? "" : why);
        if (taken)
            one->sent_ms = clock_real_ms();
    }
    if (!again || !one || letter->tries >= (int)COUNT_OF(waits_s)) {
        free(letter->text);
        *letter = (struct letter){.text = NULL};
        return;
    }
    letter->due_ms = clock_mono_ms() + (int64_t)waits_s[letter->tries++] * 1000;
}

void webpush_deliver_locked(struct push *push, struct letter *letter)
{
    struct err err = ERR_INIT;
    char why[160];
    struct subscription *found = webpush_find_locked(push, letter->subscription), to;
    struct letter copy = *letter;
    if (!found || !(copy.text = strdup(letter->text))) {
        free(letter->text);
        *letter = (struct letter){.text = NULL};
        return;
    }
    to = *found;
    lock_drop(&push->lock);
    int status = send_letter(push, &to, &copy, &err);
    bool gone =
        status == 404 || status == 410 || (status / 100 != 2 && to.failures + 1 >= FAILURES_MAX);
    if (status < 0)
        snprintf(why, sizeof(why), "%.150s", err.msg);
    else
        snprintf(why, sizeof(why), "it answered %d", status);
    if (status / 100 != 2)
        log_warn("push", "to %s: %s%s", to.id, why, gone ? "; the subscription ends" : "");
    if (gone) {
        bool there;
        if (webpush_unsubscribe(push, to.id, &there, &err))
            log_error("push", "%s", err.msg);
    }
    lock_take(&push->lock);
    /* A later message of its topic may have replaced it meanwhile. */
    if (letter->text && letter->made_ms == copy.made_ms &&
        strcmp(letter->subscription, copy.subscription) == 0)
        note_locked(push, letter, to.id, status, why);
    free(copy.text);
}
