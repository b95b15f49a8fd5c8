/* Files of sessions: the requests to agents, and their answers. */
#include "base/fd.h"
#include "base/str.h"
#include "runner/session/session_private.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define ASK_BYTES_MAX (64u << 10) /* of a request within a message */

static void add_text(struct buf *members, const char *name, const char *text)
{
    if (!text)
        return;
    buf_addf(members, ",\"%s\":\"", name);
    str_add_json(members, text, strlen(text));
    buf_addc(members, '"');
}

static void begin(struct buf *members, const char *work, const char *path)
{
    buf_addf(members, ",\"op\":\"work\",\"work\":\"%s\"", work);
    add_text(members, "path", path);
}

/* Returns a reference to a session whose agent runs. */
static struct session *awake(struct sessions *sessions, const char *id, struct err *err)
{
    struct session *session = session_take(sessions, id, err);
    if (!session || session_wake(session, err) == 0)
        return session;
    session_unref(session);
    return NULL;
}

int session_open(struct sessions *sessions, const char *id, const char *path, struct err *err)
{
    int fd;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, "open", path);
    AUTO(json) struct json *said = link_call(session, &members, NULL, 0, WORK_MS, &fd, err);
    return said ? fd : -1;
}

void session_write_done(struct session_write *write)
{
    fd_close(&write->fd);
    free(write->path);
    write->path = NULL;
}

static void add_wish(struct buf *members, const struct file_wish *wish)
{
    add_text(members, "ifMatch", wish->if_match);
    add_text(members, "ifNoneMatch", wish->if_none_match);
    if (wish->append)
        buf_adds(members, ",\"append\":true");
    if (wish->mode >= 0)
        buf_addf(members, ",\"mode\":%d", wish->mode);
}

/* A file of the disk: what is written to one of the kernel's own would be so with our rights. */
static bool is_stored(int fd)
{
    struct stat st;
    struct statfs fs;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fstatfs(fd, &fs) == 0 &&
           fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC;
}

int session_write_open(struct sessions *sessions, const char *id, const struct file_wish *wish,
                       struct session_write *ret_write, struct err *err)
{
    int fd;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    *ret_write = (struct session_write){.fd = -1};
    if (!session)
        return -1;
    begin(&members, "create", wish->path);
    add_wish(&members, wish);
    AUTO(json) struct json *said = link_call(session, &members, NULL, 0, WORK_MS, &fd, err);
    if (!said)
        return -1;
    const char *path = json_text(json_get(said, "path"));
    const char *fresh = json_text(json_get(said, "fresh"));
    json_bool(json_get(said, "existed"), &ret_write->existed);
    snprintf(ret_write->fresh, sizeof(ret_write->fresh), "%s", fresh ? fresh : "");
    ret_write->path = path ? strdup(path) : NULL;
    ret_write->fd = fd;
    if (fd >= 0 && ret_write->path && is_stored(fd))
        return 0;
    bool odd = fd >= 0 && ret_write->path;
    session_write_done(ret_write);
    if (odd)
        return err_set(err, ERR_FORBIDDEN, "'%.160s' is no file that can be written to",
                       wish->path);
    return err_set(err, ERR_INTERNAL, "the session did not open the file");
}

/* Calls the agent and prints the members of its answer, without id and ok. `file`: a request that
 * is too long for a message, or -1. */
static int call_and_print(struct session *session, const struct buf *members, int file,
                          struct buf *out, struct err *err)
{
    int fd;
    AUTO(json)
    struct json *said = link_call(session, members, &file, file >= 0, WORK_MS, &fd, err);
    if (!said)
        return -1;
    if (fd >= 0) { /* A long answer is in a file. */
        int rc = lseek(fd, 0, SEEK_SET) < 0 ? err_sys(err, "session") : fd_read_all(fd, out, err);
        fd_close(&fd);
        return rc;
    }
    buf_addc(out, '{');
    const char *comma = "";
    for (const struct json *at = json_first(said); at; at = json_next(at)) {
        const char *name = json_name(at);
        if (strcmp(name, "id") == 0 || strcmp(name, "ok") == 0)
            continue;
        buf_addf(out, "%s\"%s\":", comma, name);
        json_print(at, out);
        comma = ",";
    }
    buf_addc(out, '}');
    return 0;
}

int session_write_commit(struct sessions *sessions, const char *id, const struct file_wish *wish,
                         struct session_write *write, struct buf *out, struct err *err)
{
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, "commit", write->path);
    add_text(&members, "fresh", write->fresh);
    add_wish(&members, wish);
    return call_and_print(session, &members, -1, out, err);
}

