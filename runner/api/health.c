/* GET /health: how the service is. */
#include "base/clock.h"
#include "runner/api/handlers.h"
#include "runner/api/troubles.h"
#include "runner/claude/version.h"
#include "runner/cloudbox/visit.h"
#include "runner/janitor/disk.h"
#include "runner/overflow/prompt.h"
#include "runner/webpush/webpush.h"

#include <stdio.h>
#include <string.h>

void healthz_get(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static const char *credential_of(const struct config *config, const struct keeper_status *login)
{
    if (config->anthropic_api_key)
        return "api_key";
    return login->configured ? "login" : "none";
}

void note_api_key(const struct api *api, struct keeper_status *login)
{
    struct breaker_status breaker;
    breaker_status(api->breaker, &breaker);
    login->not_needed =
        CONFIG_GET(api->config, anthropic_api_key) && breaker.state != BREAKER_LOGIN;
}

static void print_oauth(const struct keeper_status *login, struct json_writer *w)
{
    AUTO(buf) struct buf members = BUF_INIT(1024);
    buf_addc(&members, '{');
    keeper_print(login, false, &members);
    buf_addc(&members, '}');
    json_add_raw(w, "oauth", buf_str(&members), members.len);
}

/* Prints the last refusals by Anthropic. */
static void print_failures(const struct api *api, struct json_writer *w)
{
    char time[CLOCK_TEXT_SIZE];
    struct breaker_status breaker;
    int64_t alerted = api->alert ? alert_last_ms(api->alert) : 0;
    breaker_status(api->breaker, &breaker);
    json_open_object(w, "auth_failures");
    json_add_int(w, "failure_count", breaker.auth_refusals);
    json_add_text(w, "last_failure",
                  breaker.refused_ms ? clock_format(breaker.refused_ms, time) : NULL);
    json_add_text(w, "last_task", breaker.refused_task[0] ? breaker.refused_task : NULL);
    json_add_text(w, "last_alert_sent", alerted ? clock_format(alerted, time) : NULL);
    json_close(w);
}

/* Prints how many wrong secrets were refused. */
static void print_refused(const struct api *api, struct json_writer *w)
{
    char time[CLOCK_TEXT_SIZE];
    int64_t last = atomic_load(&api->auth_failed_at);
    json_open_object(w, "refused_callers");
    json_add_int(w, "count", atomic_load(&api->auth_failures));
    json_add_text(w, "last", last ? clock_format(last, time) : NULL);
    json_close(w);
}

static void print_tasks(const struct engine_load *load, struct json_writer *w)
{
    json_open_object(w, "tasks");
    json_add_int(w, "running", load->running);
    json_add_int(w, "queued", load->queued);
    json_add_int(w, "slots", load->slots);
    json_close(w);
}

/* Prints how many tasks wait, and for what. */
static void print_queue(const struct api *api, struct json_writer *w)
{
    struct err ignored;
    int64_t counts[TASK_STATE_COUNT];
    if (store_count(api->store, counts, &ignored))
        return;
    json_open_object(w, "queue");
    for (int i = 0; i < TASK_STATE_COUNT; i++)
        if (task_state_is_active((enum task_state)i) && i != TASK_RUNNING)
            json_add_int(w, task_state_name((enum task_state)i), counts[i]);
    json_close(w);
}

static void print_disk(const struct api *api, struct json_writer *w)
{
    struct err ignored;
    int64_t free_bytes, total_bytes;
    if (disk_space(api->state_dir, &free_bytes, &total_bytes, &ignored))
        return;
    json_open_object(w, "disk");
    json_add_text(w, "path", api->state_dir);
    json_add_int(w, "free_mb", free_bytes >> 20);
    json_add_int(w, "size_mb", total_bytes >> 20);
    json_close(w);
}

/* Prints the state of the cloud, where one is configured. */
static void print_cloud(const struct api *api, struct json_writer *w)
{
    char time[CLOCK_TEXT_SIZE];
    struct overflow_status cloud;
    struct engine_load load;
    if (!api->overflow)
        return;
    overflow_status(api->overflow, &cloud);
    engine_load(api->engine, &load);
    json_open_object(w, "cloud");
    json_add_bool(w, "reachable", cloud.reachable);
    json_add_text(w, "error", cloud.error[0] ? cloud.error : NULL);
    json_add_text(w, "since", cloud.reachable ? NULL : clock_format(cloud.since_ms, time));
    json_add_int(w, "running", load.away);
    json_add_int(w, "started", cloud.started);
    json_add_int(w, "lost", cloud.lost);
    json_add_int(w, "refused", cloud.refused);
    json_close(w);
}

static void print_cli(const struct api *api, struct json_writer *w)
{
    char version[CLAUDE_VERSION_SIZE], words[CLAUDE_WORDS_SIZE];
    AUTO(str) char *path = claude_version(api->claude, version);
    claude_cli_words(words);
    json_open_object(w, "claude");
    json_add_text(w, "path", path);
    json_add_text(w, "version", version[0] ? version : NULL);
    if (path && !version[0] && words[0])
        json_add_text(w, "error", words);
    if (version[0] && !claude_version_is_tested(version))
        json_add_text(w, "warning",
                      "this version is not one of those that the runner is tested with "
                      "(" CLAUDE_OLDEST_TESTED " to " CLAUDE_NEWEST_TESTED ")");
    json_close(w);
}

/* Prints how tasks reach the network, and why not by a gate that takes all connections. */
static void print_network(const struct api *api, const struct jail_host *host,
                          struct json_writer *w)
{
    static const char *const words[] = {
        [EGRESS_NO_GATE] = "host", [EGRESS_REDIRECTS] = "gate", [EGRESS_ASKED] = "proxy"};
    const enum egress_way way = api->claude->walls->gate;
    char why[300] = "";
    if (way == EGRESS_ASKED)
        snprintf(why, sizeof(why),
                 "only programs that heed HTTPS_PROXY and the like reach the network, by the "
                 "runner's gate: the kernel cannot redirect the others (%s)",
                 host->why[JAIL_HAS_GATE]);
    else if (way == EGRESS_NO_GATE)
        snprintf(why, sizeof(why), "tasks have the host's network: %s",
                 host->why[JAIL_HAS_GATE][0] ? host->why[JAIL_HAS_GATE] : "JAIL is not full");
    json_add_text(w, "network", words[way]);
    json_add_text(w, "network_why", why[0] ? why : NULL);
}

/* Prints what confines tasks, and which parts of it this host lacks. */
static void print_jail(const struct api *api, struct json_writer *w)
{
    const struct jail_host *host = launcher_host(api->launcher);
    json_open_object(w, "jail");
    json_add_text(w, "tier", jail_tier_name(api->claude->walls->tier));
    json_add_text(w, "host_tier", jail_tier_name((enum jail_tier)host->tier));
    json_add_text(w, "why_not_full", host->why_tier[0] ? host->why_tier : NULL);
    print_network(api, host, w);
    json_add_text(w, "cgroups", jail_groups_name((enum jail_groups)host->groups));
    json_add_int(w, "landlock", host->landlock);
    json_open_object(w, "features");
    for (int i = 0; i < JAIL_FEATURE_COUNT; i++)
        json_add_bool(w, jail_feature_name((enum jail_feature)i), host->has[i]);
    json_close(w);
    json_open_object(w, "missing");
    for (int i = 0; i < JAIL_FEATURE_COUNT; i++)
        if (!host->has[i])
            json_add_text(w, jail_feature_name((enum jail_feature)i), host->why[i]);
    json_close(w);
    json_close(w);
}

static void print_python(const struct api *api, bool verbose, struct json_writer *w)
{
    AUTO(buf) struct buf python = BUF_INIT(16u << 10);
    python_print(api->python, verbose, &python);
    json_add_raw(w, "python", buf_str(&python), python.len);
}

static void print_usage(const struct api *api, struct json_writer *w)
{
    AUTO(buf) struct buf usage = BUF_INIT(1024);
    usage_print(api->usage, &usage);
    json_add_raw(w, "usage", buf_str(&usage), usage.len);
}

/* Prints details for callers that hold a secret. */
static void print_verbose(const struct api *api, struct json_writer *w)
{
    struct http_stats http;
    AUTO(buf) struct buf cache = BUF_INIT(4u << 20);
    print_cli(api, w);
    print_usage(api, w);
    print_python(api, true, w);
    print_queue(api, w);
    print_disk(api, w);
    repos_print(api->repos, &cache);
    if (buf_ok(&cache))
        json_add_raw(w, "repo_cache", cache.data, cache.len);
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    AUTO(buf) struct buf text = BUF_INIT(256u << 10);
    print_jail(api, w);
    json_open_object(w, "host");
    json_add_int(w, "task_uid", api->claude->uid);
    if (api->claude->walls->users) /* each task has its own */
        json_add_text(w, "task_uids", config->uids);
    if (api->claude->walls->session_users)
        json_add_text(w, "session_uids", config->uids);
    json_close(w);
    http_stats(atomic_load(&api->server), &http);
    json_open_object(w, "http");
    json_add_int(w, "workers", http.workers);
    json_add_int(w, "busy", http.busy);
    json_add_int(w, "parked", http.parked);
    json_add_int(w, "streams", http.streams);
    json_add_int(w, "requests", (int64_t)http.requests);
    json_add_int(w, "refused", (int64_t)http.refused);
    json_add_int(w, "cut_off", (int64_t)http.cut_off);
    json_close(w);
    print_cloud(api, w);
    config_print_json(config, &text);
    json_add_raw(w, "config", buf_str(&text), text.len);
}

/* What the console asks its owner for beside the reasons of /health. */
static size_t more_troubles(const struct api *api, const struct keeper_status *login,
                            struct push_trouble *ret_troubles, size_t max)
{
    struct err ignored;
    size_t count = 0;
    int64_t webhooks[WEBHOOK_STATE_COUNT];
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    if (count < max && strcmp(credential_of(config, login), "none") == 0)
        ret_troubles[count++] = (struct push_trouble){
            "login_missing", "Claude has no login yet: open /login, or run `claude-runner login`."};
    if (count < max && store_webhook_count(api->store, webhooks, &ignored) == 0 &&
        webhooks[WEBHOOK_DEAD] > 0)
        ret_troubles[count++] = (struct push_trouble){
            "webhook_undelivered", "A webhook could not be delivered: the console sends it again."};
    return count;
}

size_t api_troubles(struct push_trouble *ret_troubles, size_t max, void *arg)
{
    struct troubles found;
    size_t count = 0;
    struct keeper_status login;
    const struct api *api = arg;
    keeper_status(api->keeper, &login);
    note_api_key(api, &login);
    troubles_find(api, &login, &found);
    for (size_t i = 0; i < found.count && count < max; i++)
        ret_troubles[count++] =
            (struct push_trouble){found.items[i]->reason, found.items[i]->remedy};
    return count + more_troubles(api, &login, ret_troubles + count, max - count);
}

static void print_status(const struct api *api, const struct keeper_status *login,
                         struct json_writer *w)
{
    struct troubles found;
    troubles_find(api, login, &found);
    json_add_text(w, "status",
                  atomic_load(&api->draining) ? "draining"
                  : found.count > 0           ? "degraded"
                                              : "healthy");
    if (found.count == 0)
        return;
    json_open_array(w, "reasons");
    for (size_t i = 0; i < found.count; i++)
        json_add_text(w, NULL, found.items[i]->reason);
    json_close(w);
    json_open_object(w, "remedies");
    for (size_t i = 0; i < found.count; i++)
        json_add_text(w, found.items[i]->reason, found.items[i]->remedy);
    json_close(w);
}

void health_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct keeper_status login;
    struct engine_load load;
    struct json_writer w;
    char time[CLOCK_TEXT_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(8u << 20);
    int64_t now = clock_real_ms();
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    keeper_status(api->keeper, &login);
    note_api_key(api, &login);
    engine_load(api->engine, &load);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    print_status(api, &login, &w);
    json_add_text(&w, "service", "claude-runner");
    json_add_text(&w, "version", api->version);
    json_add_text(&w, "timestamp", clock_format(now, time));
    json_add_int(&w, "uptime_seconds", (clock_mono_ms() - api->started_ms) / 1000);
    json_add_text(&w, "credential", credential_of(config, &login));
    print_oauth(&login, &w);
    print_failures(api, &w);
    print_refused(api, &w);
    print_tasks(&load, &w);
    const char *verbose = http_query(req, "verbose");
    if (verbose && strcmp(verbose, "true") == 0 && is_authorized(api, req))
        print_verbose(api, &w);
    json_close(&w);
    send_json(req, 200, &out);
}

/* Prints what this runner can do for a caller; nothing about its owner. */
static void print_capabilities(const struct api *api, struct json_writer *w)
{
    char why[160];
    json_open_object(w, "capabilities");
    json_open_array(w, "kinds");
    for (const struct task_kind *kind = engine_kinds(api->engine); kind->name; kind++)
        if (strcmp(kind->name, VISIT_KIND) != 0) /* a session's command is asked for there */
            json_add_text(w, NULL, kind->name);
    if (api->python && python_is_available(api->python, why))
        json_add_text(w, NULL, "python");
    json_close(w);
    json_add_text(w, "jail", jail_tier_name(api->claude->walls->tier));
    python_print_pyrunner(api->python, w);
    json_open_object(w, "limits");
    json_add_int(w, "bodyBytes", API_BODY_MAX);
    json_add_int(w, "promptBytes", REQUEST_PROMPT_MAX);
    json_add_int(w, "timeoutMs", REQUEST_TIMEOUT_MAX_MS);
    json_close(w);
    json_close(w);
}

void root_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct json_writer w;
    size_t count;
    http_add_header(req, "Vary", "Accept");
    if (http_prefers(req, "text/html")) {
        console_send(req, "index.html");
        return;
    }
    const struct http_route *routes = api_routes(&count);
    AUTO(buf) struct buf out = BUF_INIT(16u << 10);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "service", "claude-runner");
    json_add_text(&w, "status", atomic_load(&api->draining) ? "draining" : "ready");
    json_add_text(&w, "version", api->version);
    print_capabilities(api, &w);
    print_python(api, false, &w);
    json_open_array(&w, "endpoints");
    for (size_t i = 0; i < count; i++) {
        json_open_object(&w, NULL);
        json_add_text(&w, "method", routes[i].method);
        json_add_text(&w, "path", routes[i].path);
        json_close(&w);
    }
    json_close(&w);
    json_close(&w);
    send_json(req, 200, &out);
}
