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
 */
#ifndef OAUTH_FLOW_H
#define OAUTH_FLOW_H

#include "base/id.h"
#include "base/redact.h"
#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/oauth/keeper.h"

#include <stdatomic.h>

#define FLOW_CODE_MAX 2048 /* bytes */

/* X(name, wire name) */
#define FLOW_STATES(X)                     \
    X(FLOW_STARTING, "starting")           \
    X(FLOW_AWAITING_CODE, "awaiting_code") \
    X(FLOW_VERIFYING, "verifying")         \
    X(FLOW_SUCCEEDED, "succeeded")         \
    X(FLOW_FAILED, "failed")               \
    X(FLOW_CANCELLED, "cancelled")         \
    X(FLOW_EXPIRED, "expired")

enum flow_state {
#define FLOW_STATE_ENUM(name, wire) name,
    FLOW_STATES(FLOW_STATE_ENUM)
#undef FLOW_STATE_ENUM
};

const char *flow_state_name(enum flow_state state);
/* True until it has ended. */
bool flow_state_is_active(enum flow_state state);

struct flow;

struct flow_config {
    struct config_in_force *config; /* borrowed, and so is all of this */
    struct launcher *launcher;
    struct keeper *keeper;
    struct redact_set *secrets;
    const char
        *marker; /* "NAME=value": by this in their environment left-over processes are known */
};

/* A login as it stands. */
struct flow_view {
    char id[ID_SIZE];
    enum flow_state state;
    char url[2048];     /* "" before the CLI has said it, and once the login has ended */
    char reason[240];   /* why it failed, or why the last code was not taken; else "" */
    int64_t expires_ms; /* real time */
};

struct flow *flow_new(const struct flow_config *config, struct err *err);
/* Cancels what runs. Those who wait return at once. */
void flow_stop(struct flow *flow);
void flow_free(struct flow *flow);

/* Begins a login, or joins the one that has not ended; waits a bounded time for its URL. */
int flow_begin(struct flow *flow, struct flow_view *ret_view, struct err *err);

/* ERR_NOT_FOUND when `id` is not the last login. An id of NULL stands for the last. */
int flow_get(struct flow *flow, const char *id, struct flow_view *ret_view, struct err *err);

/* Hands the code to the CLI and waits a bounded time for what it says. ERR_INVALID for what cannot
 * be a code, ERR_CONFLICT when the login does not wait for one. */
int flow_code(struct flow *flow, const char *id, const char *code, struct flow_view *ret_view,
              struct err *err);

/* Ends the CLI and waits a bounded time for that. Fine on a login that has ended. */
int flow_cancel(struct flow *flow, const char *id, struct flow_view *ret_view, struct err *err);

#endif
