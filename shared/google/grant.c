/* How each kind of identity gets its access token. */
#include "base/clock.h"
#include "base/form.h"
#include "base/str.h"
#include "google/identity.h"
#include "google/limits.h"
#include "google/retry.h"
#include "net/net.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE "https://www.googleapis.com/auth/cloud-platform"
#define JWT_GRANT "urn:ietf:params:oauth:grant-type:jwt-bearer"
#define JWT_SECONDS 3600
#define LIFE_MAX_S 86400
#define GIVEN_LIFE_MS 3600000 /* at most; at its end the token is refused */
#define LIFE_UNSAID_S 3600    /* Google's default */

/* --- one question to a token endpoint ------------------------------------------------------- */

/* Reports the error of a token endpoint (RFC 6749, or an API's form) without any secret. */
static int refused(const struct net_answer *answer, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *body = json_parse(buf_str(&answer->body), answer->body.len, &ignored);
    const struct json *error = json_get(body, "error");
    const char *code = json_text(error) ? json_text(error) : json_text(json_get(error, "status"));
    const char *words = json_text(error) ? json_text(json_get(body, "error_description"))
                                         : json_text(json_get(error, "message"));
    enum err_code mine = answer->status >= 500   ? ERR_UPSTREAM
                         : answer->status == 429 ? ERR_RATE
                                                 : ERR_FORBIDDEN;
    AUTO(buf) struct buf clean = BUF_INIT(1024);
    retry_add_words(&clean, words ? words : "", 160);
    return err_set(err, mine, "HTTP %d%s%.40s%s%s", answer->status, code ? " " : "",
                   code ? code : "", clean.len ? ": " : "", buf_str(&clean));
}

/* Sends the question, again after no answer, 429 and 5xx. Repeating it changes nothing. */
static int ask(struct net_request *request, int total_ms, struct net_answer *ret_answer,
               struct err *err)
{
    struct retry retry = retry_begin(total_ms, NULL, NULL);
    for (;;) {
        request->total_ms = (int)retry_left_ms(&retry) / 2 + 1; /* A try that hangs must leave time
                                                                 * for another. */
        AUTO(net_answer) struct net_answer answer = {0};
        int64_t after_ms = -1;
        int rc = net_call(request, &answer, err);
        if (rc == 0 && answer.status >= 200 && answer.status < 300) {
            *ret_answer = answer;
            answer = (struct net_answer){0};
            return 0;
        }
        if (rc == 0) {
            refused(&answer, err);
            after_ms = retry_after(&answer.head);
        }
        if ((err->code != ERR_UPSTREAM && err->code != ERR_RATE && err->code != ERR_TIMEOUT) ||
            !retry_pause(&retry, after_ms))
            return -1;
    }
}

/* Reads whole seconds from a member that is a number or digits; RFC 6749 allows it to be
 * missing. */
static int seconds_of(const struct json *node, int64_t *ret_seconds)
{
    double number = LIFE_UNSAID_S;
    int64_t digits;
    bool missing = !node || json_type(node) == JSON_NULL;
    if (json_text(node) && str_to_int(json_text(node), 0, INT64_MAX, &digits) == 0)
        number = (double)digits;
    else if (!missing && json_number(node, &number))
        return -1;
    *ret_seconds = number < LIFE_MAX_S ? (int64_t)number : LIFE_MAX_S;
    return number < 0 ? -1 : 0;
}

static int take_token(const struct json *body, const char *name, struct buf *ret_token,
                      struct err *err)
{
    const char *token = json_text(json_get(body, name));
    if (!token || !form_is_token(token))
        return err_set(err, ERR_UPSTREAM, "the answer holds no \"%s\"", name);
    return buf_adds(ret_token, token) ? buf_check(ret_token, "the access token", err) : 0;
}

/* Reads the answer of RFC 6749, which the metadata server uses as well. */
static int take_grant(const struct net_answer *answer, struct buf *ret_token, int64_t *ret_life_ms,
                      struct err *err)
{
    int64_t seconds;
    AUTO(json) struct json *body = json_parse(buf_str(&answer->body), answer->body.len, err);
    if (!body) {
        err->code = ERR_UPSTREAM;
        return -1;
    }
    if (seconds_of(json_get(body, "expires_in"), &seconds))
        return err_set(err, ERR_UPSTREAM, "the answer's \"expires_in\" is no number of seconds");
    *ret_life_ms = seconds * 1000;
    return take_token(body, "access_token", ret_token, err);
}

