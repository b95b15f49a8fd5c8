/*
 * The console: its files, and the session of a browser that uses the contract with a cookie.
 *
 * A browser gives the secret once (POST /console/session), or the token of a link that somebody
 * with the secret has made for it (POST /console/links: single use, five minutes), and then holds a
 * visit (visits.h) in a cookie that scripts and other sites cannot use. The answer has a token
 * beside it, which anything but a GET must carry as X-CSRF-Token: a page of another site knows
 * neither.
 */
#include "base/clock.h"
#include "base/str.h"
#include "runner/api/handlers.h"
#include "runner/api/page.h"
#include "runner/api/visits.h"
#include "runner/web/web.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SESSION_MS (12 * 3600 * 1000)
#define BODY_MAX 16384

/* True unless the browser says that the request comes from another site. */
static bool is_from_here(const struct http_request *req)
{
    const char *site = http_header(req, "Sec-Fetch-Site");
    return !site || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
}

static bool is_reading(const struct http_request *req)
{
    return strcmp(http_method(req), "GET") == 0 || strcmp(http_method(req), "HEAD") == 0;
}

/* The configured secret of the visit; NULL when it was removed since. */
static const struct config_secret *secret_of(const struct config *config, const struct visit *visit)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    const struct config_secret *found = NULL;
    for (size_t i = 0; i < config->secrets.count; i++) {
        const struct config_secret *one = &config->secrets.items[i];
        crypto_sha256(one->value, strlen(one->value), digest);
        if (memcmp(digest, visit->secret, sizeof(digest)) == 0)
            found = one;
    }
    return found;
}

static const struct config_secret *find_session(const struct api *api, const struct config *config,
                                                const struct http_request *req,
                                                struct visit *ret_visit)
{
    char cookie[ID_TOKEN_SIZE];
    page_cookie(req, SESSION_COOKIE, cookie, sizeof(cookie));
    if (!is_from_here(req) || !visits_find(api->visits, cookie, ret_visit))
        return NULL;
    return secret_of(config, ret_visit);
}

static bool has_csrf_token(const struct http_request *req, const struct visit *visit)
{
    const char *sent = http_header(req, "X-CSRF-Token");
    return sent && crypto_equal(sent, strlen(sent), visit->csrf, strlen(visit->csrf));
}

const struct config_secret *console_secret(const struct api *api, const struct config *config,
                                           const struct http_request *req)
{
    struct visit visit;
    const struct config_secret *secret = find_session(api, config, req, &visit);
    return secret && (is_reading(req) || has_csrf_token(req, &visit)) ? secret : NULL;
}

/* --- the session --------------------------------------------------------------------------- */

static void send_session(struct http_request *req, int status, const struct config_secret *secret,
                         const struct visit *visit)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf out = BUF_INIT(1024);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "caller", secret ? secret->name : NULL);
    json_add_text(&w, "csrf", visit ? visit->csrf : NULL);
    json_close(&w);
    http_add_header(req, "Cache-Control", "no-store");
    send_json(req, status, &out);
}

/* A page asks this before anybody has signed in, so that is no error. */
void console_session_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct visit visit;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *secret = find_session(api, config, req, &visit);
    send_session(req, 200, secret, secret ? &visit : NULL);
}

static void refuse_wrong(struct http_request *req, struct api *api)
{
    struct err err;
    char seconds[16];
    int wait = note_wrong_secret(api, req);
    if (wait > 0) {
        snprintf(seconds, sizeof(seconds), "%d", wait);
        http_add_header(req, "Retry-After", seconds);
        err_set(&err, ERR_RATE, "too many wrong secrets; try again in %d s", wait);
    } else {
        err_set(&err, ERR_FORBIDDEN, "that is not the secret");
    }
    http_send_error(req, &err, NULL);
}

/* Finds the digest of the secret in the body, or of the secret that a link's token stands for.
 * Returns 1, 0 when it is wrong, -1 when the body has neither. */
static int read_given(struct api *api, const struct json *body,
                      unsigned char ret_digest[CRYPTO_SHA256_SIZE], struct err *err)
{
    const char *secret = json_text(json_get(body, "secret"));
    const char *token = json_text(json_get(body, "token"));
    if (!secret == !token)
        return err_set(err, ERR_INVALID, "one of secret and token must be there, as a string");
    if (token)
        return visits_take_link(api->visits, token, ret_digest);
    crypto_sha256(secret, strlen(secret), ret_digest);
    return is_secret(api, secret);
}

