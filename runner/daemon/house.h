/* The parts of a running daemon, built and taken apart in order. Private to runner/daemon. */
#ifndef DAEMON_HOUSE_H
#define DAEMON_HOUSE_H

#include "base/metric.h"
#include "base/redact.h"
#include "runner/api/api.h"
#include "runner/claude/claude.h"
#include "runner/config/config.h"
#include "runner/janitor/janitor.h"
#include "runner/oauth/alert.h"

#include <stdatomic.h>

#define METRIC_SOURCES_MAX 16
#define CONFIGS_MAX 1024 /* reloads that may be remembered; readers may still hold old ones */

struct house {
    const struct config *_Atomic config; /* in force */
    struct config *configs[CONFIGS_MAX]; /* all there have been */
    size_t config_count;
    struct redact_set *secrets;
    int lock_fd;
    struct store *store;
    struct launcher *launcher;
    struct keeper *keeper;
    struct flow *flow;
    char marker[128]; /* in the environment of what we start: TASK_MARKER=… */
    struct repos *repos;
    struct metric_source metrics[METRIC_SOURCES_MAX];
    struct janitor *janitor;
    struct breaker *breaker;
    struct alert *alert;
    struct proxy *proxy;
    struct access *access; /* NULL: not asked for */
    struct engine *engine;
    struct http_server *server;
    struct claude claude;
    struct task_kind kinds[2];
    struct api api;
};

/* Takes over `config`. */
int house_build(struct house *house, struct config *config, struct err *err);
void house_take_apart(struct house *house);

/* Puts another configuration in force (and takes it over). */
int house_reconfigure(struct house *house, struct config *config, struct err *err);

#endif