static int post_form(const char *url, int total_ms, const struct buf *form, struct buf *ret_token,
                     int64_t *ret_life_ms, struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    strlist_add(&headers, "Content-Type: application/x-www-form-urlencoded");
    strlist_add(&headers, "Accept: application/json");
    struct net_request request = {.method = "POST",
                                  .url = url,
                                  .headers = &headers,
                                  .body = form->data,
                                  .body_len = form->len,
                                  .reach = NET_TRUSTED,
                                  .answer_max = TOKEN_ANSWER_MAX};
    int rc = buf_check(form, "the request", err);
    if (rc == 0)
        rc = ask(&request, total_ms, &answer, err);
    if (rc == 0)
        rc = take_grant(&answer, ret_token, ret_life_ms, err);
    buf_wipe(&answer.body);
    return rc;
}

/* --- service account keys ------------------------------------------------------------------- */

static void add_part(struct buf *jwt, const struct buf *json)
{
    str_add_base64(jwt, BASE64_URL, buf_str(json), json->len);
}

/* RFC 7523: an assertion signed by the key itself, for the token endpoint only. */
static int add_assertion(const struct identity *identity, struct buf *out, struct err *err)
{
    int64_t now_s = clock_real_ms() / 1000;
    struct json_writer w;
    AUTO(buf) struct buf header = BUF_INIT(4096), claims = BUF_INIT(8192);
    AUTO(buf) struct buf signature = BUF_INIT(4096);
    AUTO(buf_wipe) struct buf jwt = BUF_INIT(32768);
    json_write(&w, &header);
    json_open_object(&w, NULL);
    json_add_text(&w, "alg", "RS256");
    json_add_text(&w, "typ", "JWT");
    if (identity->key_id)
        json_add_text(&w, "kid", identity->key_id);
    json_close(&w);
    json_write(&w, &claims);
    json_open_object(&w, NULL);
    json_add_text(&w, "iss", identity->email);
    json_add_text(&w, "scope", SCOPE);
    json_add_text(&w, "aud", identity->token_url);
    json_add_int(&w, "iat", now_s);
    json_add_int(&w, "exp", now_s + JWT_SECONDS);
    json_close(&w);
    add_part(&jwt, &header);
    buf_addc(&jwt, '.');
    add_part(&jwt, &claims);
    if (buf_check(&jwt, "the assertion", err) ||
        crypto_rs256_sign(identity->key, jwt.data, jwt.len, &signature, err))
        return -1;
    buf_addc(&jwt, '.');
    add_part(&jwt, &signature);
    return buf_add(out, buf_str(&jwt), jwt.len);
}

static int ask_by_key(struct identity *identity, int total_ms, struct buf *ret_token,
                      int64_t *ret_life_ms, struct err *err)
{
    AUTO(buf_wipe) struct buf form = BUF_INIT(65536);
    buf_adds(&form, "grant_type=");
    str_add_url(&form, JWT_GRANT, "");
    buf_adds(&form, "&assertion=");
    if (add_assertion(identity, &form, err))
        return -1;
    return post_form(identity->token_url, total_ms, &form, ret_token, ret_life_ms, err);
}

/* --- a person's login ----------------------------------------------------------------------- */

static int ask_by_refresh(struct identity *identity, int total_ms, struct buf *ret_token,
                          int64_t *ret_life_ms, struct err *err)
{
    AUTO(buf_wipe) struct buf form = BUF_INIT(65536);
    buf_adds(&form, "grant_type=refresh_token&client_id=");
    str_add_url(&form, identity->client_id, "");
    buf_adds(&form, "&client_secret=");
    str_add_url(&form, identity->client_secret, "");
    buf_adds(&form, "&refresh_token=");
    str_add_url(&form, identity->refresh_token, "");
    return post_form(identity->token_url, total_ms, &form, ret_token, ret_life_ms, err);
}

/* --- impersonation -------------------------------------------------------------------------- */