void session_write_discard(struct sessions *sessions, const char *id, struct session_write *write)
{
    int fd;
    struct err ignored;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, &ignored);
    if (!session || !write->fresh[0])
        return;
    begin(&members, "discard", write->path);
    add_text(&members, "fresh", write->fresh);
    json_free(link_call(session, &members, NULL, 0, WORK_MS, &fd, &ignored));
    fd_close(&fd);
}

int session_remove(struct sessions *sessions, const char *id, const struct file_wish *wish,
                   bool *ret_there, struct err *err)
{
    int fd;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, "remove", wish->path);
    add_wish(&members, wish);
    AUTO(json) struct json *said = link_call(session, &members, NULL, 0, WORK_MS, &fd, err);
    fd_close(&fd);
    if (said)
        json_bool(json_get(said, "deleted"), ret_there);
    return said ? 0 : -1;
}

int session_work(struct sessions *sessions, const char *id, const char *work, const struct buf *ask,
                 struct buf *out, struct err *err)
{
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, work, NULL);
    if (ask->len <= ASK_BYTES_MAX) {
        buf_add(&members, buf_str(ask), ask->len);
        return call_and_print(session, &members, -1, out, err);
    }
    AUTO(buf) struct buf whole = BUF_INIT(ask->len + 32);
    buf_addf(&whole, "{\"long\":true%s}", buf_str(ask));
    AUTO(fd) int file = link_text_file(buf_str(&whole), whole.len, err);
    return file < 0 ? -1 : call_and_print(session, &members, file, out, err);
}

/* Reads the pipe to its end. */
static int pass_on(int from, session_take_fn *take, void *arg, struct err *err)
{
    ssize_t n = 0;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    if (!piece)
        return err_sys(err, "archive");
    int rc = take(NULL, 0, arg);
    while (rc == 0 && (n = read(from, piece, PIECE_BYTES)) != 0)
        rc = n > 0 ? take(piece, (size_t)n, arg) : errno == EINTR ? 0 : -1;
    return rc ? err_set(err, ERR_UPSTREAM, "nobody takes the archive any more") : 0;
}

int session_pack(struct sessions *sessions, const char *id, const char *path, session_take_fn *take,
                 void *arg, struct err *err)
{
    struct call call;
    int from = -1, ignored = -1;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, "pack", path);
    int rc = link_begin(session, &members, NULL, 0, &call, err);
    AUTO(json) struct json *ready = rc ? NULL : link_await(session, &call, WORK_MS, &from, err);
    rc = ready ? pass_on(from, take, arg, err) : -1;
    fd_close(&from); /* The agent stops there, when it has more. */
    AUTO(json) struct json *said = rc ? NULL : link_await(session, &call, WORK_MS, &ignored, err);
    link_forget(session, &call);
    fd_close(&ignored);
    return said ? 0 : -1;
}

/* Writes everything that next() returns into the pipe. *ret_ours is ERR_NONE unless the error is
 * the sender's. */
static int pump(int to, ssize_t (*next)(char *to, size_t max, void *arg, struct err *err),
                void *arg, struct err *err)
{
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    ssize_t n = 0;
    if (!piece)
        return err_sys(err, "archive");
    while ((n = next(piece, PIECE_BYTES, arg, err)) > 0)
        if (fd_write_all(to, piece, (size_t)n))
            return 0; /* The agent reads no more, and says why. */
    return n < 0 ? -1 : 0;
}

int session_unpack(struct sessions *sessions, const char *id, const char *path, bool single,
                   ssize_t (*next)(char *to, size_t max, void *arg, struct err *err), void *arg,
                   struct buf *out, struct err *err)
{
    struct call call;
    int pipe_fd = -1, ignored = -1;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    AUTO(session) struct session *session = awake(sessions, id, err);
    if (!session)
        return -1;
    begin(&members, "unpack", path);
    if (single)
        buf_adds(&members, ",\"single\":true");
    int rc = link_begin(session, &members, NULL, 0, &call, err);
    AUTO(json) struct json *ready = rc ? NULL : link_await(session, &call, WORK_MS, &pipe_fd, err);
    if (ready)
        rc = pump(pipe_fd, next, arg, err);
    else
        rc = -1;
    fd_close(&pipe_fd);
    AUTO(json) struct json *said = rc ? NULL : link_await(session, &call, WORK_MS, &ignored, err);
    link_forget(session, &call);
    fd_close(&ignored);
    if (!said)
        return -1;
    int64_t bytes = 0, entries = 0;
    json_int(json_get(said, "bytes"), &bytes);
    json_int(json_get(said, "entries"), &entries);
    buf_addf(out, "{\"bytes\":%lld,\"entries\":%lld}", (long long)bytes, (long long)entries);
    return 0;
}
