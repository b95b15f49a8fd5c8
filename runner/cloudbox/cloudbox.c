/* Which cloud sessions there are: see cloudbox.h. */
#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/cloudbox/cloudbox_private.h"
#include "runner/cloudbox/visit_box.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES_MAX (8u << 20)
#define TIDY_EVERY_MS 15000
#define LINGER_MS                                                                   \
    90000 /* by then the last command's execution has left, and writes nothing more \
           */

/* --- references ---------------------------------------------------------------------------- */

struct cloudsession *cloudsession_find_locked(struct cloudbox *cloudbox, const char *id)
{
    struct cloudsession *session = cloudbox->list;
    while (session && strcmp(session->id, id) != 0)
        session = session->next;
    return session;
}

struct cloudsession *cloudsession_take(struct cloudbox *cloudbox, const char *id, struct err *err)
{
    lock_take(&cloudbox->lock);
    struct cloudsession *session = cloudsession_find_locked(cloudbox, id);
    if (session && (session->making || session->gone))
        session = NULL;
    if (session)
        session->refs++;
    lock_drop(&cloudbox->lock);
    if (!session)
        err_set(err, ERR_NOT_FOUND, "there is no session '%.64s' in the cloud", id);
    return session;
}

static void session_free(struct cloudsession *session)
{
    free(session->dir);
    free(session->env);
    free(session->cwd);
    free(session->exported);
    free(session->shells);
    free(session->command);
    free(session);
}

void cloudsession_unref_locked(struct cloudsession *session)
{
    REQUIRE(session->refs > 0);
    if (--session->refs == 0)
        session_free(session);
}

void cloudsession_unref(struct cloudbox *cloudbox, struct cloudsession *session)
{
    lock_take(&cloudbox->lock);
    cloudsession_unref_locked(session);
    lock_drop(&cloudbox->lock);
}

bool cloudbox_has(struct cloudbox *cloudbox, const char *id)
{
    if (!cloudbox)
        return false;
    lock_take(&cloudbox->lock);
    const struct cloudsession *session = cloudsession_find_locked(cloudbox, id);
    bool has = session && !session->gone;
    lock_drop(&cloudbox->lock);
    return has;
}

struct carry_place cloudsession_place(const struct cloudbox *cloudbox,
                                      const struct cloudsession *session)
{
    return (struct carry_place){.cloud = cloudbox->config.cloud,
                                .id = session->id,
                                .dir = session->dir,
                                .uid = cloudbox->config.uid,
                                .gid = cloudbox->config.gid};
}

int cloudsession_blame(struct err *err)
{
    if (err->code == ERR_FORBIDDEN || err->code == ERR_INVALID || err->code == ERR_NOT_FOUND ||
        err->code == ERR_RANGE || err->code == ERR_MISMATCH)
        err->code = ERR_UPSTREAM;
    return -1;
}

/* --- the record ---------------------------------------------------------------------------- */

static char *record_path(const struct cloudbox *cloudbox, const char *id)
{
    char name[ID_SIZE + 8];
    snprintf(name, sizeof(name), "%s.json", id);
    return path_join(cloudbox->dir, name);
}

static void add_object(struct json_writer *w, const char *name, const char *json)
{
    if (json)
        json_add_raw(w, name, json, strlen(json));
}

static void print_record_locked(const struct cloudsession *session, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_bool(&w, "making", session->making);
    json_add_bool(&w, "gone", session->gone);
    json_add_number(&w, "cpu", session->cpu);
    json_add_int(&w, "memoryMb", session->memory_mb);
    json_add_int(&w, "pids", session->pids_max);
    json_add_int(&w, "diskMb", session->disk_mb);
    json_add_text(&w, "cwd", session->cwd);
    add_object(&w, "env", session->env);
    add_object(&w, "exported", session->exported);
    add_object(&w, "shells", session->shells);
    if (session->task[0]) {
        json_add_text(&w, "task", session->task);
        json_add_text(&w, "command", session->command);
    }
    json_close(&w);
}

