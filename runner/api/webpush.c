/* Web Push: subscriptions, and a test message. */
#include "runner/webpush/webpush.h"
#include "runner/api/body_fields.h"

#include <string.h>

#define LIST_BYTES_MAX (256u << 10)

void push_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    if (webpush_print(api->push, &w, &err)) {
        send_err(req, &err);
        return;
    }
    json_close(&w);
    send_json(req, 200, &out);
}

static void send_id(struct http_request *req, const char *id)
{
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_bool(&w, "success", true);
    json_add_text(&w, "id", id);
    json_close(&w);
    send_json(req, 201, &out);
}

void push_subscription_add(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    char id[ID_SIZE];
    bool needs_you = true, done = true;
    int64_t expires = 0;
    const struct json *keys = NULL;
    struct push_wish wish = {.origin = http_header(req, "Origin")};
    const struct field fields[] = {
        {.name = "endpoint",
         .kind = FIELD_TEXT,
         .to = &wish.endpoint,
         .max = 1023,
         .required = true},
        {.name = "keys", .kind = FIELD_NODE, .to = &keys, .required = true},
        {.name = "expirationTime",
         .kind = FIELD_INT,
         .to = &expires,
         .min = 1,
         .max = JSON_INT_MAX,
         .zero = true},
        {.name = "label", .kind = FIELD_TEXT, .to = &wish.label, .max = 79},
        {.name = "needsYou", .kind = FIELD_BOOL, .to = &needs_you},
        {.name = "done", .kind = FIELD_BOOL, .to = &done},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    wish.p256dh = json_text(json_get(keys, "p256dh"));
    wish.auth = json_text(json_get(keys, "auth"));
    wish.events = (needs_you ? PUSH_NEEDS_YOU : 0u) | (done ? PUSH_DONE : 0u);
    if (wish.events == 0) {
        send_field_error(req, "needsYou", "or done must be true: else there is nothing to tell");
        return;
    }
    if (webpush_subscribe(api->push, &wish, id, &err))
        send_err(req, &err);
    else
        send_id(req, id);
}

void push_subscription_remove(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    bool there;
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    if (webpush_unsubscribe(api->push, http_param(req, "id"), &there, &err)) {
        send_err(req, &err);
        return;
    }
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_bool(&w, "success", true);
    json_add_bool(&w, "deleted", there);
    json_close(&w);
    send_json(req, 200, &out);
}

void push_test(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct json_writer w;
    const char *id = NULL;
    const struct field fields[] = {{.name = "id", .kind = FIELD_TEXT, .to = &id}};
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    int told = webpush_tell(api->push, PUSH_NEEDS_YOU, id, "test", "Claude Runner",
                            "This is how it tells you.", "/", &err);
    if (told == 0 && id)
        told = err_set(&err, ERR_NOT_FOUND, "there is no such subscription");
    if (told < 0) {
        send_err(req, &err);
        return;
    }
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_bool(&w, "success", true);
    json_add_int(&w, "told", told);
    json_close(&w);
    send_json(req, 202, &out);
}
