/* Snapshots of sessions: taking them. */
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/later.h"
#include "runner/janitor/disk.h"
#include "runner/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct taking {
    struct later later;
    struct json *body;
    char session[ID_SIZE];
    struct snapshot_wish wish;
    struct buf metadata;
};

static void taking_free(struct later *later)
{
    struct taking *taking = (struct taking *)later;
    json_free(taking->body);
    buf_done(&taking->metadata);
    free(taking);
}

static int take_snapshot(struct later *later, struct buf *out, int *ret_status, struct err *err)
{
    const struct taking *taking = (struct taking *)later;
    struct sessions *sessions = later->api->sessions;
    *ret_status = 201;
    if (sessions_hold(sessions, err))
        return -1;
    int rc = snapshot_create(sessions, taking->session, &taking->wish, out, err);
    sessions_let_go(sessions);
    return rc;
}

/* Reads the request. False after the answer has been sent. */
static bool read_taking(struct http_request *req, struct api *api, struct taking *taking)
{
    struct err err;
    int64_t ttl = 0;
    const struct json *metadata = NULL;
    const struct field fields[] = {
        {.name = "id", .kind = FIELD_TEXT, .to = &taking->wish.id},
        {.name = "ttlMinutes",
         .kind = FIELD_INT,
         .to = &ttl,
         .min = 1,
         .max = 525600,
         .zero = true},
        {.name = "metadata", .kind = FIELD_NODE, .to = &metadata},
    };
    taking->body = body_fields(req, fields, COUNT_OF(fields));
    if (!taking->body)
        return false;
    if (taking->wish.id && !id_is_valid(taking->wish.id)) {
        send_field_error(req, "id",
                         "must be 1..64 of A-Z a-z 0-9 . _ ~ - and not begin with . or -");
        return false;
    }
    if (disk_check(api->state_dir, CONFIG_GET(api->config, disk_min_free_mb), &err)) {
        send_err(req, &err);
        return false;
    }
    if (metadata)
        json_print(metadata, &taking->metadata);
    taking->wish.metadata = metadata ? buf_str(&taking->metadata) : NULL;
    taking->wish.ttl_minutes = (int)ttl;
    return true;
}

void session_snapshot(struct http_request *req, void *arg)
{
    struct err err;
    struct taking *taking = calloc(1, sizeof(*taking));
    if (!taking) {
        err_sys(&err, "snapshot");
        send_err(req, &err);
        return;
    }
    taking->later = (struct later){.api = arg, .make = take_snapshot, .done = taking_free};
    buf_init(&taking->metadata, API_BODY_MAX);
    snprintf(taking->session, sizeof(taking->session), "%s", http_param(req, "id"));
    if (read_taking(req, arg, taking))
        later_answer(req, &taking->later);
    else
        taking_free(&taking->later);
}
