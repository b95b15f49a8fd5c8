/* The login: its state, a refresh, and a new one from anywhere. */
#include "base/clock.h"
#include "base/str.h"
#include "runner/api/handlers.h"

#include <stdio.h>
#include <string.h>

#define REFRESHING_MAX                                                          \
    4 /* workers that may refresh at once; a refresh takes as long as the token \
       * server needs */
#define LOGIN_BODY_MAX 16384

/* Appends the status, without braces. */
static void add_status(const struct api *api, struct buf *out)
{
    struct keeper_status status;
    keeper_status(api->keeper, &status);
    note_api_key(api, &status);
    keeper_print(&status, true, out);
    buf_adds(out, ",\"usage\":");
    usage_print(api->usage, out);
}

void oauth_status(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf out = BUF_INIT(16384);
    buf_addc(&out, '{');
    add_status(arg, &out);
    buf_addc(&out, '}');
    send_json(req, 200, &out);
}

/* Adds to the problem what published clients read: the message, and the login's state. */
static void send_failure(struct http_request *req, const struct api *api, const struct err *err)
{
    AUTO(buf) struct buf members = BUF_INIT(32768);
    buf_adds(&members, ",\"refreshed\":false,\"message\":\"");
    str_add_json(&members, err->msg, strlen(err->msg));
    buf_adds(&members, "\",\"oauth_status\":{");
    add_status(api, &members);
    buf_addc(&members, '}');
    http_send_error(req, err, buf_ok(&members) ? members.data : NULL);
}

void oauth_refresh(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    int rc = atomic_fetch_add(&api->refreshing, 1) < REFRESHING_MAX
                 ? keeper_refresh(api->keeper, &err)
                 : err_set(&err, ERR_BUSY, "others wait for a refresh already");
    atomic_fetch_sub(&api->refreshing, 1);
    if (rc) {
        send_failure(req, api, &err);
        return;
    }
    AUTO(buf) struct buf out = BUF_INIT(16384);
    buf_adds(&out, "{\"refreshed\":true,");
    add_status(api, &out);
    buf_addc(&out, '}');
    send_json(req, 200, &out);
}

/* --- a login ------------------------------------------------------------------------------- */

static void send_view(struct http_request *req, int status, const struct login_flow_view *view)
{
    struct json_writer w;
    char time[CLOCK_TEXT_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(16384);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "loginId", view->id);
    json_add_text(&w, "state", login_flow_state_name(view->state));
    if (view->url[0])
        json_add_text(&w, "url", view->url);
    if (view->reason[0])
        json_add_text(&w, "error", view->reason);
    json_add_text(&w, "expiresAt", clock_format(view->expires_ms, time));
    json_close(&w);
    send_json(req, status, &out);
}

void oauth_login_begin(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct login_flow_view view;
    struct err err;
    if (login_flow_begin(api->flow, &view, &err)) {
        send_err(req, &err);
        return;
    }
    if (view.state == LOGIN_FLOW_FAILED) { /* The CLI has not printed its URL. */
        err_set(&err, ERR_UPSTREAM, "no login could be begun: %s", view.reason);
        send_err(req, &err);
        return;
    }
    send_view(req, 201, &view);
}

void oauth_login_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct login_flow_view view;
    struct err err;
    if (login_flow_get(api->flow, http_param(req, "id"), &view, &err))
        send_err(req, &err);
    else
        send_view(req, 200, &view);
}

void oauth_login_cancel(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct login_flow_view view;
    struct err err;
    if (login_flow_cancel(api->flow, http_param(req, "id"), &view, &err))
        send_err(req, &err);
    else
        send_view(req, 200, &view);
}

/* Says what is wrong with the body's members; NULL when there is only a code. */
static const char *find_fault(const struct json *root, char field[64])
{
    const struct json *code = json_get(root, "code");
    snprintf(field, 64, "%s", "code");
    if (json_type(root) != JSON_OBJECT)
        return "the body must be an object";
    for (const struct json *member = json_first(root); member; member = json_next(member))
        if (strcmp(json_name(member), "code") != 0) {
            snprintf(field, 64, "%.60s", json_name(member));
            return "unknown field; did you mean 'code'?";
        }
    if (!code)
        return "required: what the page behind the URL shows";
    if (!json_text(code))
        return "must be a string";
    return NULL;
}

static void refuse_field(struct http_request *req, const char *field, const char *fault)
{
    struct err err;
    struct json_writer w;
    AUTO(buf) struct buf members = BUF_INIT(4096), errors = BUF_INIT(4096);
    err_set(&err, ERR_INVALID, "%s: %s", field, fault);
    json_write(&w, &errors);
    json_open_array(&w, NULL);
    json_open_object(&w, NULL);
    json_add_text(&w, "field", field);
    json_add_text(&w, "message", fault);
    json_close(&w);
    json_close(&w);
    buf_addf(&members, ",\"errors\":%s", buf_str(&errors));
    http_send_error(req, &err, buf_str(&members));
}

static void give_code(struct http_request *req, struct api *api, const struct json *root)
{
    struct login_flow_view view;
    struct err err;
    char field[64];
    const char *fault = find_fault(root, field);
    if (fault)
        refuse_field(req, field, fault);
    else if (login_flow_code(api->flow, http_param(req, "id"), json_text(json_get(root, "code")),
                             &view, &err))
        send_err(req, &err);
    else
        send_view(req, 200, &view);
}

void oauth_login_code(struct http_request *req, void *arg)
{
    struct err err;
    AUTO(buf_wipe) struct buf body = BUF_INIT(LOGIN_BODY_MAX);
    if (api_json_body(req, LOGIN_BODY_MAX, &body, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(json) struct json *root = json_parse(buf_str(&body), body.len, &err);
    if (root)
        give_code(req, arg, root);
    else
        send_err(req, &err);
}
