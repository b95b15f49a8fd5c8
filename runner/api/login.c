/*
 * GET /login: the login page, for a phone as well, with and without JavaScript.
 *
 * Each form is a POST that does something and redirects to the page, which shows how things stand.
 * A browser gives the secret once and then holds a visit (visits.h) in a cookie that scripts and
 * other sites cannot use; every form carries a token on top. Before there is a visit, the token is
 * one that the browser holds in a cookie of its own.
 */
#include "base/clock.h"
#include "base/str.h"
#include "http/posted.h"
#include "runner/api/account.h"
#include "runner/api/handlers.h"
#include "runner/api/page.h"
#include "runner/api/pages/pages.h"
#include "runner/api/visits.h"
#include "runner/version.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VISIT_COOKIE "runner_visit"
#define GUEST_COOKIE "runner_guest"
#define FORM_MAX 16384
#define HTML "text/html; charset=utf-8"
#define PACE_FAST "1000" /* ms between two requests of the page's script */
#define PACE_SLOW "4000"

/* The browser that asks. */
struct visitor {
    bool known; /* has given a secret */
    struct visit visit;
    char guest[ID_TOKEN_SIZE]; /* the forms' token before a secret was given */
};

static void find_visitor(struct http_request *req, struct api *api, struct visitor *visitor)
{
    char cookie[ID_TOKEN_SIZE];
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    *visitor = (struct visitor){.known = false};
    page_cookie(req, GUEST_COOKIE, visitor->guest, sizeof(visitor->guest));
    page_cookie(req, VISIT_COOKIE, cookie, sizeof(cookie));
    if (!visits_find(api->visits, cookie, &visitor->visit)) {
        page_cookie(req, SESSION_COOKIE, cookie, sizeof(cookie)); /* A session of the console is
                                                                   * accepted as well. */
        if (!visits_find(api->visits, cookie, &visitor->visit))
            return;
    }
    for (size_t i = 0; i < config->secrets.count; i++) { /* Removing its secret ends the visit. */
        const char *secret = config->secrets.items[i].value;
        crypto_sha256(secret, strlen(secret), digest);
        visitor->known |= memcmp(digest, visitor->visit.secret, sizeof(digest)) == 0;
    }
}

/* --- parts of the page --------------------------------------------------------------------- */

static void add_notice(const char *kind, const char *text, struct buf *out)
{
    if (text && *text)
        PAGE_FILL(page_notice_html, out, {.name = "kind", .text = kind},
                  {.name = "role", .text = strcmp(kind, "bad") == 0 ? "alert" : "status"},
                  {.name = "text", .text = text});
}

static bool ends_sentence(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && text[len - 1] == '.';
}

/* Appends how the last login ended. */
static void add_outcome(const struct login_flow_view *flow, struct buf *out)
{
    char text[400];
    switch (flow->state) {
    case LOGIN_FLOW_SUCCEEDED:
        add_notice("good", "Logged in. Tasks that waited for it go on.", out);
        break;
    case LOGIN_FLOW_FAILED:
        if (ends_sentence(flow->reason))
            snprintf(text, sizeof(text), "The login failed. %s", flow->reason);
        else
            snprintf(text, sizeof(text),
                     "The login failed: %s. A code is good once, and for a few minutes.",
                     flow->reason);
        add_notice("bad", text, out);
        break;
    case LOGIN_FLOW_CANCELLED:
        add_notice("warm", "The login was cancelled.", out);
        break;
    case LOGIN_FLOW_EXPIRED:
        add_notice("warm", "The login took too long and was ended.", out);
        break;
    case LOGIN_FLOW_STARTING:
    case LOGIN_FLOW_AWAITING_CODE:
    case LOGIN_FLOW_VERIFYING:
        break;
    }
}

