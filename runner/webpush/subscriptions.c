/* Subscriptions and the runner's key, in memory and in the store. */
#include "base/clock.h"
#include "base/form.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/store/sealed.h"
#include "runner/webhook/webhook.h"
#include "runner/webpush/webpush_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_NAME "push:key"
#define PREFIX "push:sub:"

struct subscription *webpush_find_locked(struct push *push, const char *id)
{
    for (size_t i = 0; i < push->count; i++)
        if (strcmp(push->subscriptions[i].id, id) == 0)
            return &push->subscriptions[i];
    return NULL;
}

/* --- texts --------------------------------------------------------------------------------- */

static void add_bytes(struct json_writer *w, const char *name, const void *data, size_t len)
{
    AUTO(buf) struct buf text = BUF_INIT(256);
    str_add_base64(&text, BASE64_URL, data, len);
    json_add_text(w, name, buf_str(&text));
}

/* Reads base64url; -1 when it does not stand for exactly `len` bytes. Padding, which some libraries
 * add, is ignored. */
static int read_bytes(const char *text, void *to, size_t size)
{
    AUTO(buf_wipe) struct buf bytes = BUF_INIT(256);
    size_t len = text ? strlen(text) : 0;
    while (len > 0 && text[len - 1] == '=')
        len--;
    if (!text || str_read_base64url(text, len, &bytes) || bytes.len != size)
        return -1;
    memcpy(to, bytes.data, size);
    return 0;
}

static void print_sealed(const struct subscription *one, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "endpoint", one->endpoint);
    json_add_text(&w, "origin", one->origin);
    json_add_text(&w, "label", one->label);
    add_bytes(&w, "p256dh", one->peer.point, sizeof(one->peer.point));
    add_bytes(&w, "auth", one->peer.auth, sizeof(one->peer.auth));
    json_add_int(&w, "events", one->events);
    json_add_int(&w, "createdMs", one->created_ms);
    json_close(&w);
}

static void copy_text(char *to, size_t size, const struct json *node)
{
    snprintf(to, size, "%s", json_text(node) ? json_text(node) : "");
}

static void load_one(const char *name, const char *text, void *arg)
{
    struct err ignored;
    int64_t events = 0;
    struct push *push = arg;
    struct subscription one = {.events = 0};
    AUTO(json) struct json *root = json_parse(text, strlen(text), &ignored);
    if (!root || push->count == PUSH_SUBSCRIPTIONS_MAX ||
        read_bytes(json_text(json_get(root, "p256dh")), one.peer.point, sizeof(one.peer.point)) ||
        read_bytes(json_text(json_get(root, "auth")), one.peer.auth, sizeof(one.peer.auth)) ||
        json_int(json_get(root, "events"), &events) ||
        json_int(json_get(root, "createdMs"), &one.created_ms))
        return;
    one.events = (unsigned)events;
    snprintf(one.id, sizeof(one.id), "%s", name + strlen(PREFIX));
    copy_text(one.endpoint, sizeof(one.endpoint), json_get(root, "endpoint"));
    copy_text(one.origin, sizeof(one.origin), json_get(root, "origin"));
    copy_text(one.label, sizeof(one.label), json_get(root, "label"));
    push->subscriptions[push->count++] = one;
}

/* --- the key ------------------------------------------------------------------------------- */

static void load_key(const char *name, const char *text, void *arg)
{
    struct err err;
    struct push *push = arg;
    unsigned char secret[CRYPTO_KEY_SIZE], point[CRYPTO_P256_POINT_SIZE];
    AUTO(json) struct json *root = json_parse(text, strlen(text), &err);
    if (!push->key && strcmp(name, KEY_NAME) == 0 && root &&
        read_bytes(json_text(json_get(root, "secret")), secret, sizeof(secret)) == 0 &&
        read_bytes(json_text(json_get(root, "point")), point, sizeof(point)) == 0)
        push->key = crypto_p256_load(secret, point, &err);
    explicit_bzero(secret, sizeof(secret));
}

static int keep_key(struct push *push, const struct crypto_p256 *key, struct err *err)
{
    struct json_writer w;
    unsigned char secret[CRYPTO_KEY_SIZE], point[CRYPTO_P256_POINT_SIZE];
    AUTO(buf_wipe) struct buf text = BUF_INIT(1024);
    if (crypto_p256_export(key, secret, point, err))
        return -1;
    json_write(&w, &text);
    json_open_object(&w, NULL);
    add_bytes(&w, "secret", secret, sizeof(secret));
    add_bytes(&w, "point", point, sizeof(point));
    json_close(&w);
    explicit_bzero(secret, sizeof(secret));
    return buf_check(&text, "a key", err)
               ? -1
               : sealed_set(push->config.store, KEY_NAME, buf_str(&text), err);
}

/* The runner's key. Two callers at once get one key: the first that exists stays, and is written
 * last. */
