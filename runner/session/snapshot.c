/*
 * Snapshots: what a session was, to begin others as.
 *
 *     snapshots/ID/snapshot.json   what it is; a directory without it is a snapshot that was cut
 * off snapshots/ID/workspace       the files, or those that differ from the repository's
 *     snapshots/ID/home, shells
 *
 * Nothing refers to it: a session that begins as one has a copy, which shares its blocks where the
 * file system can do that. The repository below is shared, and held.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/session/duplicate.h"
#include "runner/session/session_private.h"
#include "runner/walls/walls.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_BYTES_MAX (2u << 20)
#define TTL_MINUTES (30 * 24 * 60)
#define PER_SESSION 4 /* limit: SESSIONS_MAX times this */
#define BYTES_MAX (INT64_C(1) << 40)
#define ENTRIES_MAX 10000000

static void snapshot_free(struct snapshot *snapshot)
{
    if (!snapshot)
        return;
    workspace_close(snapshot->workspace);
    strlist_wipe(&snapshot->env);
    free(snapshot->dir);
    free(snapshot->base);
    free(snapshot->repo);
    free(snapshot->metadata);
    free(snapshot);
}

static struct snapshot *find_locked(const struct sessions *sessions, const char *id)
    HOLDS(sessions->lock);
static struct snapshot *find_locked(const struct sessions *sessions, const char *id)
{
    struct snapshot *at = sessions->snapshots;
    while (at && strcmp(at->id, id) != 0)
        at = at->next;
    return at;
}

static void unlist_locked(struct sessions *sessions, struct snapshot *snapshot)
    HOLDS(sessions->lock);
static void unlist_locked(struct sessions *sessions, struct snapshot *snapshot)
{
    struct snapshot **at = &sessions->snapshots;
    while (*at != snapshot)
        at = &(*at)->next;
    *at = snapshot->next;
    sessions->snapshot_count--;
}

/* --- printing ------------------------------------------------------------------------------ */

static void print_one(const struct snapshot *snapshot, struct json_writer *w)
{
    json_open_object(w, NULL);
    json_add_text(w, "id", snapshot->id);
    json_add_text(w, "session", snapshot->session);
    json_add_text(w, "state", snapshot->making ? "making" : "ready");
    json_add_time(w, "createdAt", snapshot->created_ms);
    json_add_time(w, "expiresAt", snapshot->expires_ms);
    json_add_text(w, "method", snapshot->base ? "changes" : snapshot->shared ? "shared" : "copy");
    json_add_int(w, "bytes", snapshot->bytes);
    json_add_int(w, "files", snapshot->entries);
    json_add_int(w, "tookMs", snapshot->took_ms);
    json_add_given(w, "repo", snapshot->repo);
    json_add_given(w, "metadata", snapshot->metadata);
    json_close(w);
}

void snapshots_print(struct sessions *sessions, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    lock_take(&sessions->lock);
    json_open_object(&w, NULL);
    json_open_array(&w, "snapshots");
    for (const struct snapshot *at = sessions->snapshots; at; at = at->next)
        print_one(at, &w);
    json_close(&w);
    json_close(&w);
    lock_drop(&sessions->lock);
}

int snapshot_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err)
{
    struct json_writer w;
    json_write(&w, out);
    lock_take(&sessions->lock);
    const struct snapshot *snapshot = find_locked(sessions, id);
    if (snapshot)
        print_one(snapshot, &w);
    lock_drop(&sessions->lock);
    return snapshot ? 0 : err_set(err, ERR_NOT_FOUND, "there is no snapshot '%.64s'", id);
}

/* --- the record ---------------------------------------------------------------------------- */