static void add_start(const struct visitor *visitor, bool again, bool fine, struct buf *out)
{
    PAGE_FILL(page_start_html, out, {.name = "heading", .text = again ? "Log in again" : "Log in"},
              {.name = "csrf", .text = visitor->visit.csrf},
              {.name = "text",
               .text = fine && again ? "Not needed now. It would take the place of the login above."
                       : fine        ? "Not needed now."
                       : again       ? "The new login takes the place of the one above."
                               : "You sign in at Claude in this browser and bring back a code."},
              {.name = "kind", .text = fine ? "" : "primary"},
              {.name = "button", .text = "Start a login"});
}

static void add_code(const struct visitor *visitor, const struct login_flow_view *flow,
                     struct buf *out)
{
    AUTO(buf) struct buf notice = BUF_INIT(4096);
    char time[CLOCK_TEXT_SIZE], until[16];
    clock_format(flow->expires_ms, time);
    snprintf(until, sizeof(until), "%.5s UTC", time + 11);
    add_notice("bad", flow->reason, &notice);
    PAGE_FILL(page_code_html, out, {.name = "notice", .part = &notice},
              {.name = "url", .text = flow->url}, {.name = "id", .text = flow->id},
              {.name = "csrf", .text = visitor->visit.csrf}, {.name = "expires", .text = time},
              {.name = "until", .text = until});
}

static void add_wait(const struct visitor *visitor, const struct login_flow_view *flow,
                     struct buf *out)
{
    PAGE_FILL(page_wait_html, out,
              {.name = "text",
               .text = flow->state == LOGIN_FLOW_STARTING ? "Starting…" : "Checking the code…"},
              {.name = "csrf", .text = visitor->visit.csrf}, {.name = "id", .text = flow->id});
}

/* --- the page ------------------------------------------------------------------------------ */

/* The state that the page shows. */
struct scene {
    struct account account;
    struct login_flow_view flow; /* id "": there was no login */
    bool busy;                   /* a login is starting or being verified */
    char key[128];               /* changes when the page must change */
};

static void look(struct api *api, struct scene *scene)
{
    struct err ignored;
    *scene = (struct scene){.busy = false};
    account_look(api, &scene->account);
    if (login_flow_get(api->flow, NULL, &scene->flow, &ignored))
        scene->flow.id[0] = '\0';
    bool any = scene->flow.id[0] != '\0';
    scene->busy = any && (scene->flow.state == LOGIN_FLOW_STARTING ||
                          scene->flow.state == LOGIN_FLOW_VERIFYING);
    snprintf(scene->key, sizeof(scene->key), "%s %s %s %d", scene->flow.id,
             any ? login_flow_state_name(scene->flow.state) : "",
             login_state_name(scene->account.login.state), (int)scene->account.breaker.state);
}

static void send_layout(struct http_request *req, int status, const char *title,
                        const struct scene *scene, const struct buf *leave,
                        const struct buf *content)
{
    AUTO(buf) struct buf page = BUF_INIT(PAGE_MAX), refresh = BUF_INIT(256);
    if (scene && scene->busy)
        buf_adds(&refresh, "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>");
    PAGE_FILL(page_layout_html, &page, {.name = "title", .text = title},
              {.name = "refresh", .part = &refresh},
              {.name = "key", .text = scene ? scene->key : ""},
              {.name = "pace",
               .text = !scene        ? "0"
                       : scene->busy ? PACE_FAST
                                     : PACE_SLOW},
              {.name = "leave", .part = leave}, {.name = "content", .part = content},
              {.name = "version", .text = RUNNER_VERSION});
    page_send(req, status, HTML, &page);
}

static void send_enter(struct http_request *req, int status, struct visitor *visitor,
                       const char *complaint)
{
    AUTO(buf) struct buf notice = BUF_INIT(4096), content = BUF_INIT(PAGE_MAX);
    struct buf nothing = BUF_INIT(0);
    if (strlen(visitor->guest) != ID_TOKEN_SIZE - 1)
        id_token(visitor->guest);
    page_set_cookie(req, "/login", GUEST_COOKIE, visitor->guest, VISIT_MS / 1000);
    add_notice("bad", complaint, &notice);
    PAGE_FILL(page_enter_html, &content, {.name = "notice", .part = &notice},
              {.name = "csrf", .text = visitor->guest});
    send_layout(req, status, "Login", NULL, &nothing, &content);
}