struct crypto_p256 *webpush_key(struct push *push, struct err *err)
{
    lock_take(&push->lock);
    struct crypto_p256 *key = push->key;
    lock_drop(&push->lock);
    if (key)
        return key;
    AUTO(crypto_p256) struct crypto_p256 *fresh = crypto_p256_new(err);
    if (!fresh)
        return NULL;
    lock_take(&push->lock);
    if (!push->key)
        push->key = STEAL_PTR(fresh);
    key = push->key;
    lock_drop(&push->lock);
    return keep_key(push, key, err) ? NULL : key;
}

int webpush_load(struct push *push, struct err *err)
{
    return sealed_each(push->config.store, KEY_NAME, load_key, push, err) ||
                   sealed_each(push->config.store, PREFIX, load_one, push, err)
               ? -1
               : 0;
}

/* --- coming and going ---------------------------------------------------------------------- */

static void name_of(const char *endpoint, char id[ID_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    crypto_sha256(endpoint, strlen(endpoint), digest);
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", digest[i]);
}

static int read_wish(const struct push *push, const struct push_wish *wish,
                     struct subscription *one, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(push->config.config);
    *one = (struct subscription){.events = wish->events, .created_ms = clock_real_ms()};
    if (strlen(wish->endpoint) >= sizeof(one->endpoint))
        return err_set(err, ERR_INVALID, "endpoint is too long");
    if (webhook_check_place(wish->endpoint, config, err))
        return err_wrap(err, "endpoint");
    if (read_bytes(wish->p256dh, one->peer.point, sizeof(one->peer.point)) ||
        !crypto_p256_is_point(one->peer.point, sizeof(one->peer.point)))
        return err_set(err, ERR_INVALID,
                       "keys.p256dh must be a point of P-256 (65 bytes) as base64url");
    if (read_bytes(wish->auth, one->peer.auth, sizeof(one->peer.auth)))
        return err_set(err, ERR_INVALID, "keys.auth must be 16 bytes as base64url");
    snprintf(one->endpoint, sizeof(one->endpoint), "%s", wish->endpoint);
    snprintf(one->origin, sizeof(one->origin), "%s", wish->origin ? wish->origin : "");
    snprintf(one->label, sizeof(one->label), "%s", wish->label ? wish->label : "");
    name_of(one->endpoint, one->id);
    return 0;
}

int webpush_subscribe(struct push *push, const struct push_wish *wish, char ret_id[ID_SIZE],
                      struct err *err)
{
    char name[128];
    struct subscription one;
    AUTO(buf_wipe) struct buf text = BUF_INIT(8192);
    if (read_wish(push, wish, &one, err))
        return -1;
    lock_take(&push->lock);
    struct subscription *place = webpush_find_locked(push, one.id);
    if (!place && push->count < PUSH_SUBSCRIPTIONS_MAX)
        place = &push->subscriptions[push->count++];
    if (place)
        *place = one;
    pthread_cond_broadcast(&push->changed);
    lock_drop(&push->lock);
    if (!place)
        return err_set(err, ERR_CONFLICT, "there are %d subscriptions already; take one away",
                       PUSH_SUBSCRIPTIONS_MAX);
    print_sealed(&one, &text);
    snprintf(name, sizeof(name), PREFIX "%s", one.id);
    memcpy(ret_id, one.id, sizeof(one.id));
    return buf_check(&text, "a subscription", err)
               ? -1
               : sealed_set(push->config.store, name, buf_str(&text), err);
}

int webpush_unsubscribe(struct push *push, const char *id, bool *ret_there, struct err *err)
{
    char name[128];
    lock_take(&push->lock);
    struct subscription *one = webpush_find_locked(push, id);
    *ret_there = one != NULL;
    if (one)
        *one = push->subscriptions[--push->count];
    lock_drop(&push->lock);
    if (!*ret_there)
        return 0;
    snprintf(name, sizeof(name), PREFIX "%s", id);
    return sealed_set(push->config.store, name, NULL, err);
}

/* --- showing ------------------------------------------------------------------------------- */

static void print_one(const struct subscription *one, struct json_writer *w)
{
    char host[WEBHOOK_HOST_SIZE];
    webhook_host(one->endpoint, host);
    json_open_object(w, NULL);
    json_add_text(w, "id", one->id);
    json_add_text(w, "label", one->label);
    json_add_text(w, "host", host);
    json_add_bool(w, "needsYou", (one->events & PUSH_NEEDS_YOU) != 0);
    json_add_bool(w, "done", (one->events & PUSH_DONE) != 0);
    json_add_time(w, "createdAt", one->created_ms);
    json_add_time(w, "lastSentAt", one->sent_ms);
    json_add_text(w, "lastError", one->error[0] ? one->error : NULL);
    json_close(w);
}

int webpush_print(struct push *push, struct json_writer *w, struct err *err)
{
    unsigned char point[CRYPTO_P256_POINT_SIZE];
    struct crypto_p256 *key = webpush_key(push, err);
    if (!key || crypto_p256_export(key, NULL, point, err))
        return -1;
    add_bytes(w, "publicKey", point, sizeof(point));
    json_open_array(w, "subscriptions");
    lock_take(&push->lock);
    for (size_t i = 0; i < push->count; i++)
        print_one(&push->subscriptions[i], w);
    lock_drop(&push->lock);
    json_close(w);
    return 0;
}
