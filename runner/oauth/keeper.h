/*
 * The keeper reads, refreshes and writes the owner's login; nothing else in the runner does.
 *
 * Theory of operation. The CLI's refresh tokens are good for one use, so whoever loses the answer
 * of a refresh, or lets two of them run at once, logs the owner out. Therefore:
 *   - only the keeper refreshes, one at a time for everybody (others wait for the same outcome),
 *     holding the CLI's own lock directory so that a CLI outside of the runner keeps away too;
 *   - under the lock the file is read again: somebody may have refreshed, or logged in, meanwhile;
 *   - the new pair is on the disk (temporary file, fsync, verified, rename) before anybody gets it;
 *   - tasks never see either token: they talk to the proxy (runner/proxy), which asks here.
 * A background thread watches the file, refreshes OAUTH_ALERT_HOURS before the token expires, and
 * backs off when the token server does not answer. A refresh token that was refused is not tried
 * again: from then on the login is LOGIN_REFUSED until the file holds another.
 *
 * Threads: any.
 * Ownership: the caller of keeper_new() frees it by keeper_free().
 */
#ifndef OAUTH_KEEPER_H
#define OAUTH_KEEPER_H

#include "base/auto.h"
#include "base/redact.h"
#include "runner/config/in_force.h"
#include "runner/oauth/credentials.h"

#include <stdatomic.h>

struct keeper;

struct keeper_config {
    struct config_in_force *config; /* borrowed */
    struct redact_set *secrets;     /* borrowed: every token that is read is registered */
    void (*changed)(void *arg);     /* called after the login's state may have changed, without
                                     * locks */
    void *arg;
};

struct keeper *keeper_new(const struct keeper_config *config, struct err *err);
/* Starts the thread that watches the file. */
int keeper_start(struct keeper *keeper, struct err *err);
void keeper_free(struct keeper *keeper);

struct keeper_status {
    enum login_state state;
    bool configured; /* there is a token, whatever its age */
    bool refreshable;
    bool not_needed; /* another credential works; set by the code that prints */
    bool token_expired;
    int64_t expires_ms;       /* 0: not given */
    int64_t login_expires_ms; /* when a new login is needed in spite of refreshes; 0: not given */
    int64_t remaining_ms;     /* by the monotonic clock; valid only with expires_ms */
    int64_t verified_ms;      /* when the API last accepted the token; 0: not yet */
    int64_t refreshed_ms;     /* when a refresh was last tried; 0: never */
    bool refresh_ok;          /* its outcome */
    bool refresh_failing;     /* it failed, and there is no other login since */
    int64_t logins;           /* tokens that others have written into the file, including the
                               * first */
    char refresh_error[160];  /* of the last try */
    int64_t refreshes_done, refreshes_refused, refreshes_failed; /* since the start */
    char subscription[32];
    char scopes[512];
};
void keeper_status(struct keeper *keeper, struct keeper_status *ret_status);

/* True when the token has expired and the token server could not be reached: a new login is not
 * needed, only time (or a network). */
bool keeper_is_cut_off(const struct keeper_status *status);

/* Makes sure that the token lives for need_ms; refreshes it when it would not. Returns 0, or -1
 * with ERR_LOGIN (a new login is needed; the message begins with "OAuth"), or ERR_UPSTREAM or
 * ERR_TIMEOUT (the token server does not answer, and the token is useless). */
int keeper_prepare(struct keeper *keeper, int64_t need_ms, struct err *err);

/* Appends the current token; refreshes one that has expired. */
int keeper_token(struct keeper *keeper, struct buf *out, struct err *err);

/* The API refused this token (401): refreshes once, unless another caller has done so. 0 when there
 * is another token now. */
int keeper_refused(struct keeper *keeper, const char *token, struct err *err);

/* The API accepted this token. */
void keeper_verified(struct keeper *keeper, const char *token);

/* Refreshes now, whatever the token's age. ERR_NOT_FOUND without a login. */
int keeper_refresh(struct keeper *keeper, struct err *err);

/* Reads the file at once: a login flow has just written it. */
void keeper_look(struct keeper *keeper);

/* Prints the counters for a page of metrics; arg is a struct keeper. */
struct metric_page;
void keeper_metrics(struct metric_page *page, void *arg);

/* Appends the members of api.md's `oauth` object, without braces; `whole` adds those of
 * /oauth/status. */
void keeper_print(const struct keeper_status *status, bool whole, struct buf *out);

#endif
