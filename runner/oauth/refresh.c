#include "runner/oauth/refresh.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "net/net.h"
#include "runner/oauth/login_lock.h"
#include "runner/oauth/spare.h"
#include "json/json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CALL_MS 20000
#define ASSUMED_LIFE_S 3600
#define LIFE_MAX_S (366 * 86400)
#define SCOPE \
    "user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload"

/* --- the request --------------------------------------------------------------------------- */

static void print_request(const struct config *config, const struct login *login, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "grant_type", "refresh_token");
    json_add_text(&w, "refresh_token", login->refresh_token);
    json_add_text(&w, "client_id", config->oauth_client_id);
    json_add_text(&w, "scope", login->scopes && *login->scopes ? login->scopes : SCOPE);
    json_close(&w);
}

static int ask(const struct config *config, const struct login *login,
               struct net_answer *ret_answer, struct err *err)
{
    AUTO(buf_wipe) struct buf body = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    strlist_add(&headers, "Content-Type: application/json");
    strlist_add(&headers, "Accept: application/json");
    print_request(config, login, &body);
    const struct net_request request = {.method = "POST",
                                        .url = config->oauth_token_url,
                                        .headers = &headers,
                                        .body = body.data,
                                        .body_len = body.len,
                                        .reach = NET_TRUSTED,
                                        .total_ms = CALL_MS,
                                        .answer_max = 65536};
    return buf_check(&body, "the request", err) ? -1 : net_call(&request, ret_answer, err);
}

/* The error's word, when it is a plain one: a server's message may contain anything, even what was
 * sent. */
static const char *plain_word(const char *text)
{
    bool plain = text && *text && strlen(text) <= 40 &&
                 strspn(text, "abcdefghijklmnopqrstuvwxyz_") == strlen(text);
    return plain ? text : "no reason given";
}

/* Judges a refusal: 400 or 401 with an OAuth error about the token means that it will never be
 * accepted again. */
static enum refresh_result judge_refusal(const struct net_answer *answer, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(buf_str(&answer->body), answer->body.len, &ignored);
    const char *error = json_text(json_get(root, "error"));
    if (!error) /* Anthropic's other form: {"error":{"type":…}} */
        error = json_text(json_get(json_get(root, "error"), "type"));
    bool final = (answer->status == 400 || answer->status == 401) && error &&
                 (strcmp(error, "invalid_grant") == 0 || strcmp(error, "invalid_client") == 0 ||
                  strcmp(error, "unauthorized_client") == 0);
    if (final) {
        err_set(err, ERR_LOGIN, "OAuth login needed: the token server refused the refresh (%s)",
                plain_word(error));
        return REFRESH_REFUSED;
    }
    err_set(err, ERR_UPSTREAM, "the token server answered %d (%s)", answer->status,
            plain_word(error));
    return REFRESH_FAILED;
}

/* --- the answer ---------------------------------------------------------------------------- */

/* When something with the life in `node` (in seconds) ends; without a usable value, with a life of
 * `assumed_s`, or 0 when that is 0. */
static int64_t end_of_life(const struct json *node, int assumed_s)
{
    double seconds = assumed_s;
    int64_t whole;
    if (json_text(node) && str_to_int(json_text(node), 0, LIFE_MAX_S, &whole) == 0)
        seconds = (double)whole;
    json_number(node, &seconds);
    if (!(seconds > 0))
        seconds = assumed_s;
    if (!(seconds > 0))
        return 0;
    return clock_real_ms() + (int64_t)(seconds < LIFE_MAX_S ? seconds : LIFE_MAX_S) * 1000;
}

static bool is_same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* Reads the file once more, because the answer took time. Returns 1 when a login was made
 * meanwhile, which stays; 0 to go on, with other changes taken into *text; -1 when the owner has
 * logged out. */
static int read_again(const char *path, const struct login *sent, struct buf *text, struct err *err)
{
    AUTO(buf_wipe) struct buf now = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    if (file_read(path, &now, err))
        return err->code != ERR_NOT_FOUND
                   ? 0
                   : err_set(err, ERR_LOGIN, "OAuth login needed: it was removed meanwhile");
    login_parse(buf_str(&now), now.len, &login);
    if (!login.access_token) /* The file is being written, or damaged. */
        return 0;
    if (!is_same(login.refresh_token, sent->refresh_token))
        return 1;
    buf_clear(text);
    return buf_add(text, now.data, now.len) ? buf_check(text, "the credentials", err) : 0;
}

