/* A session's agent: starting it, and what its end means. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/session/session_private.h"
#include "runner/walls/walls.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define START_MS 20000
#define KILL_GRACE_MS 100
#define ENDING_MS 5000
#define ENV_BYTES_MAX (8u << 20)

/* Makes the agent's plan: the one place that says how a session is confined. In tier full it has a
 * complete jail; in the others the agent builds the walls that it can (say_begin). */
static struct plan *make_plan(struct session *session, const char *box, struct err *err)
{
    const struct sessions_config *config = &session->sessions->config;
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan || !(plan->cwd = strdup(walls_box_dir(config->walls, box)))) {
        err_sys(err, "session");
        return NULL;
    }
    strlist_add(&plan->argv, PLAN_SELF);
    strlist_add(&plan->argv, "box");
    if (config->marker)
        strlist_add(&plan->env, config->marker);
    plan->uid = session->user.uid;
    plan->gid = session->user.gid;
    plan->kill_grace_ms = KILL_GRACE_MS;
    plan->resumed = 1; /* a command's `kill -STOP -1` reaches the agent, too */
    const struct task_request limits = {.limits_cpu = session->cpu,
                                        .limits_memory_mb = session->memory_mb,
                                        .limits_pids = session->pids_max,
                                        .limits_disk_mb = session->disk_mb};
    if (walls_box(config->walls, &limits, box, plan, err) || base_show(session, box, plan, err))
        return NULL;
    session->pids_now = plan->jail.pids_max;
    if (!plan->argv.failed && !plan->env.failed)
        return STEAL_PTR(plan);
    err_sys(err, "session");
    return NULL;
}

/* Adds the session's own variables, and those that lead to its gate, unless they are among them.
 * -1 with err. */
static int add_own_env(const struct session *session, struct json_writer *w, struct err *err)
{
    AUTO(strlist) struct strlist env = STRLIST_INIT;
    for (size_t i = 0; i < session->env.count; i++)
        strlist_add(&env, session->env.items[i]);
    if (walls_add_proxies(session->sessions->config.walls, &env))
        return err_sys(err, "the session's environment");
    for (size_t i = 0; i < env.count; i++)
        json_add_text(w, NULL, env.items[i]);
    return 0;
}

/* A file with the environment: a list of "NAME=value". -1 with err. */
static int env_file(const struct session *session, struct err *err)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf text = BUF_INIT(ENV_BYTES_MAX);
    static const char *const fixed[] = {"USER=user",    "LOGNAME=user", "SHELL=/bin/bash",
                                        "LANG=C.UTF-8", "TERM=dumb",    "PWD=/workspace"};
    json_write(&w, &text);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        json_add_text(&w, NULL, fixed[i]);
    if (add_own_env(session, &w, err))
        return -1;
    json_close(&w);
    return buf_check(&text, "the session's environment", err)
               ? -1
               : link_text_file(buf_str(&text), text.len, err);
}

/* Tells the agent its directories; it answers when it is ready. */
static int say_begin(struct session *session, const char *box, struct err *err)
{
    int fd;
    struct json_writer w;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(buf) struct buf object = BUF_INIT(BOX_TEXT_MAX);
    AUTO(fd) int env = env_file(session, err);
    if (env < 0)
        return -1;
    json_write(&w, &object);
    json_open_object(&w, NULL);
    json_add_text(&w, "op", "begin");
    json_add_text(&w, "dir", walls_box_dir(session->sessions->config.walls, box));
    json_add_bool(&w, "walls", session->sessions->config.walls->tier != JAIL_FULL);
    json_add_int(&w, "pids", session->pids_max);
    json_add_int(&w, "pidsMax", session->pids_now);
    json_close(&w);
    buf_addc(&members, ',');
    if (object.len > 2)
        buf_add(&members, object.data + 1, object.len - 2);
    AUTO(json) struct json *said = link_call(session, &members, &env, 1, START_MS, &fd, err);
    fd_close(&fd);
    if (said)
        json_bool(json_get(said, "enclosed"), &session->enclosed);
    return said ? 0 : -1;
}

static int spawn(struct session *session, const char *box, int *ret_control,
                 struct child **ret_child, struct err *err)
{
    int ends[2];
    AUTO(plan) struct plan *plan = make_plan(session, box, err);
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (!plan || null < 0)
        return plan ? err_sys(err, "session") : -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_sys(err, "session");
    AUTO(fd) int theirs = ends[1];
    const int stdio[3] = {theirs, null, null};
    *ret_child = launcher_spawn(session->sessions->config.launcher, plan, stdio, err);
    if (!*ret_child) {
        close(ends[0]);
        return -1;
    }
    *ret_control = ends[0];
    return 0;
}

/* Gives the session's network a gate, which serves it as long as the session exists. */
static int serve_network(struct session *session, struct child *child, struct err *err)
{
    int sockets[JAIL_GATE_SOCKETS];
    const struct task_request request = {.egress = session->egress}; /* borrowed */
    if (!child_take_gate(child, sockets))
        return 0;
    if (!session->gate &&
        walls_gate(session->sessions->config.walls, &request, &(struct egress_ours){0},
                   &session->gate, err) == 0 &&
        !session->gate)
        err_set(err, ERR_INTERNAL, "a network without a gate");
    if (session->gate) {
        egress_gate_serve(session->gate, sockets);
        return 0;
    }
    for (size_t i = 0; i < JAIL_GATE_SOCKETS; i++)
        fd_close(&sockets[i]);
    return -1;
}