int cloudsession_save(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err)
{
    AUTO(str) char *path = record_path(cloudbox, session->id);
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    lock_take(&cloudbox->lock);
    print_record_locked(session, &text);
    lock_drop(&cloudbox->lock);
    if (!path || buf_check(&text, "the session's record", err))
        return path ? -1 : err_sys(err, "session");
    return file_replace(path, text.data, text.len, 0600, err);
}

void cloudsession_learn(struct cloudbox *cloudbox, struct cloudsession *session, const char *cwd,
                        const char *exported, const char *shells)
{
    lock_take(&cloudbox->lock);
    if (cwd)
        str_replace(&session->cwd, cwd);
    if (exported)
        str_replace(&session->exported, exported);
    if (shells)
        str_replace(&session->shells, shells);
    lock_drop(&cloudbox->lock);
}

static char *object_of(const struct json *record, const char *name)
{
    AUTO(buf) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    const struct json *node = json_get(record, name);
    if (node && json_type(node) == JSON_OBJECT)
        json_print(node, &text);
    else
        buf_adds(&text, "{}");
    return buf_steal(&text);
}

static struct cloudsession *session_new(const struct cloudbox *cloudbox, const char *id)
{
    AUTO(str) char *sessions = path_join(cloudbox->config.state_dir, "sessions");
    struct cloudsession *session = calloc(1, sizeof(*session));
    if (!session)
        return NULL;
    session->refs = 1;
    snprintf(session->id, sizeof(session->id), "%s", id);
    session->dir = sessions ? path_join(sessions, id) : NULL;
    if (session->dir)
        return session;
    session_free(session);
    return NULL;
}

static int read_record(const struct cloudbox *cloudbox, struct cloudsession *session,
                       struct err *err)
{
    int64_t memory = 0, pids = 0, disk = 0;
    AUTO(str) char *path = record_path(cloudbox, session->id);
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (!path || file_read(path, &text, err))
        return -1;
    AUTO(json) struct json *record = json_parse(buf_str(&text), text.len, err);
    if (!record)
        return -1;
    const char *cwd = json_text(json_get(record, "cwd"));
    const char *task = json_text(json_get(record, "task"));
    const char *command = json_text(json_get(record, "command"));
    json_bool(json_get(record, "making"), &session->making);
    json_bool(json_get(record, "gone"), &session->gone);
    json_number(json_get(record, "cpu"), &session->cpu);
    json_int(json_get(record, "memoryMb"), &memory);
    json_int(json_get(record, "pids"), &pids);
    json_int(json_get(record, "diskMb"), &disk);
    session->memory_mb = (int)memory;
    session->pids_max = (int)pids;
    session->disk_mb = (int)disk;
    session->cwd = strdup(cwd ? cwd : "/workspace");
    session->env = object_of(record, "env");
    session->exported = object_of(record, "exported");
    session->shells = object_of(record, "shells");
    session->command = command ? strdup(command) : NULL;
    snprintf(session->task, sizeof(session->task), "%s", task && id_is_valid(task) ? task : "");
    return session->cwd && session->env && session->exported && session->shells
               ? 0
               : err_sys(err, "session");
}

/* One that was not finished is gone. */
static void take_up(struct cloudbox *cloudbox, const char *id)
{
    bool there;
    struct err err;
    struct cloudsession *session = session_new(cloudbox, id);
    if (!session)
        return;
    if (read_record(cloudbox, session, &err)) {
        log_warn("cloudbox", "the cloud session '%s' cannot be read: %s", id, err.msg);
        session_free(session);
        return;
    }
    if (session->making && session_delete(cloudbox->config.sessions, id, &there, &err))
        log_warn("cloudbox", "%s", err.msg);
    session->gone |= session->making;
    session->making = false;
    session->stale = true;
    session->next = cloudbox->list;
    cloudbox->list = session;
}

static int take_up_all(struct cloudbox *cloudbox, struct err *err)
{
    struct dirent *entry;
    DIR *dir = opendir(cloudbox->dir);
    if (!dir)
        return err_sys(err, "cloud sessions");
    while ((entry = readdir(dir))) {
        char id[ID_SIZE];
        size_t len = strlen(entry->d_name);
        if (len <= strlen(".json") || len >= ID_SIZE + strlen(".json") - 1 ||
            strcmp(entry->d_name + len - strlen(".json"), ".json") != 0)
            continue;
        snprintf(id, sizeof(id), "%.*s", (int)(len - strlen(".json")), entry->d_name);
        if (id_is_valid(id))
            take_up(cloudbox, id);
    }
    closedir(dir);
    return 0;
}

