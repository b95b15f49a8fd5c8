/* The parts of a running daemon, built and taken apart in order. Private to runner/daemon. */
#ifndef DAEMON_HOUSE_H
#define DAEMON_HOUSE_H

#include "base/metric.h"
#include "runner/api/api.h"
#include "runner/core/core.h"
#include "runner/janitor/janitor.h"
#include "runner/oauth/alert.h"
#include "runner/webhook/webhook.h"

#define METRIC_SOURCES_MAX 16
#define CONFIGS_MAX 1024 /* reloads that may be remembered; readers may still hold old ones */

struct house {
    struct core core;
    struct config *configs[CONFIGS_MAX]; /* all there have been */
    size_t config_count;
    struct flow *flow;
    char marker[128]; /* in the environment of what we start: TASK_MARKER=… */
    struct cloud cloud;
    struct overflow *overflow; /* NULL: no cloud is configured */
    struct task_kind cloud_kind;
    struct prompt_watch *prompt; /* NULL: SYSTEM_PROMPT_SECRET is not set */
    struct metric_source metrics[METRIC_SOURCES_MAX];
    struct janitor *janitor;
    struct alert *alert;
    struct webhook *webhook;
    struct sessions *sessions;
    struct access *access; /* NULL: not asked for */
    struct http_server *server;
    struct api api;
};

/* Takes over `config`. */
int house_build(struct house *house, struct config *config, struct err *err);
void house_take_apart(struct house *house);

/* Puts another configuration in force (and takes it over). */
int house_reconfigure(struct house *house, struct config *config, struct err *err);

#endif
