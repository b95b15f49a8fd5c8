/* Cloud sessions as callers see them: what runner/session prints of a session, with what is
 * different in the cloud; and their numbers. */
#include "base/buf.h"
#include "base/log.h"
#include "runner/cloudbox/cloudbox_private.h"

#include <string.h>

static void add_shells(struct json_writer *w, const struct cloudsession *session)
{
    struct err ignored;
    AUTO(json)
    struct json *shells = json_parse(session->shells, strlen(session->shells), &ignored);
    json_open_array(w, "shells");
    for (const struct json *at = json_first(shells); at; at = json_next(at)) {
        bool runs = session->running && strcmp(session->running->shell, json_name(at)) == 0;
        json_open_object(w, NULL);
        json_add_text(w, "name", json_name(at));
        json_add_text(w, "cwd", json_text(at));
        json_add_bool(w, "running", runs);
        json_add_text(w, "command", runs ? session->running->text : NULL);
        json_close(w);
    }
    json_close(w);
}

/* What is different, by the member's name; false for what is not. */
static bool add_other_locked(struct json_writer *w, const struct cloudsession *session,
                             const char *name)
{
    if (strcmp(name, "executor") == 0)
        json_add_text(w, name, "cloud");
    else if (strcmp(name, "awake") == 0)
        json_add_bool(w, name, session->running != NULL);
    else if (strcmp(name, "cwd") == 0)
        json_add_text(w, name, session->cwd);
    else if (strcmp(name, "env") == 0)
        json_add_given(w, name,
                       strcmp(session->exported, "{}") == 0 ? session->env : session->exported);
    else if (strcmp(name, "shells") == 0)
        add_shells(w, session);
    else if (strcmp(name, "state") == 0 && session->making)
        json_add_text(w, name, "making");
    else
        return false;
    return true;
}

static void print_one(struct cloudbox *cloudbox, const struct json *printed, bool with_env,
                      struct json_writer *w)
{
    const char *id = json_text(json_get(printed, "id"));
    json_open_object(w, NULL);
    lock_take(&cloudbox->lock);
    const struct cloudsession *session = id ? cloudsession_find_locked(cloudbox, id) : NULL;
    if (session && session->gone) /* another has its name */
        session = NULL;
    for (const struct json *at = json_first(printed); at; at = json_next(at)) {
        AUTO(buf) struct buf text = BUF_INIT(32u << 20);
        if (session && add_other_locked(w, session, json_name(at)))
            continue;
        json_print(at, &text);
        json_add_raw(w, json_name(at), buf_str(&text), text.len);
    }
    if (session && !json_get(printed, "env") && with_env)
        add_other_locked(w, session, "env");
    if (session && session->running && session->running->watched) /* else there is no task yet */
        json_add_text(w, "taskId", session->running->task);
    lock_drop(&cloudbox->lock);
    json_close(w);
}

/* What its last command has left; what was known before when the bucket does not tell. */
static void refresh(struct cloudbox *cloudbox, const char *id)
{
    struct err err;
    struct cloudsession *session = id ? cloudsession_take(cloudbox, id, &err) : NULL;
    AUTO(box_state) struct box_state state = {0};
    if (!session)
        return;
    lock_take(&cloudbox->lock);
    bool stale = session->stale && !session->running;
    lock_drop(&cloudbox->lock);
    if (stale && box_state_get(cloudbox->config.cloud, id, &state, &err) == 0) {
        cloudsession_learn(cloudbox, session, state.cwd, state.env, state.shells);
        lock_take(&cloudbox->lock);
        session->stale = session->running != NULL;
        lock_drop(&cloudbox->lock);
    } else if (stale) {
        log_info("cloudbox", "session '%s': %s", id, err.msg);
    }
    cloudsession_unref(cloudbox, session);
}

void cloudbox_print(struct cloudbox *cloudbox, const struct buf *printed, struct buf *out)
{
    struct json_writer w;
    struct err ignored;
    bool any = false;
    if (cloudbox) {
        lock_take(&cloudbox->lock);
        any = cloudbox->list != NULL;
        lock_drop(&cloudbox->lock);
    }
    AUTO(json)
    struct json *root = any ? json_parse(buf_str(printed), printed->len, &ignored) : NULL;
    if (!root) {
        buf_add(out, buf_str(printed), printed->len);
        return;
    }
    const struct json *list = json_get(root, "sessions");
    json_write(&w, out);
    if (!list) {
        refresh(cloudbox, json_text(json_get(root, "id")));
        print_one(cloudbox, root, true, &w);
        return;
    }
    json_open_object(&w, NULL);
    json_open_array(&w, "sessions");
    for (const struct json *at = json_first(list); at; at = json_next(at))
        print_one(cloudbox, at, false, &w);
    json_close(&w);
    json_close(&w);
}

int cloudbox_print_one(struct cloudbox *cloudbox, const char *id, struct buf *out, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf printed = BUF_INIT(32u << 20);
    sessions_print(cloudbox->config.sessions, &printed);
    AUTO(json) struct json *root = json_parse(buf_str(&printed), printed.len, err);
    const struct json *at = json_first(json_get(root, "sessions"));
    while (at && strcmp(json_text(json_get(at, "id")), id) != 0)
        at = json_next(at);
    if (!root)
        return -1;
    if (!at)
        return err_set(err, ERR_NOT_FOUND, "there is no session '%.64s'", id);
    refresh(cloudbox, id);
    json_write(&w, out);
    print_one(cloudbox, at, true, &w);
    return 0;
}

void cloudbox_metrics(struct metric_page *page, void *arg)
{
    struct cloudbox *cloudbox = arg;
    int64_t sessions = 0, running = 0, commands = 0, conflicts = 0, pulled = 0, pushed = 0;
    if (cloudbox) {
        lock_take(&cloudbox->lock);
        for (const struct cloudsession *at = cloudbox->list; at; at = at->next) {
            sessions += !at->gone;
            running += at->running != NULL;
        }
        commands = cloudbox->commands;
        conflicts = cloudbox->conflicts;
        pulled = cloudbox->pulled_bytes;
        pushed = cloudbox->pushed_bytes;
        lock_drop(&cloudbox->lock);
    }
    metric_family(page, "claude_runner_cloud_sessions", METRIC_GAUGE,
                  "Sessions in the cloud, and how many of them run a command.");
    if (cloudbox) {
        metric_count(page, sessions, "state", "there", NULL);
        metric_count(page, running, "state", "running", NULL);
    }
    metric_family(page, "claude_runner_cloud_session_commands_total", METRIC_COUNTER,
                  "Commands of cloud sessions (conflict: what it did was not kept).");
    if (cloudbox) {
        metric_count(page, commands, "outcome", "ended", NULL);
        metric_count(page, conflicts, "outcome", "conflict", NULL);
    }
    metric_family(page, "claude_runner_cloud_session_bytes_total", METRIC_COUNTER,
                  "Packed bytes of cloud sessions' files between here and the bucket.");
    if (cloudbox) {
        metric_count(page, pulled, "direction", "down", NULL);
        metric_count(page, pushed, "direction", "up", NULL);
    }
}