static void add_impersonation(const struct identity *identity, struct buf *body)
{
    struct json_writer w;
    json_write(&w, body);
    json_open_object(&w, NULL);
    json_open_array(&w, "scope");
    json_add_text(&w, NULL, SCOPE);
    json_close(&w);
    json_add_text(&w, "lifetime", "3600s");
    if (identity->delegates.count > 0) {
        json_add_texts(&w, "delegates", &identity->delegates);
    }
    json_close(&w);
}

static int take_impersonated(const struct net_answer *answer, struct buf *ret_token,
                             int64_t *ret_life_ms, struct err *err)
{
    int64_t end_ms;
    AUTO(json) struct json *body = json_parse(buf_str(&answer->body), answer->body.len, err);
    if (!body) {
        err->code = ERR_UPSTREAM;
        return -1;
    }
    const char *end = json_text(json_get(body, "expireTime"));
    if (!end || clock_parse(end, &end_ms))
        return err_set(err, ERR_UPSTREAM, "the answer holds no \"expireTime\"");
    int64_t life_ms = end_ms - clock_real_ms();
    *ret_life_ms = life_ms < 0 ? 0 : life_ms > LIFE_MAX_S * 1000 ? LIFE_MAX_S * 1000 : life_ms;
    return take_token(body, "accessToken", ret_token, err);
}

static int post_impersonation(struct identity *identity, int total_ms, const char *source_token,
                              struct net_answer *ret_answer, struct err *err)
{
    AUTO(buf) struct buf body = BUF_INIT(65536);
    struct strlist headers = STRLIST_INIT;
    add_impersonation(identity, &body);
    strlist_add(&headers, "Content-Type: application/json");
    strlist_addf(&headers, "Authorization: Bearer %s", source_token);
    struct net_request request = {.method = "POST",
                                  .url = identity->token_url,
                                  .headers = &headers,
                                  .body = body.data,
                                  .body_len = body.len,
                                  .reach = NET_TRUSTED,
                                  .answer_max = TOKEN_ANSWER_MAX};
    int rc = buf_check(&body, "the request", err);
    if (rc == 0)
        rc = ask(&request, total_ms, ret_answer, err);
    strlist_wipe(&headers);
    return rc;
}

static int ask_by_impersonation(struct identity *identity, int total_ms, struct buf *ret_token,
                                int64_t *ret_life_ms, struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(buf_wipe) struct buf source = BUF_INIT(TOKEN_BYTES_MAX);
    if (identity_token(identity->source, &source, err))
        return -1;
    int rc = post_impersonation(identity, total_ms, buf_str(&source), &answer, err);
    if (rc && str_starts(err->msg, "HTTP 401")) { /* The token was revoked early: try once more. */
        identity_drop(identity->source, buf_str(&source));
        buf_clear(&source);
        rc = identity_token(identity->source, &source, err);
        if (rc == 0)
            rc = post_impersonation(identity, total_ms, buf_str(&source), &answer, err);
    }
    if (rc == 0)
        rc = take_impersonated(&answer, ret_token, ret_life_ms, err);
    buf_wipe(&answer.body);
    return rc;
}

/* --- the metadata server -------------------------------------------------------------------- */

/* By address first: where there is no such server, looking up its name takes long. */
static const char *const metadata_hosts[] = {"169.254.169.254", "metadata.google.internal"};

static int ask_metadata_at(const struct identity *identity, const char *host,
                           struct net_answer *ret_answer, struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(buf) struct buf url = BUF_INIT(1024);
    char flavor[32];
    buf_addf(&url,
             "http://%s/computeMetadata/v1/instance/service-accounts/default/token?scopes=", host);
    str_add_url(&url, SCOPE, "");
    strlist_add(&headers, "Metadata-Flavor: Google");
    const struct net_request request = {.method = "GET",
                                        .url = buf_str(&url),
                                        .headers = &headers,
                                        .reach = NET_PLAIN,
                                        .connect_ms = METADATA_CONNECT_MS,
                                        .total_ms =
                                            identity->patience_ms ? METADATA_SLOW_MS : METADATA_MS,
                                        .answer_max = TOKEN_ANSWER_MAX};
    if (buf_check(&url, "the address", err) || net_call(&request, &answer, err))
        return -1;
    bool googles = net_header(&answer.head, "Metadata-Flavor", flavor, sizeof(flavor)) &&
                   strcmp(flavor, "Google") == 0;
    if (!googles && answer.status == 200)
        return err_set(err, ERR_NOT_FOUND, "'%s' is no metadata server of Google's", host);
    if (answer.status == 404 || (!googles && answer.status != 429))
        return err_set(err, ERR_UPSTREAM, "HTTP %d from the metadata server '%s'", answer.status,
                       host);
    if (answer.status != 200)
        return refused(&answer, err);
    *ret_answer = answer;
    answer = (struct net_answer){0};
    return 0;
}