static void send_home(struct http_request *req, struct api *api, int status,
                      const struct visitor *visitor, const char *complaint)
{
    struct scene scene;
    AUTO(buf) struct buf content = BUF_INIT(PAGE_MAX), leave = BUF_INIT(1024);
    look(api, &scene);
    add_notice("bad", complaint, &content);
    if (scene.flow.id[0])
        add_outcome(&scene.flow, &content);
    if (scene.busy)
        add_wait(visitor, &scene.flow, &content);
    else if (scene.flow.id[0] && scene.flow.state == LOGIN_FLOW_AWAITING_CODE)
        add_code(visitor, &scene.flow, &content);
    account_print(&scene.account, &content);
    if (!scene.flow.id[0] || !login_flow_state_is_active(scene.flow.state))
        add_start(visitor, scene.account.login.state == LOGIN_OK, account_is_fine(&scene.account),
                  &content);
    buf_addf(&leave,
             "<form method=\"post\" action=\"/login/leave\"><input type=\"hidden\" name=\"csrf\" "
             "value=\"%s\"><button class=\"quiet\" type=\"submit\">Sign out</button></form>",
             visitor->visit.csrf);
    send_layout(req, status, "Login", &scene, &leave, &content);
}

void login_page(struct http_request *req, void *arg)
{
    struct visitor visitor;
    find_visitor(req, arg, &visitor);
    if (visitor.known)
        send_home(req, arg, 200, &visitor, NULL);
    else
        send_enter(req, 200, &visitor, NULL);
}

void login_state(struct http_request *req, void *arg)
{
    struct visitor visitor;
    struct scene scene;
    struct json_writer w;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    find_visitor(req, arg, &visitor);
    if (!visitor.known) {
        err_set(&err, ERR_FORBIDDEN, "forbidden");
        send_err(req, &err);
        return;
    }
    look(arg, &scene);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "key", scene.key);
    json_close(&w);
    send_json(req, 200, &out);
}

static void send_file(struct http_request *req, const char *type, const char *text)
{
    AUTO(buf) struct buf body = BUF_INIT(PAGE_MAX);
    buf_adds(&body, text);
    page_send(req, 200, type, &body);
}

void login_css(struct http_request *req, void *arg)
{
    (void)arg;
    send_file(req, "text/css; charset=utf-8", page_login_css);
}

void login_js(struct http_request *req, void *arg)
{
    (void)arg;
    send_file(req, "text/javascript; charset=utf-8", page_login_js);
}

/* --- forms --------------------------------------------------------------------------------- */

static bool is_form(const struct http_request *req)
{
    static const char wanted[] = "application/x-www-form-urlencoded";
    const char *type = http_header(req, "Content-Type");
    size_t n = type ? strcspn(type, "; \t") : 0;
    return n == strlen(wanted) && strncasecmp(type, wanted, n) == 0;
}

/* True unless the browser says that the request comes from another site. */
static bool is_from_here(const struct http_request *req)
{
    const char *site = http_header(req, "Sec-Fetch-Site");
    return !site || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
}

/* Reads and splits the form in the body. False after an error was sent. */
static bool read_form(struct http_request *req, struct buf *body, struct posted *posted)
{
    struct err err;
    int rc = !is_form(req) ? err_set(&err, ERR_MEDIA_TYPE, "this takes a form")
             : http_body(req, FORM_MAX, body, &err) ? -1
             : body->len == 0 ? err_set(&err, ERR_INVALID, "the form is empty")
                              : posted_parse(body->data, body->len, posted, &err);
    if (rc)
        send_err(req, &err);
    return rc == 0;
}

static bool has_token(const struct http_request *req, const struct posted *posted,
                      const char *token)
{
    const char *sent = posted_get(posted, "csrf");
    return sent && strlen(token) == ID_TOKEN_SIZE - 1 && is_from_here(req) &&
           crypto_equal(sent, strlen(sent), token, strlen(token));
}