static int save(const struct snapshot *snapshot, struct err *err)
{
    struct json_writer w;
    AUTO(str) char *path = path_join(snapshot->dir, "snapshot.json");
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "session", snapshot->session);
    json_add_int(&w, "createdMs", snapshot->created_ms);
    json_add_int(&w, "expiresMs", snapshot->expires_ms);
    json_add_int(&w, "tookMs", snapshot->took_ms);
    json_add_int(&w, "bytes", snapshot->bytes);
    json_add_int(&w, "entries", snapshot->entries);
    json_add_bool(&w, "shared", snapshot->shared);
    json_add_given(&w, "base", snapshot->base);
    json_add_given(&w, "repo", snapshot->repo);
    json_add_given(&w, "metadata", snapshot->metadata);
    json_add_texts(&w, "env", &snapshot->env);
    json_close(&w);
    if (!path || buf_check(&text, "the snapshot's record", err))
        return path ? -1 : err_sys(err, "snapshot");
    return file_replace(path, text.data, text.len, 0600, err);
}

static int read_record(struct snapshot *snapshot, struct err *err)
{
    AUTO(str) char *path = path_join(snapshot->dir, "snapshot.json");
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (!path || file_read(path, &text, err))
        return -1;
    AUTO(json) struct json *record = json_parse(buf_str(&text), text.len, err);
    const char *session = json_text(json_get(record, "session"));
    if (!record)
        return -1;
    snprintf(snapshot->session, sizeof(snapshot->session), "%s", session ? session : "");
    json_int(json_get(record, "createdMs"), &snapshot->created_ms);
    json_int(json_get(record, "expiresMs"), &snapshot->expires_ms);
    json_int(json_get(record, "tookMs"), &snapshot->took_ms);
    json_int(json_get(record, "bytes"), &snapshot->bytes);
    json_int(json_get(record, "entries"), &snapshot->entries);
    json_bool(json_get(record, "shared"), &snapshot->shared);
    snapshot->base = json_print_new(json_get(record, "base"), RECORD_BYTES_MAX);
    snapshot->repo = json_print_new(json_get(record, "repo"), RECORD_BYTES_MAX);
    snapshot->metadata = json_print_new(json_get(record, "metadata"), RECORD_BYTES_MAX);
    const struct json *env = json_get(record, "env");
    for (const struct json *at = json_first(env); at; at = json_next(at))
        strlist_add(&snapshot->env, json_text(at) ? json_text(at) : "");
    return 0;
}

/* Holds the repository that the snapshot is based on, as long as the snapshot exists. */
static int hold_base(const struct sessions *sessions, struct snapshot *snapshot, struct err *err)
{
    if (!snapshot->base)
        return 0;
    AUTO(json) struct json *saved = json_parse(snapshot->base, strlen(snapshot->base), err);
    if (saved)
        snapshot->workspace = workspace_load(sessions->config.repos, saved, snapshot->dir, err);
    return snapshot->workspace ? 0 : -1;
}

static struct snapshot *snapshot_new(const struct sessions *sessions, const char *id)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot)
        return NULL;
    snapshot->dir = path_join(sessions->snapshots_dir, id);
    snprintf(snapshot->id, sizeof(snapshot->id), "%s", id);
    if (snapshot->dir)
        return snapshot;
    free(snapshot);
    return NULL;
}

static void load_one(struct sessions *sessions, const char *id)
{
    struct err err;
    struct snapshot *snapshot = snapshot_new(sessions, id);
    if (!snapshot)
        return;
    if (read_record(snapshot, &err)) {
        log_info("session", "the snapshot '%s' was not finished and is removed", id);
        path_remove_tree(snapshot->dir, &err);
        snapshot_free(snapshot);
        return;
    }
    if (hold_base(sessions, snapshot, &err))
        log_warn("session", "the snapshot '%s' is of no use any more: %s", id, err.msg);
    snapshot->next = sessions->snapshots;
    sessions->snapshots = snapshot;
    sessions->snapshot_count++;
}

