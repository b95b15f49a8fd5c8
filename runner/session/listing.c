/* Sessions as callers see them: see session.h. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/walk.h"
#include "runner/session/session_private.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#define DISK_LOOK_MS 50

static void add_shells_locked(const struct session *session, struct json_writer *w)
{
    json_open_array(w, "shells");
    for (const struct view *view = session->views; view; view = view->next) {
        json_open_object(w, NULL);
        json_add_text(w, "name", view->name);
        json_add_text(w, "cwd", view->cwd ? view->cwd : "/workspace");
        json_add_bool(w, "running", view->running != NULL);
        json_add_text(w, "command", view->running ? view->running->text : NULL);
        json_close(w);
    }
    json_close(w);
}

static size_t count_running_locked(const struct session *session)
{
    size_t count = 0;
    for (size_t i = 0; i < session->process_count; i++)
        count += session->processes[i].running;
    return count;
}

/* Adds what it may reach, where that was set, and what was refused. */
static void add_network(const struct session *session, struct json_writer *w)
{
    if (session->egress.count > 0) {
        json_add_texts(w, "egress", &session->egress);
    }
    if (session->denied.count > 0) {
        json_open_array(w, "egressDenied");
        for (size_t i = 0; i < session->denied.count; i++)
            json_add_raw(w, NULL, session->denied.items[i], strlen(session->denied.items[i]));
        json_close(w);
    }
}

static void learn_denials_locked(struct session *session)
{
    for (;;) {
        AUTO(buf) struct buf json = BUF_INIT(4096);
        if (!session->gate || !egress_gate_denial(session->gate, &json))
            return;
        strlist_add(&session->denied, buf_str(&json));
    }
}

/* What a session's files take. Counting goes on for DISK_LOOK_MS at most. */
struct disk {
    int64_t bytes, until_ms;
    bool whole;
};

static int add_file_size(int dir, const char *name, const char *path, const struct stat *st,
                         void *arg)
{
    struct disk *disk = arg;
    (void)dir;
    (void)name;
    (void)path;
    disk->bytes += st->st_blocks * INT64_C(512);
    disk->whole = clock_mono_ms() < disk->until_ms;
    return !disk->whole;
}

static struct disk count_disk(const struct session *session)
{
    struct disk disk = {.until_ms = clock_mono_ms() + DISK_LOOK_MS, .whole = true};
    walk_files(open(session->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), add_file_size, &disk);
    return disk;
}

static void add_disk(const struct session *session, const struct disk *disk, struct json_writer *w)
{
    json_open_object(w, "disk");
    json_add_int(w, "usedBytes", disk->bytes);
    json_add_bool(w, "counted", disk->whole); /* else it is at least so much */
    if (session->disk_mb > 0)
        json_add_int(w, "limitMb", session->disk_mb);
    else
        json_add_null(w, "limitMb");
    json_close(w);
}

/* `env` and `disk` are of one session that is looked at; NULL in a list. */
static void add_session_locked(const struct session *session, const struct buf *env,
                               const struct disk *disk, struct json_writer *w)
{
    struct view *view = shellview_find_locked((struct session *)(uintptr_t)session, "default");
    json_open_object(w, NULL);
    json_add_text(w, "id", session->id);
    json_add_text(w, "session_id", session->id);
    json_add_text(w, "state", session->making ? "making" : session->trouble ? "failed" : "ready");
    json_add_bool(w, "awake", session->control >= 0);
    json_add_text(w, "executor", "local");
    json_add_text(w, "cwd", view && view->cwd ? view->cwd : "/workspace");
    if (env)
        json_add_raw(w, "env", buf_str(env), env->len);
    add_shells_locked(session, w);
    ptys_print_locked(session, w);
    json_add_int(w, "running", (int64_t)count_running_locked(session));
    if (disk) {
        detached_list_locked(session, w);
        add_disk(session, disk, w);
    }
    json_add_time(w, "createdAt", session->created_ms);
    json_add_time(w, "lastUsedAt", session->used_ms);
    json_add_time(w, "expiresAt", session->created_ms + session->ttl_minutes * INT64_C(60000));
    json_add_int(w, "ttlMinutes", session->ttl_minutes);
    json_add_int(w, "idleMinutes", session->idle_minutes);
    add_network(session, w);
    json_add_text(w, "from", session->from);
    json_add_given(w, "repo", session->repo);
    json_add_given(w, "metadata", session->metadata);
    if (session->trouble)
        json_add_text(w, "error", session->trouble);
    json_close(w);
}

void sessions_print(struct sessions *sessions, struct buf *out)
{
    struct json_writer w;
    lock_take(&sessions->lock);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_open_array(&w, "sessions");
    for (const struct session *at = sessions->list; at; at = at->next)
        add_session_locked(at, NULL, NULL, &w);
    json_close(&w);
    json_close(&w);
    lock_drop(&sessions->lock);
}

int session_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err)
{
    struct json_writer w;
    struct err ignored;
    AUTO(buf) struct buf env = BUF_INIT(16u << 20);
    AUTO(buf) struct buf ask = BUF_INIT(64);
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    if (session->views && session_work(sessions, id, "env", &ask, &env, &ignored))
        buf_clear(&env);
    if (env.len == 0)
        buf_adds(&env, "{}");
    const struct disk disk = count_disk(session);
    lock_take(&sessions->lock);
    learn_denials_locked(session);
    json_write(&w, out);
    add_session_locked(session, &env, &disk, &w);
    lock_drop(&sessions->lock);
    return 0;
}
