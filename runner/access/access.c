#include "runner/access/access.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/thread.h"
#include "net/net.h"
#include "runner/access/jwks.h"
#include "runner/access/jwt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEAM_SUFFIX ".cloudflareaccess.com"
#define CERTS_PATH "/cdn-cgi/access/certs"
#define FILE_NAME "access-keys"
#define CALL_MS 5000
#define TICK_MS 1000
#define EVERY_MS                                                                                 \
    (6 * 3600000)              /* Cloudflare rotates its keys every six weeks; the old key stays \
                                * valid for a week. */
#define UNKNOWN_EVERY_MS 30000 /* between two fetches for unknown keys */
#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS 600000
#define WAIT_MS 2000
#define WAITERS_MAX 4 /* HTTP workers that may wait for a key at the same time */

struct access {
    char *iss, *aud, *url, *path;
    struct thread thread;

    struct lock lock; /* guards the fields below; not held across I/O */
    pthread_cond_t turned;
    bool stopping, wanted, fetching;
    struct jwks *keys;
    uint64_t fetches; /* counts finished fetches */
    int waiters;
    int64_t fetch_mono_ms; /* when the next fetch is due */
    int64_t asked_mono_ms; /* when a token last caused a fetch; 0: never */
    int64_t retry_ms;      /* 0: the last fetch succeeded */
};

/* --- keys ---------------------------------------------------------------------------------- */

static struct jwks *keys_of(struct access *access)
{
    lock_take(&access->lock);
    struct jwks *keys = jwks_ref(access->keys);
    lock_drop(&access->lock);
    return keys;
}

/* The file holds the URL, a line end, and the keys from there. Keys of another URL are not used. */
static struct jwks *read_file(const struct access *access, struct err *err)
{
    size_t url_len = strlen(access->url);
    AUTO(buf) struct buf text = BUF_INIT(JWKS_BYTES_MAX + 8192);
    if (file_read(access->path, &text, err))
        return NULL;
    if (text.len <= url_len || memcmp(text.data, access->url, url_len) != 0 ||
        text.data[url_len] != '\n') {
        err_set(err, ERR_NOT_FOUND, "the keys on the disk are another team's");
        return NULL;
    }
    return jwks_parse(text.data + url_len + 1, text.len - url_len - 1, err);
}

static void write_file(const struct access *access, const struct buf *body)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(JWKS_BYTES_MAX + 8192);
    buf_addf(&text, "%s\n", access->url);
    buf_add(&text, buf_str(body), body->len);
    if (buf_check(&text, "the keys", &err) ||
        file_replace(access->path, text.data, text.len, 0600, &err))
        log_warn("access", "the keys could not be kept on the disk: %s", err.msg);
}

static struct jwks *fetch(const struct access *access, struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    const struct net_request request = {.method = "GET",
                                        .url = access->url,
                                        .reach = NET_TRUSTED,
                                        .total_ms = CALL_MS,
                                        .answer_max = JWKS_BYTES_MAX};
    if (net_call(&request, &answer, err))
        return NULL;
    if (answer.status != 200) {
        err_set(err, ERR_UPSTREAM, "it answered %d", answer.status);
        return NULL;
    }
    struct jwks *keys = jwks_parse(buf_str(&answer.body), answer.body.len, err);
    if (keys)
        write_file(access, &answer.body);
    return keys;
}

/* --- the thread ---------------------------------------------------------------------------- */

/* Takes ownership of `keys`. */
static void note_fetch_locked(struct access *access, struct jwks *keys) HOLDS(access->lock);
static void note_fetch_locked(struct access *access, struct jwks *keys)
{
    int64_t now = clock_mono_ms();
    access->fetches++;
    access->fetching = false;
    if (keys) {
        jwks_unref(access->keys);
        access->keys = keys;
        access->retry_ms = 0;
        access->fetch_mono_ms = now + EVERY_MS;
    } else {
        access->retry_ms = access->retry_ms == 0                 ? RETRY_MIN_MS
                           : access->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS
                                                                 : access->retry_ms * 2;
        access->fetch_mono_ms = now + access->retry_ms;
    }
    pthread_cond_broadcast(&access->turned);
}

static void fetch_now_locked(struct access *access) HOLDS(access->lock);
static void fetch_now_locked(struct access *access)
{
    struct err err = ERR_INIT;
    access->wanted = false;
    access->fetching = true;
    lock_drop(&access->lock);
    struct jwks *keys = fetch(access, &err);
    if (keys)
        log_info("access", "%zu keys from '%s'", jwks_count(keys), access->url);
    else
        log_warn("access", "no keys from '%s': %s", access->url, err.msg);
    lock_take(&access->lock);
    note_fetch_locked(access, keys);
}