int snapshots_load(struct sessions *sessions, struct err *err)
{
    struct dirent *entry;
    struct err ignored;
    sessions->snapshots_dir = path_join(sessions->config.state_dir, "snapshots");
    if (!sessions->snapshots_dir)
        return err_sys(err, "snapshots");
    if (path_make_dirs(sessions->snapshots_dir, 0700, err))
        return -1;
    DIR *dir = opendir(sessions->snapshots_dir);
    if (!dir)
        return err_sys(err, "snapshots");
    while ((entry = readdir(dir))) {
        AUTO(str) char *path = path_join(sessions->snapshots_dir, entry->d_name);
        if (path && str_starts(entry->d_name, ".gone-"))
            path_remove_tree(path, &ignored);
        else if (id_is_valid(entry->d_name))
            load_one(sessions, entry->d_name);
    }
    closedir(dir);
    return 0;
}

void snapshots_free(struct sessions *sessions)
{
    struct snapshot *snapshot;
    while ((snapshot = sessions->snapshots)) {
        sessions->snapshots = snapshot->next;
        snapshot_free(snapshot);
    }
    free(sessions->snapshots_dir);
}

/* --- copies -------------------------------------------------------------------------------- */

struct maker {
    struct sessions *sessions;
    const struct session *session; /* session that is being made, or NULL */
};

static bool is_stopped(void *arg)
{
    const struct maker *maker = arg;
    return base_is_stopped(maker->sessions, maker->session);
}

/* Copies one part, and adds its size to *total. */
static int copy_part(struct maker *maker, const char *from, const char *to, bool layer,
                     struct duplicate_count *total, struct err *err)
{
    struct duplicate_count count = {.shared = true};
    const struct sessions_config *config = &maker->sessions->config;
    const struct duplicate_order order = {.from = from,
                                          .to = to,
                                          .layer = layer,
                                          .bytes_max = BYTES_MAX,
                                          .entries_max = ENTRIES_MAX,
                                          .uid = config->uid,
                                          .gid = config->gid,
                                          .stop = is_stopped,
                                          .arg = maker};
    int rc = duplicate_tree(&order, &count, err);
    total->bytes += count.bytes;
    total->entries += count.entries;
    total->shared = total->shared && count.shared;
    return rc;
}

/* True when the shells' states are usable elsewhere: without walls they name the host's paths. */
static bool has_portable_shells(const struct session *session)
{
    return session->sessions->config.walls->tier == JAIL_FULL || session->enclosed;
}

static int copy_session(struct maker *maker, const struct session *session,
                        struct snapshot *snapshot, struct err *err)
{
    static const char *const parts[][2] = {{"upper", "workspace"},
                                           {"box/workspace", "workspace"},
                                           {"box/home", "home"},
                                           {"box/shells", "shells"}};
    struct duplicate_count total = {.shared = true};
    bool layered = session->base != NULL;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        AUTO(str) char *from = path_join(session->dir, parts[i][0]);
        AUTO(str) char *to = path_join(snapshot->dir, parts[i][1]);
        if (!from || !to)
            return err_sys(err, "snapshot");
        if ((i == 0 && !layered) || (i == 1 && layered) ||
            (i == 3 && !has_portable_shells(session)))
            continue;
        if (copy_part(maker, from, to, i == 0, &total, err))
            return -1;
    }
    snapshot->bytes = total.bytes;
    snapshot->entries = total.entries;
    snapshot->shared = total.shared;
    return 0;
}

/* --- making -------------------------------------------------------------------------------- */

static int enter(struct sessions *sessions, struct snapshot *snapshot, struct err *err)
{
    int max = CONFIG_GET(sessions->config.config, sessions_max) * PER_SESSION;
    lock_take(&sessions->lock);
    bool taken = find_locked(sessions, snapshot->id) != NULL, closing = sessions->closing;
    bool full = sessions->snapshot_count >= (size_t)max;
    if (!taken && !full && !closing) {
        snapshot->next = sessions->snapshots;
        sessions->snapshots = snapshot;
        sessions->snapshot_count++;
        sessions->makers++;
    }
    lock_drop(&sessions->lock);
    if (closing)
        return err_set(err, ERR_BUSY, "the service is shutting down");
    if (taken)
        return err_set(err, ERR_CONFLICT, "there is a snapshot '%s' already", snapshot->id);
    return full ? err_set(err, ERR_RATE, "there are %d snapshots already", max) : 0;
}

