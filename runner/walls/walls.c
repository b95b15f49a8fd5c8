#include "runner/walls/walls.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/walls/shown.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MORE_MB 4 /* for a session that is over its limit: enough to remove what is too much */

/* Directories of a run, and where tier full shows them. */
static const struct {
    const char *name;
    const char *inside;
    const char *boxed;  /* with a session: name of the session's directory, or NULL for the run's
                         * own, */
    const char *beside; /* which is then shown here, apart from the session's files */
} places[] = {
    {"home", "/home/user", "home/user", NULL},
    {"config", "/home/user/.claude", NULL, "/claude"},
    {"tmp", "/tmp", "tmp", NULL},
    {"work", "/workspace", "workspace", NULL},
};

static const char *inside_of(const struct walls_run *run, size_t place)
{
    return run->box && places[place].beside ? places[place].beside : places[place].inside;
}

char *walls_outside(const struct walls_run *run, const char *name)
{
    for (size_t i = 0; run->box && i < COUNT_OF(places); i++)
        if (strcmp(places[i].name, name) == 0 && places[i].boxed)
            return path_join(run->box, places[i].boxed);
    return path_join(run->dir, name);
}

char *walls_place(const struct walls *walls, const struct walls_run *run, const char *name)
{
    for (size_t i = 0; walls->tier == JAIL_FULL && i < COUNT_OF(places); i++)
        if (strcmp(places[i].name, name) == 0)
            return strdup(inside_of(run, i));
    return walls_outside(run, name);
}

char *walls_path(const struct walls *walls, const struct walls_run *run, const char *path)
{
    size_t len = strlen(run->dir);
    if (walls->tier != JAIL_FULL || strncmp(path, run->dir, len) != 0 || path[len] != '/')
        return strdup(path);
    const char *below = path + len + 1;
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        size_t n = strlen(places[i].name);
        char *inside;
        if (strncmp(below, places[i].name, n) == 0 && (below[n] == '/' || !below[n]))
            return asprintf(&inside, "%s%s", inside_of(run, i), below + n) < 0 ? NULL : inside;
    }
    return strdup(path);
}

static void add_bind(struct plan *plan, const char *mode, const char *outside, const char *inside)
{
    strlist_add(&plan->jail.binds, mode);
    strlist_add(&plan->jail.binds, outside);
    strlist_add(&plan->jail.binds, inside);
}

/* Shows a session's home by its parent directory: the session can replace anything below by a link,
 * and the last part of a path is not followed. */
static int add_home(const struct walls *walls, const struct walls_run *run, struct plan *plan)
{
    AUTO(str) char *outside = path_join(run->box, "home");
    if (!outside)
        return -1;
    add_bind(plan, "rw", outside, walls->tier == JAIL_FULL ? "/home" : outside);
    return 0;
}

static int add_places(const struct walls *walls, const struct walls_run *run, struct plan *plan)
{
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        AUTO(str) char *outside = walls_outside(run, places[i].name);
        AUTO(str) char *inside = walls_place(walls, run, places[i].name);
        if (!outside || !inside)
            return -1;
        if (run->box && strcmp(places[i].name, "home") == 0) {
            if (add_home(walls, run, plan))
                return -1;
            continue;
        }
        add_bind(plan, "rw?", outside, inside); /* A command has no config. */
    }
    return 0;
}

/* Adds further paths that the owner shows to tasks. */
static void add_paths(const struct strlist *paths, struct plan *plan)
{
    for (size_t i = 0; i < paths->count; i++) {
        bool writable = false;
        AUTO(str) char *path = config_jail_path(paths->items[i], &writable);
        if (path)
            add_bind(plan, writable ? "rw?" : "ro?", path, path);
    }
}

_Static_assert(GATE_ASKED_PORT == JAIL_PROXY_PORT, "the gate's address and its socket");

/* The network of a task's jail. */
static enum jail_net net_of(const struct walls *walls)
{
    static const enum jail_net nets[] = {[EGRESS_NO_GATE] = JAIL_NET_HOST,
                                         [EGRESS_REDIRECTS] = JAIL_NET_GATE,
                                         [EGRESS_ASKED] = JAIL_NET_PROXY};
    return nets[walls->gate];
}

static bool is_set(const struct strlist *env, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, len) == 0 && env->items[i][len] == '=')
            return true;
    return false;
}

/* ALL_PROXY is no SOCKS proxy: programs that lack a library for that would fail. NODE_USE_ENV_PROXY
 * has Node's own fetch() heed the others. */
int walls_add_proxies(const struct walls *walls, struct strlist *env)
{
    static const struct {
        const char *name, *lower, *value;
    } variables[] = {{"HTTP_PROXY", "http_proxy", GATE_ASKED_URL},
                     {"HTTPS_PROXY", "https_proxy", GATE_ASKED_URL},
                     {"ALL_PROXY", "all_proxy", GATE_ASKED_URL},
                     {"NO_PROXY", "no_proxy", GATE_UNASKED},
                     {"NODE_USE_ENV_PROXY", NULL, "1"}};
    for (size_t i = 0; walls->gate == EGRESS_ASKED && i < COUNT_OF(variables); i++) {
        const char *lower = variables[i].lower;
        if (is_set(env, variables[i].name) || (lower && is_set(env, lower)))
            continue;
        strlist_addf(env, "%s=%s", variables[i].name, variables[i].value);
        if (lower)
            strlist_addf(env, "%s=%s", lower, variables[i].value);
    }
    return env->failed ? -1 : 0;
}

