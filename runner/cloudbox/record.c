/* What is known here of cloud sessions, as files: one record each, read again at the start. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/cloudbox/cloudbox_private.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cloudsession_free(struct cloudsession *session)
{
    free(session->dir);
    free(session->env);
    free(session->cwd);
    free(session->exported);
    free(session->shells);
    free(session->command);
    free(session);
}

char *cloudsession_record_path(const struct cloudbox *cloudbox, const char *id)
{
    char name[ID_SIZE + 8];
    snprintf(name, sizeof(name), "%s.json", id);
    return path_join(cloudbox->dir, name);
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
    json_add_given(&w, "env", session->env);
    json_add_given(&w, "exported", session->exported);
    json_add_given(&w, "shells", session->shells);
    if (session->task[0]) {
        json_add_text(&w, "task", session->task);
        json_add_text(&w, "command", session->command);
    }
    json_close(&w);
}

int cloudsession_save(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err)
{
    AUTO(str) char *path = cloudsession_record_path(cloudbox, session->id);
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

struct cloudsession *cloudsession_new(const struct cloudbox *cloudbox, const char *id)
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
    cloudsession_free(session);
    return NULL;
}

static int read_record(const struct cloudbox *cloudbox, struct cloudsession *session,
                       struct err *err)
{
    int64_t memory = 0, pids = 0, disk = 0;
    AUTO(str) char *path = cloudsession_record_path(cloudbox, session->id);
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
    struct cloudsession *session = cloudsession_new(cloudbox, id);
    if (!session)
        return;
    if (read_record(cloudbox, session, &err)) {
        log_warn("cloudbox", "the cloud session '%s' cannot be read: %s", id, err.msg);
        cloudsession_free(session);
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

int cloudsessions_take_up(struct cloudbox *cloudbox, struct err *err)
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