static int describe(const struct session *session, const struct snapshot_wish *wish,
                    struct snapshot *snapshot, struct err *err)
{
    int ttl = wish->ttl_minutes > 0 ? wish->ttl_minutes : TTL_MINUTES;
    snprintf(snapshot->session, sizeof(snapshot->session), "%s", session->id);
    snapshot->created_ms = clock_real_ms();
    snapshot->expires_ms = snapshot->created_ms + ttl * INT64_C(60000);
    snapshot->making = true;
    snapshot->base = session->base ? strdup(session->base) : NULL;
    snapshot->repo = session->repo ? strdup(session->repo) : NULL;
    snapshot->metadata = wish->metadata ? strdup(wish->metadata) : NULL;
    for (size_t i = 0; i < session->env.count; i++)
        strlist_add(&snapshot->env, session->env.items[i]);
    bool whole = !snapshot->env.failed && !snapshot->base == !session->base &&
                 !snapshot->repo == !session->repo && !snapshot->metadata == !wish->metadata;
    return whole ? 0 : err_sys(err, "snapshot");
}

static int make(struct sessions *sessions, const struct session *session, struct snapshot *snapshot,
                struct err *err)
{
    struct err ignored;
    struct maker maker = {sessions, session};
    int64_t began_ms = clock_mono_ms();
    if (mkdir(snapshot->dir, 0700))
        return err_sys(err, "cannot make a snapshot");
    int rc = hold_base(sessions, snapshot, err) || copy_session(&maker, session, snapshot, err);
    snapshot->took_ms = clock_mono_ms() - began_ms;
    if (rc == 0 && base_is_stopped(sessions, session)) /* What was removed meanwhile is missing. */
        rc = err_set(err, ERR_CONFLICT, "session '%s' has just been removed", session->id);
    if (rc == 0)
        rc = save(snapshot, err);
    if (rc)
        path_remove_tree(snapshot->dir, &ignored);
    return rc ? -1 : 0;
}

int snapshot_create(struct sessions *sessions, const char *session_id,
                    const struct snapshot_wish *wish, struct buf *out, struct err *err)
{
    char fresh[ID_SIZE];
    struct json_writer w;
    AUTO(session) struct session *session = session_take(sessions, session_id, err);
    if (!session)
        return -1;
    if (session->making)
        return err_set(err, ERR_CONFLICT, "session '%s' is being made", session->id);
    id_new(fresh);
    struct snapshot *snapshot = snapshot_new(sessions, wish->id ? wish->id : fresh);
    if (!snapshot)
        return err_sys(err, "snapshot");
    if (describe(session, wish, snapshot, err) || enter(sessions, snapshot, err)) {
        snapshot_free(snapshot);
        return -1;
    }
    int rc = make(sessions, session, snapshot, err);
    lock_take(&sessions->lock);
    snapshot->making = false;
    sessions->makers--;
    if (rc) {
        unlist_locked(sessions, snapshot);
    } else {
        json_write(&w, out);
        print_one(snapshot, &w);
    }
    pthread_cond_broadcast(&sessions->changed);
    lock_drop(&sessions->lock);
    if (rc)
        snapshot_free(snapshot);
    return rc;
}

/* --- removing ------------------------------------------------------------------------------ */

int snapshot_delete(struct sessions *sessions, const char *id, bool *ret_there, struct err *err)
{
    char fresh[ID_SIZE], gone[ID_SIZE + 8];
    id_new(fresh);
    snprintf(gone, sizeof(gone), ".gone-%s", fresh);
    AUTO(str) char *to = path_join(sessions->snapshots_dir, gone);
    if (!to)
        return err_sys(err, "snapshot");
    lock_take(&sessions->lock);
    struct snapshot *snapshot = find_locked(sessions, id);
    bool busy = snapshot && (snapshot->making || snapshot->used > 0);
    *ret_there = snapshot != NULL;
    if (snapshot && !busy)
        unlist_locked(sessions, snapshot);
    lock_drop(&sessions->lock);
    if (busy)
        return err_set(err, ERR_CONFLICT, "the snapshot '%.64s' is being used", id);
    if (!snapshot)
        return 0;
    int rc = rename(snapshot->dir, to) ? err_sys(err, "cannot remove the snapshot")
                                       : path_remove_tree(to, err);
    snapshot_free(snapshot);
    return rc;
}