/* Begins a session. The audit log says whether a secret or a link was used. */
static void begin_session(struct http_request *req, struct api *api, bool linked,
                          const unsigned char digest[CRYPTO_SHA256_SIZE])
{
    struct visit visit;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    visits_add_digest(api->visits, digest, SESSION_MS, &visit);
    const struct config_secret *secret = secret_of(config, &visit);
    record_action(api, req, "console.enter", secret ? secret->name : "", NULL,
                  linked ? "by a link" : NULL);
    page_set_cookie(req, "/", SESSION_COOKIE, visit.cookie, SESSION_MS / 1000);
    send_session(req, 201, secret, &visit);
}

/* Accepts JSON only, and nothing from another site, so that another site's form cannot sign a
 * browser in. */
void console_session_begin(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    const char *type = http_header(req, "Content-Type");
    AUTO(buf_wipe) struct buf body = BUF_INIT(BODY_MAX);
    if (!type || strncasecmp(type, "application/json", 16) != 0 || !is_from_here(req)) {
        err_set(&err, ERR_MEDIA_TYPE, "this takes application/json from the console itself");
        send_err(req, &err);
        return;
    }
    if (api_json_body(req, BODY_MAX, &body, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(json) struct json *root = json_parse(body.data, body.len, &err);
    unsigned char digest[CRYPTO_SHA256_SIZE];
    int given = root ? read_given(api, root, digest, &err) : -1;
    if (given < 0)
        send_err(req, &err);
    else if (given == 0)
        refuse_wrong(req, api);
    else
        begin_session(req, api, json_get(root, "token") != NULL, digest);
}

/* Makes a link for a phone. Whoever opens it first is signed in as the caller of this request. */
void console_link(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct json_writer w;
    char token[ID_TOKEN_SIZE];
    AUTO(buf_wipe) struct buf out = BUF_INIT(1024);
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *secret = caller_secret(api, config, req);
    visits_link(api->visits, secret ? secret->value : "", token);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "token", token);
    AUTO(buf_wipe) struct buf path = BUF_INIT(256);
    buf_addf(&path, "/#/enter?token=%s", token);
    json_add_text(&w, "path", buf_str(&path));
    json_add_time(&w, "expiresAt", clock_real_ms() + LINK_MS);
    json_close(&w);
    http_add_header(req, "Cache-Control", "no-store");
    send_json(req, 201, &out);
}

void console_session_end(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct visit visit;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *secret = find_session(api, config, req, &visit);
    if (secret && has_csrf_token(req, &visit)) {
        record_action(api, req, "console.leave", secret->name, NULL, NULL);
        visits_remove(api->visits, visit.cookie);
        page_set_cookie(req, "/", SESSION_COOKIE, "", 0);
    }
    send_session(req, 200, NULL, NULL);
}

/* --- files --------------------------------------------------------------------------------- */

/* A path with the version may be kept for good. The others are asked for again: the page, which
 * names the version, and what has one address for ever. */
static void add_headers(struct http_request *req, const struct web_file *file, bool is_versioned)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
         "img-src 'self' data: blob:; manifest-src 'self'; worker-src 'self'; form-action 'none'; "
         "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
         "trusted-types dompurify console"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Permissions-Policy", "camera=(), microphone=(), geolocation=()"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Service-Worker-Allowed", "/"},
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        http_add_header(req, headers[i][0], headers[i][1]);
    http_add_header(req, "Cache-Control",
                    is_versioned ? "public, max-age=31536000, immutable" : "no-cache");
    http_add_header(req, "ETag", file->etag);
}

void console_send(struct http_request *req, const char *path)
{
    struct err err;
    bool is_versioned;
    const struct web_file *file = web_find(path, &is_versioned);
    if (!file) {
        err_set(&err, ERR_NOT_FOUND, "there is no such file of the console");
        send_err(req, &err);
        return;
    }
    add_headers(req, file, is_versioned);
    int condition = http_condition(req, file->etag);
    if (condition)
        http_send(req, condition, NULL, NULL, 0);
    else
        http_send(req, 200, web_type(file), file->data, (size_t)(file->end - file->data));
}

void console_file(struct http_request *req, void *arg)
{
    (void)arg;
    console_send(req, http_param(req, "path"));
}
