/* The record of a session, session.json: what the next process knows of it. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/session/session_private.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES_MAX (4u << 20)

static void print_record(const struct session *session, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "id", session->id);
    json_add_int(&w, "createdMs", session->created_ms);
    json_add_int(&w, "usedMs", session->used_ms);
    json_add_int(&w, "ttlMinutes", session->ttl_minutes);
    json_add_int(&w, "idleMinutes", session->idle_minutes);
    json_add_int(&w, "pids", session->pids_max);
    json_add_int(&w, "diskMb", session->disk_mb);
    json_add_int(&w, "memoryMb", session->memory_mb);
    json_add_number(&w, "cpu", session->cpu);
    json_add_texts(&w, "egress", &session->egress);
    json_add_text(&w, "from", session->from);
    json_add_given(&w, "base", session->base);
    json_add_given(&w, "repo", session->repo);
    json_add_given(&w, "metadata", session->metadata);
    json_add_texts(&w, "env", &session->env);
    json_close(&w);
}

int session_save(struct session *session, struct err *err)
{
    AUTO(str) char *path = path_join(session->dir, "session.json");
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    print_record(session, &text);
    if (!path || buf_check(&text, "the session's record", err))
        return path ? -1 : err_sys(err, "session");
    session->used_written_ms = session->used_ms;
    return file_replace(path, text.data, text.len, 0600, err);
}

int session_load(struct session *session, struct err *err)
{
    int64_t ttl = 0, idle = 0, pids = 0, disk = 0, memory = 0;
    AUTO(str) char *path = path_join(session->dir, "session.json");
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (!path || file_read(path, &text, err))
        return path ? -1 : err_sys(err, "session");
    AUTO(json) struct json *record = json_parse(buf_str(&text), text.len, err);
    if (!record)
        return -1;
    json_int(json_get(record, "createdMs"), &session->created_ms);
    json_int(json_get(record, "usedMs"), &session->used_ms);
    json_int(json_get(record, "ttlMinutes"), &ttl);
    json_int(json_get(record, "idleMinutes"), &idle);
    json_int(json_get(record, "pids"), &pids);
    json_int(json_get(record, "diskMb"), &disk);
    json_int(json_get(record, "memoryMb"), &memory);
    (void)json_number(json_get(record, "cpu"), &session->cpu);
    session->disk_mb = (int)disk;
    session->memory_mb = (int)memory;
    session->ttl_minutes = (int)ttl;
    session->idle_minutes = (int)idle;
    session->pids_max = (int)pids;
    const struct json *env = json_get(record, "env");
    for (const struct json *at = json_first(env); at; at = json_next(at))
        strlist_add(&session->env, json_text(at) ? json_text(at) : "");
    const struct json *egress = json_get(record, "egress");
    for (const struct json *at = json_first(egress); at; at = json_next(at))
        strlist_add(&session->egress, json_text(at) ? json_text(at) : "none");
    const char *from = json_text(json_get(record, "from"));
    session->from = from ? strdup(from) : NULL;
    session->base = json_print_new(json_get(record, "base"), RECORD_BYTES_MAX);
    session->repo = json_print_new(json_get(record, "repo"), RECORD_BYTES_MAX);
    session->metadata = json_print_new(json_get(record, "metadata"), RECORD_BYTES_MAX);
    return 0;
}
