#include "runner/oauth/keeper.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "runner/oauth/refresh.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_EVERY_MS 250     /* /health must not cause a stat() each time. */
#define TICK_MS 1000          /* interval of the background thread */
#define MARGIN_MS (5 * 60000) /* a token must outlive its task by this time */
#define EARLY_MS (10 * 60000) /* background: at least this long before the end */
#define FRESH_MS (10 * 60000) /* refreshing a younger token would gain nothing */
#define PAUSE_MS 60000        /* least time between two background refreshes */
#define SETTLED_MS 100        /* A file may change twice within one tick of its time stamp. */
#define BACKOFF_MIN_MS 5000
#define BACKOFF_MAX_MS 300000

struct keeper {
    struct keeper_config config;
    char *path;
    struct thread thread;

    struct lock lock;      /* guards the fields below; never held across I/O except a stat() and a
                            * read */
    pthread_cond_t turned; /* signalled when a refresh has ended, or when stopping */
    _Atomic bool stopping;
    bool refreshing;
    uint64_t refreshes; /* counts ended refreshes */
    struct err outcome; /* of the last one */
    int64_t refreshes_by[REFRESH_RESULTS];

    int64_t looked_ms;
    bool seen_any;
    int64_t logins; /* counts tokens that others wrote into the file */
    bool settled;   /* the file was old enough when it was read: a later change shows in its time
                     * stamp */
    struct stat seen;
    struct login login;
    enum login_state file_state; /* state of the file itself: MISSING, UNREADABLE, MALFORMED or
                                  * OK */
    int64_t expires_mono_ms;     /* the end by the monotonic clock; 0: not given */
    char *refused_token;         /* a refresh token that the server has refused, so it is never sent
                                  * again */
    int64_t verified_ms;
    int64_t refreshed_ms;
    int64_t refreshed_mono_ms; /* last success */
    bool refresh_ok;
    bool failing;          /* the last refresh of this login got no usable answer */
    int64_t retry_mono_ms; /* no refresh before this time after a failure */
    int64_t backoff_ms;
};

/* --- the file ------------------------------------------------------------------------------ */

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void register_secret(struct keeper *keeper, const char *secret)
{
    if (secret && keeper->config.secrets)
        redact_add(keeper->config.secrets, secret);
}

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same_login(const struct login *a, const struct login *b)
{
    return is_same_text(a->access_token, b->access_token) &&
           is_same_text(a->refresh_token, b->refresh_token) &&
           is_same_text(a->subscription, b->subscription) && is_same_text(a->scopes, b->scopes) &&
           a->expires_ms == b->expires_ms && a->login_expires_ms == b->login_expires_ms;
}

/* True for an error that says nothing about the file: no descriptors, no memory, a transient disk
 * error. */
static bool is_passing(const struct err *err)
{
    static const int lasting[] = {EACCES, EPERM, ELOOP, ENAMETOOLONG, EISDIR, ENXIO, ENODEV};
    for (size_t i = 0; i < COUNT_OF(lasting); i++)
        if (err->sys == lasting[i])
            return false;
    return err->sys != 0;
}

/* ret_passing: the file could not be read now, which says nothing about it. */
static enum login_state read_login(const char *path, struct login *ret_login, bool *ret_passing)
{
    struct err err;
    AUTO(buf_wipe) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    *ret_login = (struct login){0};
    *ret_passing = false;
    if (file_read(path, &text, &err)) {
        *ret_passing = is_passing(&err);
        return err.code == ERR_NOT_FOUND ? LOGIN_MISSING : LOGIN_UNREADABLE;
    }
    login_parse(buf_str(&text), text.len, ret_login);
    return ret_login->access_token ? LOGIN_OK : LOGIN_MALFORMED;
}

/* Reads the file. Knowledge about a login (that the API refused it, its end by the monotonic clock)
 * stays until the file changes. False when it could not be read for a transient reason: then
 * everything stays, and the next look tries again. */