/* --- making -------------------------------------------------------------------------------- */

static char *env_of(const struct strlist *env)
{
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    for (size_t i = 0; env && i < env->count; i++) {
        const char *equals = strchr(env->items[i], '=');
        AUTO(str)
        char *name = equals ? str_copy(env->items[i], (size_t)(equals - env->items[i])) : NULL;
        if (name)
            json_add_text(&w, name, equals + 1);
    }
    json_close(&w);
    return buf_steal(&text);
}

static int remove_objects(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err);

static int say_foreign(const char *id, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "the bucket holds a session '%.64s' already", id);
}

/* What is left of an earlier one of that name goes first. */
static int clear_way(struct cloudbox *cloudbox, const char *id, struct err *err)
{
    lock_take(&cloudbox->lock);
    struct cloudsession *old = cloudsession_find_locked(cloudbox, id);
    bool gone = old && old->gone && !old->running;
    if (old)
        old->refs++;
    lock_drop(&cloudbox->lock);
    if (!old)
        return 0;
    int rc = gone ? remove_objects(cloudbox, old, err)
                  : err_set(err, ERR_CONFLICT, "there is a session '%s' already", id);
    cloudsession_unref(cloudbox, old);
    return rc;
}

/* Before anything is noted of it: a runner that is killed while it makes one removes what has its
 * name. */
static int check_bucket(struct cloudbox *cloudbox, const char *id, struct err *err)
{
    struct box_state state;
    if (box_state_get(cloudbox->config.cloud, id, &state, err) == 0) {
        box_state_done(&state);
        return say_foreign(id, err);
    }
    if (err->code == ERR_NOT_FOUND)
        return 0;
    err_wrap(err, "whether the bucket holds a session '%.64s' is not known", id);
    return cloudsession_blame(err);
}

int cloudbox_announce(struct cloudbox *cloudbox, const char *id, const struct session_wish *wish,
                      struct err *err)
{
    if (clear_way(cloudbox, id, err) || check_bucket(cloudbox, id, err))
        return -1;
    struct cloudsession *session = session_new(cloudbox, id);
    if (!session)
        return err_sys(err, "session");
    session->making = true;
    session->cpu = wish->cpu;
    session->memory_mb = wish->memory_mb;
    session->pids_max = wish->pids_max;
    session->disk_mb = wish->disk_mb;
    session->cwd = strdup("/workspace");
    session->exported = strdup("{}");
    session->shells = strdup("{}");
    session->env = env_of(wish->env);
    bool whole = session->cwd && session->exported && session->shells && session->env;
    lock_take(&cloudbox->lock);
    bool taken = cloudsession_find_locked(cloudbox, id) != NULL;
    if (whole && !taken) {
        session->next = cloudbox->list;
        cloudbox->list = session;
        session->refs++;
    }
    lock_drop(&cloudbox->lock);
    int rc = !whole  ? err_sys(err, "session")
             : taken ? err_set(err, ERR_CONFLICT, "there is a session '%s' already", id)
                     : cloudsession_save(cloudbox, session, err);
    if (rc && whole && !taken)
        cloudbox_drop(cloudbox, id);
    cloudsession_unref(cloudbox, session);
    return rc;
}

static struct cloudsession *take_making(struct cloudbox *cloudbox, const char *id)
{
    lock_take(&cloudbox->lock);
    struct cloudsession *session = cloudsession_find_locked(cloudbox, id);
    if (session && session->gone)
        session = NULL;
    if (session)
        session->refs++;
    lock_drop(&cloudbox->lock);
    return session;
}