static enum refresh_result keep_answer(struct spare *spare, const char *path,
                                       const struct login *sent, struct buf *text,
                                       const struct net_answer *answer, struct err *err)
{
    AUTO(buf_wipe) struct buf next = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(json) struct json *root = json_parse(buf_str(&answer->body), answer->body.len, err);
    const struct login_tokens tokens = {
        .access_token = json_text(json_get(root, "access_token")),
        .refresh_token = json_text(json_get(root, "refresh_token")),
        /* The old token's expiry must not remain with the new token. */
        .expires_ms = end_of_life(json_get(root, "expires_in"), ASSUMED_LIFE_S),
        .login_expires_ms = end_of_life(json_get(root, "refresh_token_expires_in"), 0)};
    if (!tokens.access_token) {
        err_set(err, ERR_UPSTREAM, "the token server's answer holds no access_token");
        return REFRESH_FAILED;
    }
    int again = read_again(path, sent, text, err);
    if (again != 0)
        return again > 0 ? REFRESH_DONE : REFRESH_FAILED;
    int rc = login_rewrite(buf_str(text), text->len, &tokens, &next, err) ||
             spare_use(spare, path, &next, &tokens, err);
    return rc ? REFRESH_FAILED : REFRESH_DONE;
}

/* --- one refresh --------------------------------------------------------------------------- */

static enum refresh_result exchange(const struct refresh *refresh, const struct login_lock *lock,
                                    const char *path, const struct login *login, struct buf *text,
                                    struct err *err)
{
    AUTO(spare) struct spare spare = SPARE_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    if (spare_make(&spare, path, err))
        return REFRESH_FAILED;
    if (!login_lock_is_ours(lock)) {
        err_set(err, ERR_BUSY, "another program has taken the lock of '%s'", path);
        return REFRESH_FAILED;
    }
    if (ask(refresh->config, login, &answer, err))
        return REFRESH_FAILED;
    enum refresh_result result = answer.status == 200
                                     ? keep_answer(&spare, path, login, text, &answer, err)
                                     : judge_refusal(&answer, err);
    if (answer.body.data)
        explicit_bzero(answer.body.data, answer.body.cap);
    return result;
}

/* True when another process was faster: the file holds another token, which is valid. */
static bool is_done(const struct refresh *refresh, const struct login *login)
{
    return refresh->old_token && !is_same(login->access_token, refresh->old_token) &&
           (login->expires_ms <= 0 || login->expires_ms > clock_real_ms());
}

static enum refresh_result refresh_locked(const struct refresh *refresh,
                                          const struct login_lock *lock, const char *path,
                                          char **ret_refused, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    int recovered = spare_recover(path, err);
    if (recovered != 0)
        return recovered < 0 ? REFRESH_FAILED : REFRESH_DONE;
    if (file_read(path, &text, err))
        return REFRESH_FAILED;
    login_parse(buf_str(&text), text.len, &login);
    if (!login.access_token || !login.refresh_token) {
        err_set(err, ERR_LOGIN, "%s",
                login.access_token ? "OAuth login needed: there is no refresh token"
                                   : login_state_sentence(LOGIN_MALFORMED));
        return REFRESH_FAILED;
    }
    if (is_done(refresh, &login))
        return REFRESH_DONE;
    enum refresh_result result = exchange(refresh, lock, path, &login, &text, err);
    if (result == REFRESH_REFUSED)
        *ret_refused = STEAL_PTR(login.refresh_token);
    return result;
}

enum refresh_result refresh_login(const struct refresh *refresh, char **ret_refused,
                                  struct err *err)
{
    char real[PATH_MAX];
    if (!realpath(refresh->path, real)) { /* A link stays, and its target is replaced. */
        err_sys(err, "cannot find '%s'", refresh->path);
        return REFRESH_FAILED;
    }
    AUTO(login_lock) struct login_lock *lock = login_lock_take(refresh->path, refresh->stop, err);
    if (!lock)
        return REFRESH_FAILED;
    return refresh_locked(refresh, lock, real, ret_refused, err);
}
