/*
 * A login from anywhere: drives `claude auth login`, one at a time.
 *
 * Theory of operation. The CLI prints a URL; a person opens it wherever there is a browser, agrees,
 * and brings back a code; the CLI takes the code, asks the token server and writes the credentials.
 * A thread of the login's own sits between the CLI's pipes and those who ask:
 *
 *     starting ──URL──▶ awaiting_code ──code──▶ verifying ──▶ succeeded
 *                            ▲                      │   └───▶ failed
 *                            └── not a whole code ──┘
 *     and from each of the first three: cancelled, expired
 *
 * The CLI runs as the daemon itself, not as a task: the credentials are the owner's. It logs in at
 * a place of its own (adopt.h says why), and the old login stays until the new one is there. The
 * code and the URL's state never reach the log.
 *
 * Threads: any.
 * Ownership: the caller of login_flow_new() frees it by login_flow_free(); a view is a copy.
 */
#ifndef OAUTH_LOGIN_FLOW_H
#define OAUTH_LOGIN_FLOW_H

#include "base/id.h"
#include "base/redact.h"
#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/oauth/keeper.h"

#include <stdatomic.h>

#define LOGIN_FLOW_CODE_MAX 2048 /* bytes */

/* X(name, wire name) */
#define LOGIN_FLOW_STATES(X)                     \
    X(LOGIN_FLOW_STARTING, "starting")           \
    X(LOGIN_FLOW_AWAITING_CODE, "awaiting_code") \
    X(LOGIN_FLOW_VERIFYING, "verifying")         \
    X(LOGIN_FLOW_SUCCEEDED, "succeeded")         \
    X(LOGIN_FLOW_FAILED, "failed")               \
    X(LOGIN_FLOW_CANCELLED, "cancelled")         \
    X(LOGIN_FLOW_EXPIRED, "expired")

enum login_flow_state {
#define LOGIN_FLOW_STATE_ENUM(name, wire) name,
    LOGIN_FLOW_STATES(LOGIN_FLOW_STATE_ENUM)
#undef LOGIN_FLOW_STATE_ENUM
};

const char *login_flow_state_name(enum login_flow_state state);
/* True until the login has ended. */
bool login_flow_state_is_active(enum login_flow_state state);

struct login_flow;

struct login_flow_config {
    struct config_in_force *config; /* borrowed, as everything here */
    struct launcher *launcher;
    struct keeper *keeper;
    struct redact_set *secrets;
    const char *marker; /* "NAME=value": marks left-over processes by their environment */
};

/* The state of a login. */
struct login_flow_view {
    char id[ID_SIZE];
    enum login_flow_state state;
    char url[2048];     /* "" before the CLI has printed it, and once the login has ended */
    char reason[240];   /* why it failed, or why the last code was refused; else "" */
    int64_t expires_ms; /* real time */
};

struct login_flow *login_flow_new(const struct login_flow_config *config, struct err *err);
/* Cancels the running login. Waiting callers return at once. */
void login_flow_stop(struct login_flow *flow);
void login_flow_free(struct login_flow *flow);

/* Begins a login, or joins the one that has not ended; waits a bounded time for its URL. */
int login_flow_begin(struct login_flow *flow, struct login_flow_view *ret_view, struct err *err);

/* Reads the state. ERR_NOT_FOUND when `id` is not the last login; NULL means the last one. */
int login_flow_get(struct login_flow *flow, const char *id, struct login_flow_view *ret_view,
                   struct err *err);

/* Passes the code to the CLI and waits a bounded time for its reply. ERR_INVALID for what cannot be
 * a code, ERR_CONFLICT when the login does not wait for one. */
int login_flow_code(struct login_flow *flow, const char *id, const char *code,
                    struct login_flow_view *ret_view, struct err *err);

/* Ends the CLI and waits a bounded time for that. Succeeds for a login that has ended. */
int login_flow_cancel(struct login_flow *flow, const char *id, struct login_flow_view *ret_view,
                      struct err *err);

#endif