/* Where its shells are, as a snapshot left them, is told by their own states. */
static int store_first(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err)
{
    static const struct manifest nothing;
    struct carry_count count = {0};
    AUTO(box_state) struct box_state state = {0};
    const struct carry_place place = cloudsession_place(cloudbox, session);
    if (box_state_init(&state, err))
        return -1;
    str_replace(&state.env, session->env);
    visit_box_leave(session->dir);
    int rc = carry_push(&place, &nothing, &state, &count, err);
    lock_take(&cloudbox->lock);
    session->foreign = rc && err->code == ERR_MISMATCH;
    cloudbox->pushed_bytes += count.bytes;
    lock_drop(&cloudbox->lock);
    if (rc == 0)
        return 0;
    if (err->code == ERR_MISMATCH)
        return say_foreign(session->id, err);
    err_wrap(err, "the session cannot be stored");
    return cloudsession_blame(err);
}

int cloudbox_publish(struct cloudbox *cloudbox, const char *id, struct err *err)
{
    struct cloudsession *session = take_making(cloudbox, id);
    if (!session)
        return err_set(err, ERR_CONFLICT, "session '%s' has been removed while it was made", id);
    int rc = store_first(cloudbox, session, err);
    if (rc == 0) {
        lock_take(&cloudbox->lock);
        session->making = false;
        lock_drop(&cloudbox->lock);
        rc = cloudsession_save(cloudbox, session, err);
    }
    cloudsession_unref(cloudbox, session);
    return rc;
}

/* --- removing ------------------------------------------------------------------------------ */

static void unlist_locked(struct cloudbox *cloudbox, struct cloudsession *session)
    HOLDS(cloudbox->lock);
static void unlist_locked(struct cloudbox *cloudbox, struct cloudsession *session)
{
    struct cloudsession **at = &cloudbox->list;
    while (*at && *at != session)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = session->next;
    cloudsession_unref_locked(session);
}

/* Then nothing is left of it. The caller holds a reference. */
static int remove_objects(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err)
{
    AUTO(str) char *path = record_path(cloudbox, session->id);
    if (!path)
        return err_sys(err, "session");
    lock_take(&cloudbox->lock);
    bool foreign = session->foreign;
    lock_drop(&cloudbox->lock);
    if (!foreign && box_state_remove(cloudbox->config.cloud, session->id, err))
        return err_wrap(err, "what session '%s' has in the bucket cannot be removed", session->id);
    unlink(path);
    lock_take(&cloudbox->lock);
    unlist_locked(cloudbox, session);
    lock_drop(&cloudbox->lock);
    return 0;
}

/* An execution may still write something. */
static bool is_lingering_locked(const struct cloudsession *session)
{
    return session->used_ms > 0 && clock_mono_ms() < session->used_ms + LINGER_MS;
}

void cloudbox_drop(struct cloudbox *cloudbox, const char *id)
{
    struct err err;
    if (!cloudbox)
        return;
    lock_take(&cloudbox->lock);
    struct cloudsession *session = cloudsession_find_locked(cloudbox, id);
    bool mine = session && !session->gone;
    if (mine) {
        session->refs++;
        session->gone = true;
        if (session->running)
            session->running->cancel = true;
        cloudbox->restless = true;
        pthread_cond_broadcast(&cloudbox->changed);
    }
    bool busy = mine && (session->running || is_lingering_locked(session));
    lock_drop(&cloudbox->lock);
    if (!mine)
        return;
    err_set(&err, ERR_NOT_FOUND, "session '%s' has been removed", id);
    turns_fail_queue(cloudbox, session, &err);
    if (cloudsession_save(cloudbox, session, &err))
        log_warn("cloudbox", "%s", err.msg);
    if (!busy && remove_objects(cloudbox, session, &err))
        log_warn("cloudbox", "%s; it is tried again", err.msg);
    else if (busy && box_state_remove(cloudbox->config.cloud, id, &err)) /* and again, later */
        log_warn("cloudbox", "%s", err.msg);
    cloudsession_unref(cloudbox, session);
}

