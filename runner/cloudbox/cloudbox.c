/* Which cloud sessions there are: see cloudbox.h. */
#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/cloudbox/cloudbox_private.h"
#include "runner/cloudbox/visit_box.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIDY_EVERY_MS 15000
#define LINGER_MS 90000 /* then the last command's execution has left, and writes no more */

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

void cloudsession_unref_locked(struct cloudsession *session)
{
    REQUIRE(session->refs > 0);
    if (--session->refs == 0)
        cloudsession_free(session);
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
    struct cloudsession *session = cloudsession_new(cloudbox, id);
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
    AUTO(str) char *path = cloudsession_record_path(cloudbox, session->id);
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
        cloudsessions_take_up(cloudbox, err) == 0)
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
