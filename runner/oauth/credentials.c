#include "runner/oauth/credentials.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"
#include "json/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    const char *sentence;
} states[] = {
#define STATE_ROW(name, wire, sentence) [name] = {wire, sentence},
    LOGIN_STATES(STATE_ROW)
#undef STATE_ROW
};

const char *login_state_name(enum login_state state)
{
    return states[state].name;
}

const char *login_state_sentence(enum login_state state)
{
    return states[state].sentence;
}

/* Reads a time: a number or text of milliseconds (or seconds, by its size), or RFC 3339. */
static int64_t parse_time(const struct json *node)
{
    int64_t value = 0;
    double number;
    const char *text = json_text(node);
    struct tm tm = {0};
    if (json_number(node, &number) == 0) /* Milliseconds may have a fraction. */
        value = number > 0 && number < (double)JSON_INT_MAX ? (int64_t)number : 0;
    else if (text && str_to_int(text, 0, JSON_INT_MAX, &value))
        value = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000 : 0;
    return value < INT64_C(100000000000) ? value * 1000 : value;
}

/* Copies a token, which must fit into a header: printable ASCII without spaces. NULL for anything
 * else; the caller frees it. */
static char *copy_token(const struct json *node)
{
    const char *text = json_text(node);
    if (!text || !*text)
        return NULL;
    for (const char *p = text; *p; p++)
        if (!isgraph((unsigned char)*p))
            return NULL;
    return strdup(text);
}

static char *copy_scopes(const struct json *node)
{
    AUTO(buf) struct buf text = BUF_INIT(16384);
    if (json_text(node))
        return strdup(json_text(node));
    for (const struct json *at = json_first(node); at; at = json_next(at))
        if (json_text(at))
            buf_addf(&text, "%s%s", text.len > 0 ? " " : "", json_text(at));
    return buf_steal(&text);
}

void login_parse(const char *text, size_t len, struct login *ret_login)
{
    struct err err;
    AUTO(json) struct json *root = json_parse(text, len, &err);
    *ret_login = (struct login){0};
    const struct json *nested = json_get(root, "claudeAiOauth");
    const struct json *object = nested ? nested : root; /* Older files have no inner object. */
    ret_login->access_token = copy_token(json_get(object, "accessToken"));
    if (!ret_login->access_token)
        return;
    const char *subscription = json_text(json_get(object, "subscriptionType"));
    ret_login->refresh_token = copy_token(json_get(object, "refreshToken"));
    ret_login->expires_ms = parse_time(json_get(object, "expiresAt"));
    ret_login->login_expires_ms = parse_time(json_get(object, "refreshTokenExpiresAt"));
    ret_login->subscription = subscription ? strdup(subscription) : NULL;
    ret_login->scopes = copy_scopes(json_get(object, "scopes"));
}

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void login_done(struct login *login)
{
    wipe(login->access_token);
    wipe(login->refresh_token);
    free(login->subscription);
    free(login->scopes);
    *login = (struct login){0};
}

/* --- rewriting ----------------------------------------------------------------------------- */

/* Writes a time in the form of the member that was there, because its writer reads that form. */
static void write_time(struct json_writer *w, const struct json *member, int64_t ms)
{
    char number[32];
    snprintf(number, sizeof(number), "%lld", (long long)ms);
    if (json_type(member) == JSON_STRING)
        json_add_text(w, json_name(member), number);
    else
        json_add_raw(w, json_name(member), number, strlen(number));
}

/* Writes a member with its new value when it is one of the tokens; true when it was. */
static bool replace_member(struct json_writer *w, const struct json *member,
                           const struct login_tokens *tokens)
{
    const char *name = json_name(member);
    if (strcmp(name, "accessToken") == 0) {
        json_add_text(w, name, tokens->access_token);
    } else if (strcmp(name, "refreshToken") == 0 && tokens->refresh_token) {
        json_add_text(w, name, tokens->refresh_token);
    } else if (strcmp(name, "expiresAt") == 0 && tokens->expires_ms > 0) {
        write_time(w, member, tokens->expires_ms);
    } else if (strcmp(name, "refreshTokenExpiresAt") == 0 && tokens->login_expires_ms > 0) {
        write_time(w, member, tokens->login_expires_ms);
    } else {
        return false;
    }
    return true;
}

static void rewrite_object(struct json_writer *w, const char *name, const char *text, size_t len,
                           const struct json *object, const struct login_tokens *tokens)
{
    size_t raw_len;
    json_open_object(w, name);
    for (const struct json *at = json_first(object); at; at = json_next(at)) {
        const char *raw = json_raw_member(text, len, json_name(at), &raw_len);
        if (!replace_member(w, at, tokens) && raw)
            json_add_raw(w, json_name(at), raw, raw_len);
    }
    if (!json_get(object, "refreshToken") && tokens->refresh_token)
        json_add_text(w, "refreshToken", tokens->refresh_token);
    if (!json_get(object, "expiresAt") && tokens->expires_ms > 0)
        json_add_int(w, "expiresAt", tokens->expires_ms);
    if (!json_get(object, "refreshTokenExpiresAt") && tokens->login_expires_ms > 0)
        json_add_int(w, "refreshTokenExpiresAt", tokens->login_expires_ms);
    json_close(w);
}

int login_rewrite(const char *text, size_t len, const struct login_tokens *tokens, struct buf *out,
                  struct err *err)
{
    REQUIRE(tokens->access_token);
    struct json_writer w;
    size_t inner_len, raw_len;
    AUTO(json) struct json *root = json_parse(text, len, err);
    if (!root)
        return -1;
    json_write(&w, out);
    const struct json *nested = json_get(root, "claudeAiOauth");
    if (!nested) {
        rewrite_object(&w, NULL, text, len, root, tokens);
        return buf_check(out, "the credentials", err);
    }
    const char *inner = json_raw_member(text, len, "claudeAiOauth", &inner_len);
    json_open_object(&w, NULL);
    for (const struct json *at = json_first(root); at; at = json_next(at)) {
        const char *raw = json_raw_member(text, len, json_name(at), &raw_len);
        if (at == nested)
            rewrite_object(&w, json_name(at), inner, inner_len, nested, tokens);
        else
            json_add_raw(&w, json_name(at), raw, raw_len);
    }
    json_close(&w);
    return buf_check(out, "the credentials", err);
}