/* Those whose time was up are gone in runner/session; and what could not be removed then. */
static void tidy(struct cloudbox *cloudbox)
{
    struct err err;
    AUTO(strlist) struct strlist ids = STRLIST_INIT;
    lock_take(&cloudbox->lock);
    for (const struct cloudsession *at = cloudbox->list; at; at = at->next)
        if (!at->making && !at->running)
            strlist_add(&ids, at->id);
    lock_drop(&cloudbox->lock);
    for (size_t i = 0; i < ids.count; i++) {
        lock_take(&cloudbox->lock);
        struct cloudsession *session = cloudsession_find_locked(cloudbox, ids.items[i]);
        bool gone = session && session->gone && !session->running && !is_lingering_locked(session);
        bool looked = session && !session->gone;
        if (session)
            session->refs++;
        lock_drop(&cloudbox->lock);
        if (looked && !sessions_has(cloudbox->config.sessions, ids.items[i]))
            cloudbox_drop(cloudbox, ids.items[i]);
        else if (gone && remove_objects(cloudbox, session, &err))
            log_warn("cloudbox", "%s", err.msg);
        if (session)
            cloudsession_unref(cloudbox, session);
    }
}

/* --- the keeper ---------------------------------------------------------------------------- */

static void *keep(void *arg)
{
    struct cloudbox *cloudbox = arg;
    int64_t tidy_ms = clock_mono_ms();
    lock_take(&cloudbox->lock);
    while (!cloudbox->stopping) {
        cloudbox->restless = false;
        lock_drop(&cloudbox->lock);
        int64_t due = turns_look(cloudbox, clock_mono_ms());
        if (clock_mono_ms() >= tidy_ms) {
            tidy(cloudbox);
            tidy_ms = clock_mono_ms() + TIDY_EVERY_MS;
        }
        if (tidy_ms < due)
            due = tidy_ms;
        lock_take(&cloudbox->lock);
        int64_t now = clock_mono_ms();
        if (!cloudbox->restless && !cloudbox->stopping && due > now)
            lock_wait(&cloudbox->changed, &cloudbox->lock, due - now);
    }
    lock_drop(&cloudbox->lock);
    return NULL;
}

struct cloudbox *cloudbox_new(const struct cloudbox_config *config, struct err *err)
{
    struct cloudbox *cloudbox = calloc(1, sizeof(*cloudbox));
    if (!cloudbox) {
        err_sys(err, "cloud sessions");
        return NULL;
    }
    cloudbox->config = *config;
    lock_init(&cloudbox->lock);
    cond_init(&cloudbox->changed);
    cloudbox->dir = path_join(config->state_dir, "cloud-sessions");
    if (cloudbox->dir && path_make_dirs(cloudbox->dir, 0700, err) == 0 &&
        take_up_all(cloudbox, err) == 0)
        return cloudbox;
    cloudbox_free(cloudbox);
    return NULL;
}

int cloudbox_start(struct cloudbox *cloudbox, struct err *err)
{
    for (struct cloudsession *at = cloudbox->list; at; at = at->next)
        turns_adopt(cloudbox, at);
    return thread_start(&cloudbox->keeper, "cloudbox", THREAD_STACK_DEFAULT, keep, cloudbox, err);
}

void cloudbox_stop(struct cloudbox *cloudbox)
{
    struct err err;
    if (!cloudbox)
        return;
    lock_take(&cloudbox->lock);
    cloudbox->stopping = true;
    pthread_cond_broadcast(&cloudbox->changed);
    lock_drop(&cloudbox->lock);
    thread_join(&cloudbox->keeper);
    err_set(&err, ERR_BUSY, "the service is shutting down");
    for (struct cloudsession *at = cloudbox->list; at; at = at->next)
        turns_fail_queue(cloudbox, at, &err);
}

void cloudbox_free(struct cloudbox *cloudbox)
{
    if (!cloudbox)
        return;
    cloudbox_stop(cloudbox);
    lock_take(&cloudbox->lock);
    while (cloudbox->list) {
        struct cloudsession *session = cloudbox->list;
        unlist_locked(cloudbox, session);
    }
    lock_drop(&cloudbox->lock);
    pthread_cond_destroy(&cloudbox->changed);
    lock_done(&cloudbox->lock);
    free(cloudbox->dir);
    free(cloudbox);
}

/* --- showing ------------------------------------------------------------------------------- */

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
        add_object(w, name,
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
