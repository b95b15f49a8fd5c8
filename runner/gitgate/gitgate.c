#include "runner/gitgate/gitgate.h"

#include "base/check.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/egress/gate.h"
#include "runner/gitgate/gitgate_private.h"
#include "json/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKERS 32
#define SOCKET_MODE 0600
#define HEAD_MS 30000
#define BODY_IDLE_MS 120000
#define IDLE_MS 60000
#define LOOK_MS 1000

/* --- who asks ------------------------------------------------------------------------------ */

/* Finds the pass of a token and counts the request. All tokens are compared, in time that tells
 * nothing about how much of one was right. */
static struct gitgate_pass *enter(struct gitgate *gate, const char *token, bool *ret_busy)
{
    struct gitgate_pass *found = NULL;
    lock_take(&gate->lock);
    for (struct gitgate_pass *pass = gate->passes; pass; pass = pass->next)
        if (crypto_equal(pass->token, strlen(pass->token), token, strlen(token)))
            found = pass;
    *ret_busy = found && found->in_flight >= PASS_AT_ONCE;
    if (found && !*ret_busy)
        found->in_flight++;
    lock_drop(&gate->lock);
    return found;
}

static void leave(struct gitgate_pass *pass)
{
    lock_take(&pass->gate->lock);
    if (--pass->in_flight == 0)
        pthread_cond_broadcast(&pass->idle);
    lock_drop(&pass->gate->lock);
}

static void serve(struct http_request *req, void *arg)
{
    static const char bearer[] = "Bearer ";
    bool busy = false;
    const char *given = http_header(req, "Authorization"), *path = http_path(req);
    struct gitgate_pass *pass =
        given && str_starts(given, bearer) ? enter(arg, given + sizeof(bearer) - 1, &busy) : NULL;
    if (!pass) {
        passing_refuse(req, 403,
                       "claude-runner: this is the way to a task's own repository, and "
                       "the task has ended or is another.");
        return;
    }
    if (busy) {
        passing_refuse(req, 503, "claude-runner: too much git at once in this task.");
        return;
    }
    if (str_starts(path, pass->path) && path[strlen(pass->path)] == '/')
        passing_serve(pass, req, path + strlen(pass->path));
    else
        passing_refuse(req, 404,
                       "claude-runner: this way leads to the task's own repository only, %s.",
                       workspace_url(pass->wish.workspace));
    leave(pass);
}

static const struct http_route routes[] = {
    {"GET", "/{path...}", serve, 0},
    {"POST", "/{path...}", serve, 0},
};

static bool let_in(struct http_request *req, const struct http_route *route, void *arg)
{
    (void)arg;
    if (!route)
        passing_refuse(req, 404, "claude-runner: there is only a git repository here.");
    return route != NULL;
}

static void trouble(const char *message, void *arg)
{
    (void)arg;
    log_warn("gitgate", "%s", message);
}

static struct http_server *start(struct gitgate *gate, struct err *err)
{
    AUTO(buf) struct buf places = BUF_INIT(256);
    buf_addf(&places, "%s%s", gate->socket ? "unix:" : "127.0.0.1",
             gate->socket ? gate->socket : "");
    if (buf_check(&places, "the git gate's socket", err))
        return NULL;
    const struct http_config http = {.bind = places.data,
                                     .port = 0,
                                     .unix_mode = SOCKET_MODE,
                                     .workers = WORKERS,
                                     .routes = routes,
                                     .route_count = COUNT_OF(routes),
                                     .gate = let_in,
                                     .trouble = trouble,
                                     .arg = gate,
                                     .head_ms = HEAD_MS,
                                     .body_idle_ms = BODY_IDLE_MS,
                                     .body_total_ms = BODY_IDLE_MS,
                                     .idle_ms = IDLE_MS,
                                     .parked_max = 1};
    return http_start(&http, err);
}

struct gitgate *gitgate_new(struct config_in_force *config, const char *socket, struct err *err)
{
    struct gitgate *gate = calloc(1, sizeof(*gate));
    if (!gate) {
        err_sys(err, "git gate");
        return NULL;
    }
    gate->config = config;
    lock_init(&gate->lock);
    if (socket && !(gate->socket = strdup(socket)))
        err_sys(err, "socket");
    else
        gate->server = start(gate, err);
    if (!gate->server) {
        err_wrap(err, "git gate");
        gitgate_free(gate);
        return NULL;
    }
    return gate;
}

void gitgate_free(struct gitgate *gate)
{
    REQUIRE(!gate || !gate->passes);
    if (!gate)
        return;
    if (gate->server)
        http_stop(gate->server, 0);
    lock_done(&gate->lock);
    free(gate->socket);
    free(gate);
}

const char *gitgate_socket(const struct gitgate *gate)
{
    return gate->socket;
}

/* --- passes -------------------------------------------------------------------------------- */

