/*
 * CALLER_LIMITS: what the holders of one named secret may do. "NAME.LIMIT=VALUE", comma separated:
 * ci.tasks=4, ci.perMinute=30, ci.usdPerDay=5, ci.kinds=command|python, ci.egress=none, ci.push=no.
 *
 * Threads: no shared state.
 */
#ifndef CONFIG_CALLER_LIMITS_H
#define CONFIG_CALLER_LIMITS_H

#include "runner/config/config.h"

struct caller_limits {
    int tasks;          /* that wait or run at once; 0: any number */
    int per_minute;     /* that are begun; 0: any number */
    double usd_per_day; /* what the tasks of the last 24 hours may have cost; 0: anything */
    const char *kinds;  /* "claude|command", borrowed of the configuration; NULL: all */
    bool egress_none;   /* tasks have no network */
    bool no_push;       /* tasks push nowhere */
};

/* Adds an error for each item that is wrong, or that names no secret. */
void caller_limits_check(const struct config *config, struct strlist *errors);

/* ERR_CONFIG when the text is no "LIMIT=VALUE". */
int caller_limits_check_one(const char *limit, struct err *err);

/* False when that caller has no limits of its own. */
bool caller_limits_find(const struct config *config, const char *name,
                        struct caller_limits *ret_limits);

/* Whether they let tasks of that kind pass ("claude", "command", "python", "session"). */
bool caller_limits_allow(const struct caller_limits *limits, const char *kind);

#endif