static void set_limits(const struct config *config, const struct task_request *request,
                       struct jail_policy *jail)
{
    const struct config_limits *defaults = &config->task_limits;
    double cpu = request->limits_cpu > 0 ? request->limits_cpu : defaults->cpu;
    jail->cpu_percent = cpu * 100 < 1 ? 1 : (int)(cpu * 100);
    jail->memory_mb = request->limits_memory_mb ? request->limits_memory_mb : defaults->memory_mb;
    jail->pids_max = request->limits_pids ? request->limits_pids : defaults->pids;
    jail->disk_mb = request->limits_disk_mb ? request->limits_disk_mb : defaults->disk_mb;
}

int walls_gate(const struct walls *walls, const struct task_request *request,
               const struct egress_ours *ours, struct egress_gate **ret_gate, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(walls->config);
    *ret_gate = NULL;
    if (!walls->gate)
        return 0;
    *ret_gate = egress_gate_new(request->egress.count > 0 ? &request->egress : &config->egress,
                                &config->egress_lan, ours, err);
    if (*ret_gate && walls->gate == EGRESS_ASKED)
        egress_gate_be_asked(*ret_gate);
    return *ret_gate ? 0 : -1;
}

void walls_tell(struct egress_gate *gate, walls_tell_fn *tell, void *arg)
{
    for (;;) {
        AUTO(buf) struct buf json = BUF_INIT(4096);
        if (!gate || !egress_gate_denial(gate, &json))
            return;
        tell("egress_denied", buf_str(&json), json.len, arg);
    }
}

/* What all jails have: limits, hidden paths, the owner's paths, the program; `dir` (NULL: none)
 * counts for the limit of the disk. */
static int begin(const struct walls *walls, const struct task_request *request, const char *dir,
                 struct plan *plan, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(walls->config);
    plan->jail.tier = walls->tier;
    plan->jail.filter = JAIL_FILTER_TASK;
    set_limits(config, request, &plan->jail);
    if (dir)
        strlist_add(&plan->jail.counted, dir);
    strlist_add(&plan->jail.hidden, config->state_dir);
    strlist_add(&plan->jail.hidden, config->claude_config_dir);
    if (walls->tier == JAIL_NONE)
        return 0;
    add_paths(&config->jail_paths, plan);
    return shown_program(plan, err);
}

int walls_build(const struct walls *walls, const struct task_request *request,
                const struct walls_run *run, struct plan *plan, struct err *err)
{
    REQUIRE(plan->argv.count > 0 && run->dir);
    plan->jail.net = net_of(walls);
    if (begin(walls, request, run->dir, plan, err))
        return -1;
    if (run->box)
        strlist_add(&plan->jail.counted, run->box);
    if (walls->tier != JAIL_NONE && add_places(walls, run, plan))
        return err_sys(err, "jail");
    return plan->jail.binds.failed || plan->jail.hidden.failed ? err_sys(err, "jail") : 0;
}

const char *walls_box_dir(const struct walls *walls, const char *dir)
{
    return walls->tier == JAIL_FULL ? "/box" : dir;
}

int walls_box(const struct walls *walls, const struct task_request *request, const char *dir,
              struct plan *plan, struct err *err)
{
    static const char *const own[] = {"workspace", "home", "tmp"};
    plan->jail.net = net_of(walls);
    if (begin(walls, request, dir, plan, err))
        return -1;
    plan->jail.disk_more_mb = MORE_MB;
    if (walls->tier != JAIL_NONE)
        add_bind(plan, "rw", dir, walls_box_dir(walls, dir));
    for (size_t i = 0; walls->tier == JAIL_FULL && i < COUNT_OF(own); i++) {
        char inside[16];
        AUTO(str) char *outside = path_join(dir, own[i]);
        if (!outside)
            return err_sys(err, "jail");
        snprintf(inside, sizeof(inside), "/%s", own[i]);
        add_bind(plan, "rw", outside, inside);
    }
    return plan->jail.binds.failed || plan->jail.hidden.failed ? err_sys(err, "jail") : 0;
}

int walls_helper(const struct walls *walls, const char *dir, const char *reads, struct plan *plan,
                 struct err *err)
{
    REQUIRE(dir);
    const struct task_request request = {0};
    plan->jail.net = walls->gate ? JAIL_NET_OWN : JAIL_NET_HOST;
    if (begin(walls, &request, dir, plan, err))
        return -1;
    plan->jail.disk_mb = 0; /* The task may have used up the limit. */
    if (walls->tier != JAIL_NONE)
        add_bind(plan, "rw", dir, dir);
    if (walls->tier != JAIL_NONE && reads)
        add_bind(plan, "ro", reads, reads);
    return plan->jail.binds.failed || plan->jail.hidden.failed ? err_sys(err, "jail") : 0;
}

int walls_alone(const struct walls *walls, struct plan *plan, struct err *err)
{
    const struct task_request request = {0};
    plan->jail.net = walls->gate ? JAIL_NET_OWN : JAIL_NET_HOST;
    if (begin(walls, &request, NULL, plan, err))
        return -1;
    return plan->jail.binds.failed || plan->jail.hidden.failed ? err_sys(err, "jail") : 0;
}

int walls_copy(const struct plan *from, struct plan *to)
{
    REQUIRE(from != to);
    const struct {
        const struct strlist *from;
        struct strlist *to;
    } lists[] = {{&from->jail.binds, &to->jail.binds},
                 {&from->jail.hidden, &to->jail.hidden},
                 {&from->jail.counted, &to->jail.counted}};
    to->jail = from->jail;
    to->jail.hostname = NULL;
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        *lists[i].to = (struct strlist)STRLIST_INIT;
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        for (size_t k = 0; k < lists[i].from->count; k++)
            if (strlist_add(lists[i].to, lists[i].from->items[k]))
                return -1;
    return 0;
}