/* Reads "false", "true", or {"branches":[…],"force":…}, which the request's table has
 * checked. */
static int read_rules(struct gitgate_pass *pass, const char *text, struct err *err)
{
    bool yes = false;
    AUTO(json) struct json *rules = text ? json_parse(text, strlen(text), err) : NULL;
    if (!text)
        return 0;
    if (!rules)
        return err_wrap(err, "gitPush");
    if (json_type(rules) != JSON_OBJECT) {
        json_bool(rules, &yes);
        pass->pushes = pass->any = yes;
        return 0;
    }
    const struct json *branches = json_get(rules, "branches");
    pass->pushes = true;
    pass->any = !branches;
    json_bool(json_get(rules, "force"), &pass->force);
    for (const struct json *at = json_first(branches); at; at = json_next(at))
        if (strlist_add(&pass->branches, json_text(at) ? json_text(at) : ""))
            return err_sys(err, "gitPush");
    return 0;
}

/* Makes a path from the harmless characters of the repository's URL, for people: only the token
 * identifies the repository. */
static void name_path(struct gitgate_pass *pass)
{
    const char *url = workspace_url(pass->wish.workspace), *from = strstr(url, "://");
    size_t n = 0;
    from = from ? from + 3 : url;
    pass->path[n++] = '/';
    for (; *from && n < sizeof(pass->path) - 1; from++) {
        bool again = pass->path[n - 1] == '/' && (*from == '/' || *from == '.');
        if (!again)
            pass->path[n++] =
                (char)(isalnum((unsigned char)*from) || strchr("/_.-", *from) ? *from : '-');
    }
    while (n > 1 && (pass->path[n - 1] == '/' || pass->path[n - 1] == '.'))
        n--;
    pass->path[n] = '\0';
}

static int lead(struct gitgate_pass *pass, struct err *err)
{
    char origin[64];
    AUTO(str) char *url = NULL;
    if (pass->wish.way)
        snprintf(origin, sizeof(origin), "%s/", egress_git_url(pass->wish.way));
    else
        snprintf(origin, sizeof(origin), "http://127.0.0.1:%d/", http_port(pass->gate->server));
    if (asprintf(&url, "%s%s", origin, pass->path + 1) < 0) {
        url = NULL;
        return err_sys(err, "git gate");
    }
    return workspace_lead(pass->wish.workspace, origin, url, pass->token, err);
}

static void free_pass(struct gitgate_pass *pass)
{
    fd_close(&pass->wake);
    explicit_bzero(pass->token, sizeof(pass->token));
    strlist_done(&pass->branches);
    strlist_done(&pass->events);
    pthread_cond_destroy(&pass->idle);
    free(pass);
}

struct gitgate_pass *gitgate_open(struct gitgate *gate, const struct gitgate_wish *wish,
                                  struct err *err)
{
    REQUIRE(wish->repo.url);
    char random[ID_TOKEN_SIZE];
    struct gitgate_pass *pass = calloc(1, sizeof(*pass));
    if (!pass) {
        err_sys(err, "git gate");
        return NULL;
    }
    pass->gate = gate;
    pass->wish = *wish;
    cond_init(&pass->idle);
    id_token(random);
    snprintf(pass->token, sizeof(pass->token), "runner-git-%s", random);
    name_path(pass);
    pass->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pass->wake < 0)
        err_sys(err, "git gate");
    if (pass->wake < 0 || read_rules(pass, wish->rules, err) || lead(pass, err)) {
        free_pass(pass);
        return NULL;
    }
    lock_take(&gate->lock);
    pass->next = gate->passes;
    gate->passes = pass;
    lock_drop(&gate->lock);
    return pass;
}

void gitgate_close(struct gitgate_pass *pass)
{
    const uint64_t one = 1;
    if (!pass)
        return;
    struct gitgate *gate = pass->gate;
    atomic_store(&pass->dead, true);
    (void)!write(pass->wake, &one, sizeof(one));
    lock_take(&gate->lock);
    struct gitgate_pass **at = &gate->passes;
    while (*at != pass)
        at = &(*at)->next;
    *at = pass->next;
    while (pass->in_flight > 0)
        lock_wait(&pass->idle, &gate->lock, LOOK_MS);
    lock_drop(&gate->lock);
    free_pass(pass);
}

const char *gitgate_token(const struct gitgate_pass *pass)
{
    return pass->token;
}

void gitgate_tell(struct gitgate_pass *pass, gitgate_tell_fn *tell, void *arg)
{
    while (pass) {
        AUTO(str) char *event = NULL;
        lock_take(&pass->gate->lock);
        if (pass->told < pass->events.count)
            event = strdup(pass->events.items[pass->told++]);
        lock_drop(&pass->gate->lock);
        if (!event)
            return;
        tell("git_push", event, strlen(event), arg);
    }
}
