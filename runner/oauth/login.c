#include "runner/oauth/login.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "json/json.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_BYTES_MAX (1u << 20)
#define LOOK_EVERY_MS 250 /* /health must not cost a stat() each time */

struct login {
    char *path;
    pthread_mutex_t lock;
    int64_t looked_ms;
    struct stat seen;
    bool seen_any;
    struct login_status status;
    struct buf token;
};

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

/* A time as a number or text of milliseconds (or seconds, by its size), or as RFC 3339. */
static int64_t parse_time(const struct json *node)
{
    int64_t value = 0;
    const char *text = json_text(node);
    struct tm tm = {0};
    if (json_int(node, &value) && text && str_to_int(text, 0, JSON_INT_MAX, &value)) {
        const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
        return rest ? (int64_t)timegm(&tm) * 1000 : 0;
    }
    return value > 0 && value < INT64_C(100000000000) ? value * 1000 : value;
}

/* A token travels in a header: printable ASCII without spaces. */
static bool is_token(const char *text)
{
    if (!text || !*text)
        return false;
    for (; *text; text++)
        if (!isgraph((unsigned char)*text))
            return false;
    return true;
}

static void read_login(const struct json *object, int64_t now_ms, struct login_status *status)
{
    const char *subscription = json_text(json_get(object, "subscriptionType"));
    status->configured = true;
    status->refreshable = is_token(json_text(json_get(object, "refreshToken")));
    status->expires_ms = parse_time(json_get(object, "expiresAt"));
    status->token_expired = status->expires_ms > 0 && status->expires_ms <= now_ms;
    status->state = status->token_expired && !status->refreshable ? LOGIN_EXPIRED : LOGIN_OK;
    snprintf(status->subscription, sizeof(status->subscription), "%s",
             subscription ? subscription : "");
}

void login_parse(const char *text, size_t len, int64_t now_ms, struct login_status *ret_status,
                 struct buf *ret_token)
{
    struct err err;
    AUTO(json) struct json *root = json_parse(text, len, &err);
    *ret_status = (struct login_status){.state = LOGIN_MALFORMED};
    const struct json *nested = json_get(root, "claudeAiOauth");
    const struct json *object = nested ? nested : root; /* older files have no inner object */
    const char *token = json_text(json_get(object, "accessToken"));
    if (!is_token(token))
        return;
    read_login(object, now_ms, ret_status);
    if (ret_token)
        buf_adds(ret_token, token);
}

struct login *login_new(const char *config_dir)
{
    struct login *login = calloc(1, sizeof(*login));
    if (!login)
        return NULL;
    login->path = path_join(config_dir, ".credentials.json");
    buf_init(&login->token, FILE_BYTES_MAX);
    pthread_mutex_init(&login->lock, NULL);
    if (!login->path) {
        login_free(login);
        return NULL;
    }
    return login;
}

void login_free(struct login *login)
{
    if (!login)
        return;
    if (login->token.data)
        explicit_bzero(login->token.data, login->token.cap);
    buf_done(&login->token);
    pthread_mutex_destroy(&login->lock);
    free(login->path);
    free(login);
}

static void read_file_locked(struct login *login)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    buf_clear(&login->token);
    if (file_read(login->path, &text, &err)) {
        login->status = (struct login_status){
            .state = err.code == ERR_NOT_FOUND ? LOGIN_MISSING : LOGIN_UNREADABLE};
        return;
    }
    login_parse(buf_str(&text), text.len, clock_real_ms(), &login->status, &login->token);
    explicit_bzero(text.data ? text.data : (char[1]){0}, text.len);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void look_locked(struct login *login)
{
    struct stat st = {0};
    int64_t now = clock_mono_ms();
    if (login->looked_ms && now - login->looked_ms < LOOK_EVERY_MS)
        return;
    login->looked_ms = now;
    (void)stat(login->path, &st); /* a missing file looks like an empty one */
    if (!login->seen_any || !is_same_file(&st, &login->seen))
        read_file_locked(login);
    login->seen = st;
    login->seen_any = true;
    struct login_status *status = &login->status; /* time passes for an unchanged file, too */
    status->token_expired = status->expires_ms > 0 && status->expires_ms <= clock_real_ms();
    if (status->configured)
        status->state = status->token_expired && !status->refreshable ? LOGIN_EXPIRED : LOGIN_OK;
}

void login_status(struct login *login, struct login_status *ret_status)
{
    pthread_mutex_lock(&login->lock);
    look_locked(login);
    *ret_status = login->status;
    pthread_mutex_unlock(&login->lock);
}

int login_token(struct login *login, struct buf *out, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&login->lock);
    look_locked(login);
    if (login->status.state != LOGIN_OK)
        rc = err_set(err, ERR_LOGIN, "%s", login_state_sentence(login->status.state));
    else
        buf_add(out, buf_str(&login->token), login->token.len);
    pthread_mutex_unlock(&login->lock);
    return rc;
}

void login_print(const struct login_status *status, int64_t now_ms, struct buf *out)
{
    char time[CLOCK_TEXT_SIZE];
    buf_addf(out, "\"configured\":%s,\"expired\":%s", status->configured ? "true" : "false",
             status->state == LOGIN_OK ? "false" : "true");
    if (status->configured && status->expires_ms > 0) {
        double hours = (double)(status->expires_ms - now_ms) / 3600000.0;
        buf_addf(out, ",\"expires_at\":\"%s\",\"hours_remaining\":%.1f",
                 clock_format(status->expires_ms, time), hours > 0 ? hours : 0.0);
    } else {
        buf_adds(out, ",\"expires_at\":null,\"hours_remaining\":null");
    }
    buf_addf(out, ",\"refreshable\":%s,\"verified_at\":null",
             status->refreshable ? "true" : "false");
    if (status->state != LOGIN_OK)
        buf_addf(out, ",\"reason\":\"%s\"", login_state_name(status->state));
}
