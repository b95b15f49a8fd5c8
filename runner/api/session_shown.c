/* Sessions and their snapshots: showing and removing them. */
#include "base/str.h"
#include "runner/api/handlers.h"
#include "runner/session/session.h"

#include <string.h>

#define LIST_BYTES_MAX (16u << 20)

typedef void list_fn(struct sessions *sessions, struct buf *out);
typedef int print_fn(struct sessions *sessions, const char *id, struct buf *out, struct err *err);
typedef int delete_fn(struct sessions *sessions, const char *id, bool *ret_there, struct err *err);

static void show_all(struct http_request *req, const struct api *api, list_fn *list)
{
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    list(api->sessions, &out);
    send_json(req, 200, &out);
}

static void show_one(struct http_request *req, const struct api *api, print_fn *print)
{
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (print(api->sessions, http_param(req, "id"), &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

/* One that is not there is fine. */
static void remove_one(struct http_request *req, const struct api *api, delete_fn *delete)
{
    struct err err;
    bool there = false;
    const char *id = http_param(req, "id");
    AUTO(buf) struct buf out = BUF_INIT(1024);
    if (delete (api->sessions, id, &there, &err)) {
        send_err(req, &err);
        return;
    }
    buf_adds(&out, "{\"success\":true,\"id\":\"");
    str_add_json(&out, id, strlen(id));
    buf_addf(&out, "\",\"deleted\":%s}", there ? "true" : "false");
    send_json(req, 200, &out);
}

void sessions_get(struct http_request *req, void *arg)
{
    show_all(req, arg, sessions_print);
}

void session_get(struct http_request *req, void *arg)
{
    show_one(req, arg, session_print);
}

void session_remove_it(struct http_request *req, void *arg)
{
    remove_one(req, arg, session_delete);
}

void snapshots_get(struct http_request *req, void *arg)
{
    show_all(req, arg, snapshots_print);
}

void snapshot_get(struct http_request *req, void *arg)
{
    show_one(req, arg, snapshot_print);
}

void snapshot_remove_it(struct http_request *req, void *arg)
{
    remove_one(req, arg, snapshot_delete);
}
