/*
 * The HTTP contract on top of the engine: one table of routes, one file per resource.
 *
 * Threads: handlers run on the HTTP server's workers.
 * Ownership: the daemon owns everything that struct api names; api_guard_free() frees a guard.
 */
#ifndef API_API_H
#define API_API_H

#include "http/http.h"
#include "runner/access/access.h"
#include "runner/claude/claude.h"
#include "runner/config/in_force.h"
#include "runner/inputs/inputs.h"
#include "runner/oauth/alert.h"
#include "runner/oauth/keeper.h"
#include "runner/oauth/login_flow.h"
#include "runner/oauth/usage.h"
#include "runner/overflow/overflow.h"
#include "runner/python/python.h"
#include "runner/repo/repos.h"
#include "runner/session/session.h"
#include "runner/store/store.h"
#include "runner/task/engine.h"
#include "runner/webhook/webhook.h"

#include <stdatomic.h>
#include <stdbool.h>

struct system_prompt;
struct replica;   /* runner/replica */
struct api_guard; /* auth.c: who tried wrong secrets, and how often */

struct api_numbers;   /* numbers.h: what was asked and answered */
struct replay;        /* replay.h: answers by Idempotency-Key */
struct openapi;       /* openapi.h */
struct metric_source; /* base/metric.h */
struct audit;         /* access/audit.h: who did what */
struct push;          /* webpush/webpush.h: browsers that are told */
struct callers;       /* access/callers.h: who was here when */
struct visits;        /* visits.h: browsers that gave a secret */

/* What handlers work with. The daemon owns all of it. */
struct api {
    struct config_in_force *config;
    struct engine *engine;
    struct store *store;
    struct keeper *keeper;
    struct login_flow *flow;
    struct breaker *breaker;
    struct proxy *proxy;
    struct usage_windows *usage;
    struct alert *alert;
    struct access *access; /* NULL: Cloudflare Access is not asked for */
    const struct claude *claude;
    struct launcher *launcher;
    struct repos *repos;
    struct overflow *overflow; /* NULL: no cloud is configured */
    struct replica *service;   /* NULL: this is no instance of the service at Google */
    struct webhook *webhook;
    struct sessions *sessions;
    struct inputs *inputs;
    struct python *python;
    struct replay *replay;
    _Atomic int python_waits; /* workers that wait a moment for a Python run */
    const char *state_dir;
    struct http_server *_Atomic server; /* set once it serves */
    struct api_guard *guard;
    struct visits *visits;
    struct audit *audit;
    struct callers *callers;
    struct push *push;
    struct system_prompt *system_prompt;
    struct prompt_watch *prompt; /* of SYSTEM_PROMPT_SECRET; or NULL */
    struct api_numbers *numbers;
    struct openapi *openapi;
    const struct metric_source *metrics; /* other modules' pages; ends with a NULL print */
    const char *version;
    int64_t started_ms; /* mono */
    _Atomic bool draining;
    _Atomic int refreshing; /* workers that wait for POST /oauth/refresh */
    _Atomic int64_t auth_failures;
    _Atomic int64_t auth_failed_at; /* real ms of the last; 0: never */
};

/* The table of routes, for http_config. */
const struct http_route *api_routes(size_t *ret_count);

/* http_config's gate, answering, done and trouble; arg is a struct api. */
bool api_gate(struct http_request *req, const struct http_route *route, void *arg);
void api_answering(const struct http_request *req, int status, void *arg);
void api_done(const struct http_request *req, int status, int64_t duration_us, void *arg);
void api_trouble(const char *message, void *arg);

/* What needs the owner's attention, as in /health: for push_config. */
struct push_trouble;
size_t api_troubles(struct push_trouble *ret_troubles, size_t max, void *arg);

struct api_guard *api_guard_new(void);
void api_guard_free(struct api_guard *guard);

#endif