void snapshots_tidy(struct sessions *sessions, int64_t now_ms)
{
    struct err err;
    bool there;
    AUTO(strlist) struct strlist over = STRLIST_INIT;
    lock_take(&sessions->lock);
    for (const struct snapshot *at = sessions->snapshots; at; at = at->next)
        if (!at->making && at->used == 0 && now_ms >= at->expires_ms)
            strlist_add(&over, at->id);
    lock_drop(&sessions->lock);
    for (size_t i = 0; i < over.count; i++)
        if (snapshot_delete(sessions, over.items[i], &there, &err))
            log_warn("session", "%s", err.msg);
}

/* --- beginning as one ---------------------------------------------------------------------- */

/* Adds the snapshot's variables; the request's own replace those of the same name. */
static int add_env(struct session *session, const struct snapshot *snapshot, struct err *err)
{
    for (size_t i = 0; i < snapshot->env.count; i++) {
        const char *item = snapshot->env.items[i];
        size_t name = strcspn(item, "=") + 1;
        bool known = false;
        for (size_t k = 0; k < session->env.count; k++)
            known |= strncmp(session->env.items[k], item, name) == 0;
        if (!known)
            strlist_add(&session->env, item);
    }
    return session->env.failed ? err_sys(err, "session") : 0;
}

/* Replaces an empty directory by another. */
static int replace(struct maker *maker, const struct snapshot *snapshot, const char *part,
                   const char *to, bool layer, struct err *err)
{
    struct err ignored;
    struct duplicate_count count = {.shared = true};
    AUTO(str) char *from = path_join(snapshot->dir, part);
    AUTO(str) char *path = path_join(maker->session->dir, to);
    if (!from || !path)
        return err_sys(err, "session");
    if (access(from, F_OK))
        return 0; /* Shells of a host without walls. */
    path_remove_tree(path, &ignored);
    return copy_part(maker, from, path, layer, &count, err);
}

static int unfold(struct session *session, const struct snapshot *snapshot, struct err *err)
{
    struct maker maker = {session->sessions, session};
    bool layered = snapshot->base != NULL;
    session->from = strdup(snapshot->id);
    session->base = snapshot->base ? strdup(snapshot->base) : NULL;
    session->repo = snapshot->repo ? strdup(snapshot->repo) : NULL;
    if (!session->from || (layered && !session->base) || add_env(session, snapshot, err) ||
        replace(&maker, snapshot, "workspace", layered ? "upper" : "box/workspace", layered, err) ||
        replace(&maker, snapshot, "home", "box/home", false, err) ||
        replace(&maker, snapshot, "shells", "box/shells", false, err))
        return session->from ? -1 : err_sys(err, "session");
    base_load(session);
    if (session->trouble)
        return err_set(err, ERR_CONFLICT, "the snapshot '%.64s' is of no use any more: %.120s",
                       snapshot->id, session->trouble);
    return 0;
}

int snapshot_unfold(struct session *session, const char *id, struct err *err)
{
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    struct snapshot *snapshot = find_locked(sessions, id);
    bool ready = snapshot && !snapshot->making;
    if (ready)
        snapshot->used++;
    lock_drop(&sessions->lock);
    if (!ready)
        return err_set(err, snapshot ? ERR_CONFLICT : ERR_NOT_FOUND, "%s snapshot '%.64s'%s",
                       snapshot ? "the" : "there is no", id, snapshot ? " is being made" : "");
    int rc = unfold(session, snapshot, err);
    lock_take(&sessions->lock);
    snapshot->used--;
    lock_drop(&sessions->lock);
    return rc;
}