/* Reads the form of a browser that may send it. False after the page was sent instead. */
static bool take_form(struct http_request *req, struct api *api, struct buf *body,
                      struct posted *posted, struct visitor *visitor)
{
    find_visitor(req, api, visitor);
    if (!read_form(req, body, posted))
        return false;
    if (!visitor->known) {
        send_enter(req, 403, visitor, "Your visit has ended. Give the secret again.");
        return false;
    }
    if (!has_token(req, posted, visitor->visit.csrf)) {
        send_home(req, api, 403, visitor, "That form was out of date. Try again.");
        return false;
    }
    return true;
}

static void refuse_secret(struct http_request *req, struct api *api, struct visitor *visitor)
{
    char text[80], seconds[16];
    int wait = note_wrong_secret(api, req);
    if (wait > 0) {
        snprintf(seconds, sizeof(seconds), "%d", wait);
        http_add_header(req, "Retry-After", seconds);
        snprintf(text, sizeof(text), "Too many wrong secrets. Try again in %d s.", wait);
        send_enter(req, 429, visitor, text);
    } else {
        send_enter(req, 403, visitor, "That is not the secret.");
    }
}

void login_enter(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct posted posted;
    struct visitor visitor;
    AUTO(buf_wipe) struct buf body = BUF_INIT(FORM_MAX);
    find_visitor(req, api, &visitor);
    if (!read_form(req, &body, &posted))
        return;
    const char *secret = posted_get(&posted, "secret");
    if (!has_token(req, &posted, visitor.guest)) {
        send_enter(req, 403, &visitor, "That form was out of date. Try again.");
    } else if (!secret || !is_secret(api, secret)) {
        refuse_secret(req, api, &visitor);
    } else {
        visits_add(api->visits, secret, 0, &visitor.visit);
        AUTO(str) char *name = secret_name(api, secret);
        record_action(api, req, "login.enter", name, NULL, NULL);
        page_set_cookie(req, "/login", VISIT_COOKIE, visitor.visit.cookie, VISIT_MS / 1000);
        page_set_cookie(req, "/login", GUEST_COOKIE, "", 0);
        page_redirect(req, "/login");
    }
}

void login_leave(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct posted posted;
    struct visitor visitor;
    AUTO(buf_wipe) struct buf body = BUF_INIT(FORM_MAX);
    if (!take_form(req, api, &body, &posted, &visitor))
        return;
    visits_remove(api->visits, visitor.visit.cookie);
    page_set_cookie(req, "/login", VISIT_COOKIE, "", 0);
    page_redirect(req, "/login");
}

/* Redirects to the page, which shows the outcome, or shows the page with the error. */
static void finish(struct http_request *req, struct api *api, const struct visitor *visitor, int rc,
                   const struct err *err)
{
    if (rc)
        send_home(req, api, err_http(err->code), visitor, err->msg);
    else
        page_redirect(req, "/login");
}

void login_start(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct posted posted;
    struct visitor visitor;
    struct login_flow_view view;
    struct err err;
    AUTO(buf_wipe) struct buf body = BUF_INIT(FORM_MAX);
    if (take_form(req, api, &body, &posted, &visitor))
        finish(req, api, &visitor, login_flow_begin(api->flow, &view, &err), &err);
}

void login_code(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct posted posted;
    struct visitor visitor;
    struct login_flow_view view;
    struct err err;
    AUTO(buf_wipe) struct buf body = BUF_INIT(FORM_MAX);
    if (!take_form(req, api, &body, &posted, &visitor))
        return;
    const char *id = posted_get(&posted, "login"), *code = posted_get(&posted, "code");
    finish(req, api, &visitor,
           login_flow_code(api->flow, id ? id : "", code ? code : "", &view, &err), &err);
}

void login_cancel(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct posted posted;
    struct visitor visitor;
    struct login_flow_view view;
    struct err err;
    AUTO(buf_wipe) struct buf body = BUF_INIT(FORM_MAX);
    if (!take_form(req, api, &body, &posted, &visitor))
        return;
    const char *id = posted_get(&posted, "login");
    finish(req, api, &visitor, login_flow_cancel(api->flow, id ? id : "", &view, &err), &err);
}