static void *keep_keys(void *arg)
{
    struct access *access = arg;
    struct timespec until;
    lock_take(&access->lock);
    while (!access->stopping) {
        if (access->wanted || clock_mono_ms() >= access->fetch_mono_ms) {
            fetch_now_locked(access);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_MS / 1000;
        pthread_cond_timedwait(&access->turned, &access->lock.mutex, &until);
    }
    lock_drop(&access->lock);
    return NULL;
}

/* A token names an unknown key: has the keys fetched and waits for that, unless the key has come
 * meanwhile, the last fetch was too recent, or too many callers wait already. */
static void want_keys(struct access *access, const char *kid)
{
    struct timespec until;
    int64_t now = clock_mono_ms();
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_MS / 1000;
    lock_take(&access->lock);
    if (jwks_find(access->keys, kid)) {
        lock_drop(&access->lock);
        return;
    }
    uint64_t seen = access->fetches;
    bool soon = access->asked_mono_ms != 0 && now - access->asked_mono_ms < UNKNOWN_EVERY_MS;
    bool coming = access->fetching || access->wanted || now >= access->fetch_mono_ms;
    if (!coming && !soon) {
        access->asked_mono_ms = now;
        access->wanted = coming = true;
        pthread_cond_broadcast(&access->turned);
    }
    if (coming && access->waiters < WAITERS_MAX) {
        access->waiters++;
        while (access->fetches == seen && !access->stopping &&
               pthread_cond_timedwait(&access->turned, &access->lock.mutex, &until) == 0)
            continue;
        access->waiters--;
    }
    lock_drop(&access->lock);
}

/* --- checking ------------------------------------------------------------------------------ */

int access_check(struct access *access, const char *assertion, struct err *err)
{
    AUTO(jwt) struct jwt jwt = {0};
    if (!assertion)
        return err_set(err, ERR_FORBIDDEN, "there is no assertion");
    if (jwt_parse(assertion, &jwt, err))
        return -1;
    AUTO(jwks) struct jwks *keys = keys_of(access);
    if (!jwks_find(keys, jwt.kid)) {
        want_keys(access, jwt.kid);
        jwks_unref(keys);
        keys = keys_of(access);
    }
    const struct crypto_rsa *key = jwks_find(keys, jwt.kid);
    if (!key)
        return err_set(err, ERR_FORBIDDEN, "the token's key is not among the team's");
    if (!crypto_rs256_is_valid(key, assertion, jwt.signed_len, buf_str(&jwt.signature),
                               jwt.signature.len))
        return err_set(err, ERR_FORBIDDEN, "the token's signature is wrong");
    return jwt_check_claims(buf_str(&jwt.claims), jwt.claims.len, access->iss, access->aud,
                            clock_real_ms(), err);
}

/* --- life ---------------------------------------------------------------------------------- */

static char *print(const char *a, const char *b)
{
    char *text = NULL;
    return asprintf(&text, "%s%s", a, b) < 0 ? NULL : text;
}

static int fill(struct access *access, const struct access_config *config, struct err *err)
{
    const char *suffix = strchr(config->team_domain, '.') ? "" : TEAM_SUFFIX;
    AUTO(str) char *domain = print(config->team_domain, suffix);
    access->iss = domain ? print("https://", domain) : NULL;
    access->aud = strdup(config->aud);
    access->url = config->certs_url ? strdup(config->certs_url)
                  : access->iss     ? print(access->iss, CERTS_PATH)
                                    : NULL;
    access->path = path_join(config->state_dir, FILE_NAME);
    return access->iss && access->aud && access->url && access->path ? 0 : err_sys(err, "access");
}

struct access *access_new(const struct access_config *config, struct err *err)
{
    REQUIRE(config->team_domain && config->aud && config->state_dir);
    pthread_condattr_t attr;
    struct err reason = ERR_INIT;
    struct access *access = calloc(1, sizeof(*access));
    if (!access) {
        err_sys(err, "access");
        return NULL;
    }
    lock_init(&access->lock);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&access->turned, &attr);
    pthread_condattr_destroy(&attr);
    if (fill(access, config, err)) {
        access_free(access);
        return NULL;
    }
    access->fetch_mono_ms = clock_mono_ms();
    access->keys = read_file(access, &reason);
    if (!access->keys && reason.code != ERR_NOT_FOUND)
        log_warn("access", "the keys on the disk are of no use: %s", reason.msg);
    return access;
}

int access_start(struct access *access, struct err *err)
{
    return thread_start(&access->thread, "access-keys", THREAD_STACK_DEFAULT, keep_keys, access,
                        err);
}

void access_free(struct access *access)
{
    if (!access)
        return;
    lock_take(&access->lock);
    access->stopping = true;
    pthread_cond_broadcast(&access->turned);
    lock_drop(&access->lock);
    thread_join(&access->thread);
    jwks_unref(access->keys);
    pthread_cond_destroy(&access->turned);
    lock_done(&access->lock);
    free(access->iss);
    free(access->aud);
    free(access->url);
    free(access->path);
    free(access);
}