static bool read_file_locked(struct keeper *keeper) HOLDS(keeper->lock);
static bool read_file_locked(struct keeper *keeper)
{
    bool passing;
    AUTO(login) struct login login;
    enum login_state state = read_login(keeper->path, &login, &passing);
    if (passing && keeper->seen_any)
        return false;
    if (keeper->seen_any && state == keeper->file_state && is_same_login(&login, &keeper->login))
        return true;
    if (state == LOGIN_OK && !keeper->refreshing &&
        !is_same_text(login.access_token, keeper->login.access_token))
        keeper->logins++;
    login_done(&keeper->login);
    keeper->login = login;
    login = (struct login){0};
    keeper->file_state = state;
    keeper->retry_mono_ms = keeper->backoff_ms = 0;
    keeper->failing = false;
    keeper->expires_mono_ms = 0;
    if (keeper->login.expires_ms > 0) {
        keeper->expires_mono_ms = clock_mono_ms() + keeper->login.expires_ms - clock_real_ms();
        if (keeper->expires_mono_ms == 0)
            keeper->expires_mono_ms = -1;
    }
    register_secret(keeper, keeper->login.access_token);
    register_secret(keeper, keeper->login.refresh_token);
    return !passing;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Reads the file again when it has changed: a login made elsewhere is used at once. */
static void look_locked(struct keeper *keeper, bool now) HOLDS(keeper->lock);
static void look_locked(struct keeper *keeper, bool now)
{
    bool known = true;
    struct stat st = {0};
    int64_t mono = clock_mono_ms();
    if (!now && keeper->seen_any && mono - keeper->looked_ms < LOOK_EVERY_MS)
        return;
    keeper->looked_ms = mono;
    if (stat(keeper->path, &st))
        st = (struct stat){0}; /* A missing file is treated as an empty one. */
    if (!keeper->seen_any || !keeper->settled || !is_same_file(&st, &keeper->seen))
        known = read_file_locked(keeper);
    keeper->settled =
        known &&
        clock_real_ms() - (st.st_ctim.tv_sec * 1000 + st.st_ctim.tv_nsec / 1000000) > SETTLED_MS;
    keeper->seen = st;
    keeper->seen_any = true;
}

/* --- what it is worth ---------------------------------------------------------------------- */

static bool is_expired_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static bool is_expired_locked(const struct keeper *keeper)
{
    return keeper->expires_mono_ms != 0 && keeper->expires_mono_ms <= clock_mono_ms();
}

/* The rest of the token's life in ms, by the clock that gives less: one stops while the machine
 * sleeps, the other can be set. A hint for refreshing early; is_expired_locked() decides. */
static int64_t least_left_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static int64_t least_left_locked(const struct keeper *keeper)
{
    int64_t mono = keeper->expires_mono_ms - clock_mono_ms();
    int64_t real = keeper->login.expires_ms - clock_real_ms();
    if (keeper->expires_mono_ms == 0)
        return INT64_MAX;
    return keeper->login.expires_ms > 0 && real < mono ? real : mono;
}

static bool is_refreshable_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static bool is_refreshable_locked(const struct keeper *keeper)
{
    const char *token = keeper->login.refresh_token;
    return token && (!keeper->refused_token || strcmp(token, keeper->refused_token) != 0);
}

static enum login_state state_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static enum login_state state_locked(const struct keeper *keeper)
{
    if (keeper->file_state != LOGIN_OK)
        return keeper->file_state;
    if (!is_expired_locked(keeper) || is_refreshable_locked(keeper))
        return LOGIN_OK;
    return keeper->login.refresh_token ? LOGIN_REFUSED : LOGIN_EXPIRED;
}

static int check_state_locked(const struct keeper *keeper, struct err *err) HOLDS(keeper->lock);
static int check_state_locked(const struct keeper *keeper, struct err *err)
{
    enum login_state state = state_locked(keeper);
    return state == LOGIN_OK ? 0 : err_set(err, ERR_LOGIN, "%s", login_state_sentence(state));
}

bool keeper_is_cut_off(const struct keeper_status *status)
{
    return status->state == LOGIN_OK && status->token_expired && status->refresh_failing;
}

void keeper_status(struct keeper *keeper, struct keeper_status *ret_status)
{
    lock_take(&keeper->lock);
    look_locked(keeper, false);
    const struct login *login = &keeper->login;
    *ret_status = (struct keeper_status){
        .state = state_locked(keeper),
        .configured = keeper->file_state == LOGIN_OK,
        .refreshable = is_refreshable_locked(keeper),
        .token_expired = is_expired_locked(keeper),
        .expires_ms = login->expires_ms,
        .login_expires_ms = login->login_expires_ms,
        .remaining_ms = keeper->expires_mono_ms ? keeper->expires_mono_ms - clock_mono_ms() : 0,
        .verified_ms = keeper->verified_ms,
        .refreshed_ms = keeper->refreshed_ms,
        .refresh_ok = keeper->refresh_ok,
        .refresh_failing = keeper->failing,
        .logins = keeper->logins,
        .refreshes_done = keeper->refreshes_by[REFRESH_DONE],
        .refreshes_refused = keeper->refreshes_by[REFRESH_REFUSED],
        .refreshes_failed = keeper->refreshes_by[REFRESH_FAILED],
    };
    if (!keeper->refresh_ok)
        snprintf(ret_status->refresh_error, sizeof(ret_status->refresh_error), "%s",
                 keeper->outcome.msg);
    snprintf(ret_status->subscription, sizeof(ret_status->subscription), "%s",
             login->subscription ? login->subscription : "");
    snprintf(ret_status->scopes, sizeof(ret_status->scopes), "%s",
             login->scopes ? login->scopes : "");
    lock_drop(&keeper->lock);
}

/* --- refreshing ---------------------------------------------------------------------------- */

/* Takes ownership of `refused`. */
static void note_outcome_locked(struct keeper *keeper, enum refresh_result result, char *refused,
                                const struct err *err) HOLDS(keeper->lock);
static void note_outcome_locked(struct keeper *keeper, enum refresh_result result, char *refused,
                                const struct err *err)
{
    keeper->refreshes_by[result]++;
    keeper->refreshed_ms = clock_real_ms();
    keeper->refresh_ok = result == REFRESH_DONE;
    keeper->outcome = *err;
    keeper->failing = result == REFRESH_FAILED;
    look_locked(keeper, true);
    if (result == REFRESH_DONE) {
        keeper->refreshed_mono_ms = clock_mono_ms();
        keeper->retry_mono_ms = keeper->backoff_ms = 0;
        return;
    }
    if (result == REFRESH_REFUSED) {
        wipe(keeper->refused_token);
        keeper->refused_token = refused;
    }
    keeper->backoff_ms = keeper->backoff_ms == 0                   ? BACKOFF_MIN_MS
                         : keeper->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS
                                                                   : keeper->backoff_ms * 2;
    keeper->retry_mono_ms = clock_mono_ms() + keeper->backoff_ms;
}

static void log_outcome(enum refresh_result result, const struct err *err)
{
    if (result == REFRESH_DONE)
        log_info("oauth", "the login has been refreshed");
    else
        log_warn("oauth", "the login could not be refreshed: %s", err->msg);
}

/* Refreshes; releases the lock meanwhile. */
static void refresh_now_locked(struct keeper *keeper) HOLDS(keeper->lock);
static void refresh_now_locked(struct keeper *keeper)
{
    struct err err = ERR_INIT;
    char *refused = NULL;
    char *old_token = keeper->login.access_token ? strdup(keeper->login.access_token) : NULL;
    AUTO(config_ref) const struct config *config = config_ref(keeper->config.config);
    const struct refresh refresh = {
        .config = config, .path = keeper->path, .old_token = old_token, .stop = &keeper->stopping};
    keeper->refreshing = true;
    lock_drop(&keeper->lock);
    enum refresh_result result = refresh_login(&refresh, &refused, &err);
    log_outcome(result, &err);
    wipe(old_token);
    lock_take(&keeper->lock);
    note_outcome_locked(keeper, result, refused, &err);
    keeper->refreshing = false;
    keeper->refreshes++;
    pthread_cond_broadcast(&keeper->turned);
}

/* One refresh for all callers: joins the running one, or begins one. */
static int refresh_locked(struct keeper *keeper, struct err *err) HOLDS(keeper->lock);
static int refresh_locked(struct keeper *keeper, struct err *err)
{
    uint64_t seen = keeper->refreshes;
    if (!keeper->refreshing)
        refresh_now_locked(keeper);
    while (keeper->refreshes == seen && !keeper->stopping)
        pthread_cond_wait(&keeper->turned, &keeper->lock.mutex);
    if (keeper->refreshes == seen)
        return err_set(err, ERR_BUSY, "the runner is shutting down");
    if (keeper->refresh_ok)
        return 0;
    *err = keeper->outcome;
    return -1;
}

static void tell(const struct keeper *keeper)
{
    if (keeper->config.changed)
        keeper->config.changed(keeper->config.arg);
}

int keeper_prepare(struct keeper *keeper, int64_t need_ms, struct err *err)
{
    bool tried = false;
    lock_take(&keeper->lock);
    look_locked(keeper, true);
    int rc = check_state_locked(keeper, err);
    int64_t now = clock_mono_ms();
    bool ends_early = is_expired_locked(keeper) || least_left_locked(keeper) < need_ms + MARGIN_MS;
    bool fresh = keeper->refreshed_mono_ms && now - keeper->refreshed_mono_ms < FRESH_MS &&
                 !is_expired_locked(keeper);
    bool waiting = now < keeper->retry_mono_ms && !keeper->refreshing;
    if (rc == 0 && ends_early && !fresh && is_refreshable_locked(keeper) && !waiting) {
        tried = true;
        rc = refresh_locked(keeper, err);
        if (rc && !is_expired_locked(keeper) && keeper->file_state == LOGIN_OK)
            rc = 0; /* The token is still good; the background thread will try again. */
    } else if (rc == 0 && is_expired_locked(keeper)) {
        *err = keeper->outcome;
        rc = -1;
    }
    lock_drop(&keeper->lock);
    if (tried)
        tell(keeper);
    return rc;
}

int keeper_token(struct keeper *keeper, struct buf *out, struct err *err)
{
    if (keeper_prepare(keeper, -MARGIN_MS, err)) /* It is enough that it has not expired. */
        return -1;
    lock_take(&keeper->lock);
    int rc = keeper->login.access_token ? buf_adds(out, keeper->login.access_token)
                                        : check_state_locked(keeper, err);
    lock_drop(&keeper->lock);
    return rc;
}

static bool is_current_locked(const struct keeper *keeper, const char *token) HOLDS(keeper->lock);
static bool is_current_locked(const struct keeper *keeper, const char *token)
{
    return keeper->login.access_token && strcmp(keeper->login.access_token, token) == 0;
}

int keeper_refused(struct keeper *keeper, const char *token, struct err *err)
{
    REQUIRE(token);
    int rc = 0;
    lock_take(&keeper->lock);
    look_locked(keeper, true);
    if (is_current_locked(keeper, token)) {
        if (!is_refreshable_locked(keeper))
            rc = err_set(err, ERR_LOGIN, "%s", login_state_sentence(LOGIN_REFUSED));
        else if (clock_mono_ms() < keeper->retry_mono_ms && !keeper->refreshing)
            rc = err_set(err, ERR_UPSTREAM, "%.200s", keeper->outcome.msg);
        else
            rc = refresh_locked(keeper, err);
        if (rc && is_current_locked(keeper, token) && err->code == ERR_LOGIN)
            keeper->expires_mono_ms = clock_mono_ms() - 1; /* Whatever the file says. */
    }
    lock_drop(&keeper->lock);
    tell(keeper);
    return rc;
}

void keeper_verified(struct keeper *keeper, const char *token)
{
    lock_take(&keeper->lock);
    if (is_current_locked(keeper, token))
        keeper->verified_ms = clock_real_ms();
    lock_drop(&keeper->lock);
}

int keeper_refresh(struct keeper *keeper, struct err *err)
{
    lock_take(&keeper->lock);
    look_locked(keeper, true);
    int rc = keeper->file_state == LOGIN_MISSING
                 ? err_set(err, ERR_NOT_FOUND, "there is no login to refresh")
             : keeper->file_state != LOGIN_OK ? check_state_locked(keeper, err)
             : !is_refreshable_locked(keeper)
                 ? err_set(err, ERR_LOGIN, "OAuth login needed: it cannot be refreshed")
                 : refresh_locked(keeper, err);
    lock_drop(&keeper->lock);
    tell(keeper);
    return rc;
}

void keeper_look(struct keeper *keeper)
{
    lock_take(&keeper->lock);
    look_locked(keeper, true);
    lock_drop(&keeper->lock);
    tell(keeper);
}

/* --- in the background --------------------------------------------------------------------- */

/* How long before its end a token is refreshed in the background: early enough for an alert to help
 * when that fails, but not in the first half of a short life. */
static int64_t early_ms_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static int64_t early_ms_locked(const struct keeper *keeper)
{
    int64_t alert = (int64_t)CONFIG_GET(keeper->config.config, oauth_alert_hours) * 3600000;
    int64_t early = alert > EARLY_MS ? alert : EARLY_MS;
    int64_t life = keeper->expires_mono_ms - keeper->refreshed_mono_ms;
    return keeper->refreshed_mono_ms && life / 2 < early ? life / 2 : early;
}

static bool is_due_locked(const struct keeper *keeper) HOLDS(keeper->lock);
static bool is_due_locked(const struct keeper *keeper)
{
    int64_t now = clock_mono_ms(), left = least_left_locked(keeper);
    if (keeper->file_state != LOGIN_OK || left >= early_ms_locked(keeper) ||
        !is_refreshable_locked(keeper) || keeper->refreshing || now < keeper->retry_mono_ms)
        return false;
    int64_t pause = left > 0 ? FRESH_MS : PAUSE_MS; /* Also for tokens that live for seconds
                                                     * only. */
    return keeper->refreshed_mono_ms == 0 || now - keeper->refreshed_mono_ms >= pause;
}

static void *watch(void *arg)
{
    struct keeper *keeper = arg;
    struct err ignored;
    lock_take(&keeper->lock);
    enum login_state told = state_locked(keeper);
    int64_t told_logins = keeper->logins;
    while (!keeper->stopping) {
        look_locked(keeper, false);
        if (is_due_locked(keeper))
            refresh_locked(keeper, &ignored);
        enum login_state state = state_locked(keeper);
        if (state != told || keeper->logins != told_logins) {
            told = state;
            told_logins = keeper->logins;
            lock_drop(&keeper->lock);
            tell(keeper);
            lock_take(&keeper->lock);
        }
        lock_wait(&keeper->turned, &keeper->lock, TICK_MS);
    }
    lock_drop(&keeper->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

struct keeper *keeper_new(const struct keeper_config *config, struct err *err)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    if (!keeper) {
        err_sys(err, "keeper");
        return NULL;
    }
    keeper->config = *config;
    lock_init(&keeper->lock);
    cond_init(&keeper->turned);
    AUTO(config_ref) const struct config *now = config_ref(config->config);
    keeper->path = path_join(now->claude_config_dir, ".credentials.json");
    if (!keeper->path) {
        err_sys(err, "keeper");
        keeper_free(keeper);
        return NULL;
    }
    lock_take(&keeper->lock);
    look_locked(keeper, true);
    lock_drop(&keeper->lock);
    return keeper;
}

int keeper_start(struct keeper *keeper, struct err *err)
{
    return thread_start(&keeper->thread, "keeper", THREAD_STACK_DEFAULT, watch, keeper, err);
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    lock_take(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_broadcast(&keeper->turned);
    lock_drop(&keeper->lock);
    thread_join(&keeper->thread);
    login_done(&keeper->login);
    wipe(keeper->refused_token);
    pthread_cond_destroy(&keeper->turned);
    lock_done(&keeper->lock);
    free(keeper->path);
    free(keeper);
}