static int find_metadata(const struct identity *identity, struct net_answer *ret_answer,
                         struct err *err)
{
    if (identity->metadata_host)
        return ask_metadata_at(identity, identity->metadata_host, ret_answer, err);
    for (size_t i = 0; i < COUNT_OF(metadata_hosts); i++)
        if (ask_metadata_at(identity, metadata_hosts[i], ret_answer, err) == 0)
            return 0;
    return -1;
}

static int no_metadata(struct err *err)
{
    return err_set(err, ERR_FORBIDDEN,
                   "no Google credentials: no file is configured, gcloud has no login here, and "
                   "there is no metadata server");
}

/* Asks the metadata server once. Where nobody said that there is one, silence means that there is
 * none. */
static int ask_metadata_once(struct identity *identity, struct net_answer *ret_answer,
                             struct err *err)
{
    if (find_metadata(identity, ret_answer, err) == 0) {
        identity->absent_ms = 0;
        return 0;
    }
    if (identity->metadata_host || identity->patience_ms > 0)
        return -1;
    identity->absent_ms = clock_mono_ms();
    return no_metadata(err);
}

static bool may_pass(const struct err *err)
{
    return err->code == ERR_UPSTREAM || err->code == ERR_RATE || err->code == ERR_TIMEOUT;
}

/* Asks the metadata server until it answers: a container may start faster than the metadata server
 * beside it, which then does not listen, is slow, or does not know the container's account yet. */
static int ask_metadata(struct identity *identity, int total_ms, struct buf *ret_token,
                        int64_t *ret_life_ms, struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    bool patient = total_ms > TOKEN_PATIENCE_MS && identity->patience_ms > total_ms;
    struct retry retry = retry_begin(patient ? identity->patience_ms : total_ms, NULL, NULL);
    if (identity->absent_ms && clock_mono_ms() - identity->absent_ms < METADATA_ABSENT_MS)
        return no_metadata(err);
    while (ask_metadata_once(identity, &answer, err))
        if (!may_pass(err) || !retry_pause(&retry, -1))
            return -1;
    int rc = take_grant(&answer, ret_token, ret_life_ms, err);
    buf_wipe(&answer.body);
    return rc;
}

/* Returns the given token. It cannot be renewed: whoever gave it must give another. */
static int take_given(struct identity *identity, int total_ms, struct buf *ret_token,
                      int64_t *ret_life_ms, struct err *err)
{
    (void)total_ms;
    if (!identity->given_token)
        return err_set(err, ERR_FORBIDDEN, "the access token is over, or was refused");
    int rc = buf_adds(ret_token, identity->given_token)
                 ? buf_check(ret_token, "the access token", err)
                 : 0;
    explicit_bzero(identity->given_token, strlen(identity->given_token));
    free(identity->given_token);
    identity->given_token = NULL;
    *ret_life_ms = GIVEN_LIFE_MS;
    return rc;
}

int identity_ask(struct identity *identity, int total_ms, struct buf *ret_token,
                 int64_t *ret_life_ms, struct err *err)
{
    static int (*const ways[])(struct identity *, int, struct buf *, int64_t *, struct err *) = {
        [IDENTITY_KEY] = ask_by_key,        [IDENTITY_USER] = ask_by_refresh,
        [IDENTITY_METADATA] = ask_metadata, [IDENTITY_IMPERSONATED] = ask_by_impersonation,
        [IDENTITY_TOKEN] = take_given,
    };
    if (ways[identity->kind](identity, total_ms, ret_token, ret_life_ms, err) == 0)
        return 0;
    bool plain = identity->kind == IDENTITY_METADATA && !identity->metadata_host;
    return plain ? -1 : err_wrap(err, "no access token for %.80s", identity->name);
}