/* From now on the hub listens to the agent, and for the end of its tree. */
static int hear_of_locked(struct session *session, struct err *err)
{
    struct sessions *sessions = session->sessions;
    int end = fcntl(child_fd(session->child), F_DUPFD_CLOEXEC, 0);
    session->source = source_new_locked(sessions, SOURCE_AGENT, session->control);
    session->tree = end < 0 ? NULL : source_new_locked(sessions, SOURCE_TREE, end);
    if (session->source)
        session->source->session = session;
    if (session->tree)
        session->tree->session = session;
    if (session->source && session->tree)
        return 0;
    err_sys(err, "session");
    if (!session->tree)
        fd_close(&end);
    return -1;
}

int session_take_user(struct session *session, struct err *err)
{
    const struct sessions_config *config = &session->sessions->config;
    AUTO(str) char *box = path_join(session->dir, "box");
    if (!config->walls->session_users || session->given)
        return 0;
    uid_t uid = session->lent ? session->user.uid : users_take(config->walls->users);
    if (!box || uid == 0)
        return box ? err_set(err, ERR_BUSY, "every user of RUNNER_UIDS is taken")
                   : err_sys(err, "session");
    session->user = (struct owner){uid, uid};
    session->lent = true;
    if (users_hand_over(box, (struct owner){config->uid, config->gid}, session->user, err))
        return -1;
    session->given = true;
    return 0;
}

static int start(struct session *session, struct err *err)
{
    struct sessions *sessions = session->sessions;
    int control = -1;
    struct child *child = NULL;
    AUTO(str) char *box = path_join(session->dir, "box");
    if (!box)
        return err_sys(err, "session");
    if (session_take_user(session, err) || session_mend_dirs(session, err) ||
        spawn(session, box, &control, &child, err))
        return -1;
    if (serve_network(session, child, err)) {
        close(control);
        child_free(child);
        return -1;
    }
    lock_take(&sessions->lock);
    session->control = control;
    session->child = child;
    session->met = 0;
    bool heard = hear_of_locked(session, err) == 0;
    lock_drop(&sessions->lock);
    if (heard && say_begin(session, box, err) == 0)
        return 0;
    lock_take(&sessions->lock);
    session_lost_locked(session);
    enum work_cause limit = work_cause_of_limits(session->met, 0);
    lock_drop(&sessions->lock);
    if (limit != WORK_ENDED)
        return err_set(err, ERR_CONFLICT, "session '%s' does not start: %s", session->id,
                       work_cause_reason(limit));
    return err_wrap(err, "session '%s' does not start", session->id);
}

int session_wake(struct session *session, struct err *err)
{
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    while (session->waking || session->ending_ms)
        lock_wait(&sessions->changed, &sessions->lock, START_MS);
    bool stopping = sessions->closing || session->deleted;
    bool awake = session->control >= 0, making = session->making;
    session->waking = !awake && !stopping && !making;
    lock_drop(&sessions->lock);
    if (making && !stopping)
        return err_set(err, ERR_CONFLICT, "session '%s' is being made", session->id);
    if (stopping)
        return err_set(err, ERR_BUSY, "the session is being ended");
    if (awake)
        return 0;
    int rc = start(session, err);
    lock_take(&sessions->lock);
    session->waking = false;
    pthread_cond_broadcast(&sessions->changed);
    lock_drop(&sessions->lock);
    return rc;
}

static void close_control_locked(struct session *session)
{
    if (session->source)
        source_end_locked(session->sessions, session->source); /* closes the socket, too */
    else
        fd_close(&session->control);
    session->source = NULL;
    session->control = -1;
}

void session_dies_locked(struct session *session)
{
    if (session->control < 0)
        return;
    close_control_locked(session);
    child_end(session->child, true);
    session->ending_ms = clock_mono_ms() + ENDING_MS;
}

void session_tree_locked(struct session *session)
{
    enum child_event event;
    while ((event = child_read(session->child)) == CHILD_EXITED)
        continue;
    if (event == CHILD_ENDED)
        session_lost_locked(session);
}

int64_t sessions_ending_locked(const struct sessions *sessions)
{
    int64_t due = INT64_MAX;
    for (const struct session *at = sessions->list; at; at = at->next)
        if (at->ending_ms > 0 && at->ending_ms < due)
            due = at->ending_ms;
    return due;
}

void sessions_ended_locked(struct sessions *sessions, int64_t now_ms)
{
    for (struct session *at = sessions->list; at; at = at->next)
        if (at->ending_ms > 0 && at->ending_ms <= now_ms)
            session_lost_locked(at);
}

void session_lost_locked(struct session *session)
{
    struct sessions *sessions = session->sessions;
    if (!session->child)
        return;
    close_control_locked(session);
    source_end_locked(sessions, session->tree);
    session->tree = NULL;
    session->ending_ms = 0;
    session->met = child_exceeded(session->child);
    child_free(session->child); /* kills what is left of the tree */
    session->child = NULL;
    for (struct call *call = sessions->calls; call; call = call->next)
        if (call->session == session)
            call->lost = true;
    struct exec *next;
    for (struct exec *command = session->commands; command; command = next) {
        next = command->next;
        exec_lost_locked(command);
    }
    detached_lost_locked(session);
    ptys_lost_locked(session);
    pthread_cond_broadcast(&sessions->changed);
}
