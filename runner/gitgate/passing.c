/* One request of git, from its head to the end of its answer. */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "pack/gunzip.h"
#include "runner/gitgate/gitgate_private.h"
#include "runner/work/work.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES (64u << 10)
#define FETCH_BYTES_MAX (INT64_C(64) << 20) /* limit of a fetch's request, which names commits */
#define BEYOND_BYTES_MAX                                                      \
    (INT64_C(1) << 30) /* a push that is too large is read up to this length, \
                        * then cut off */
#define HEAD_LINE_MAX 200
#define SENTENCE_MAX 4096
#define WORDS_MAX (16u << 20)

void passing_refuse(struct http_request *req, int status, const char *format, ...)
{
    va_list ap;
    AUTO(buf) struct buf text = BUF_INIT(SENTENCE_MAX);
    va_start(ap, format);
    buf_addv(&text, format, ap);
    va_end(ap);
    buf_addc(&text, '\n');
    http_send(req, status, "text/plain", buf_str(&text), text.len);
}

/* --- its body ------------------------------------------------------------------------------ */

struct spool {
    int fd;
    int64_t size, most;
    int64_t beyond; /* bytes that arrived after `most` */
};

static int store(const void *data, size_t len, void *arg, struct err *err)
{
    struct spool *spool = arg;
    int64_t room = spool->most - spool->size;
    size_t n = (int64_t)len < room ? len : (size_t)room;
    if (n > 0 && fd_write_all(spool->fd, data, n))
        return err_sys(err, "cannot keep what git sends");
    spool->size += (int64_t)n;
    spool->beyond += (int64_t)(len - n);
    return spool->beyond > BEYOND_BYTES_MAX ? err_set(err, ERR_TOO_LARGE, "far too large") : 0;
}

static int spool_body(struct http_request *req, struct spool *spool, char *chunk, struct err *err)
{
    ssize_t n;
    const char *encoding = http_header(req, "Content-Encoding");
    bool zipped = encoding && strstr(encoding, "gzip");
    AUTO(gunzip) struct gunzip *gunzip = zipped ? gunzip_new(store, spool, err) : NULL;
    if (zipped && !gunzip)
        return -1;
    while ((n = http_read(req, chunk, CHUNK_BYTES, err)) > 0)
        if (zipped ? gunzip_add(gunzip, chunk, (size_t)n, err)
                   : store(chunk, (size_t)n, spool, err))
            return -1;
    return n < 0 ? -1 : zipped ? gunzip_end(gunzip, err) : 0;
}

/* --- its answer ---------------------------------------------------------------------------- */

struct passing {
    struct gitgate_pass *pass;
    struct http_request *req;
    struct buf head; /* the first line, until it is complete */
    bool begun;
    bool gone; /* the client is gone */
};

static enum work_cause asked(struct work *work, void *arg)
{
    const struct passing *passing = arg;
    (void)work;
    return atomic_load(&passing->pass->dead) || passing->gone ? WORK_CANCEL : WORK_ENDED;
}

/* Begins the answer from a first line "200 type\n". */
static int begin(struct passing *passing, const char *line)
{
    char *end;
    long status = strtol(line, &end, 10);
    if (status < 200 || status > 599 || *end != ' ')
        return -1;
    http_add_header(passing->req, "Cache-Control", "no-cache");
    passing->begun = true;
    return http_begin(passing->req, (int)status, end + 1);
}

static void take(struct work *work, const char *data, size_t len, void *arg)
{
    struct passing *passing = arg;
    int rc = 0;
    if (!passing->begun) {
        const char *line_end = memchr(data, '\n', len);
        size_t n = line_end ? (size_t)(line_end - data) : len;
        buf_add(&passing->head, data, n);
        if (!line_end)
            return;
        rc = buf_ok(&passing->head) ? begin(passing, buf_str(&passing->head)) : -1;
        data += n + 1;
        len -= n + 1;
    }
    if (rc == 0 && len > 0 && !passing->gone)
        rc = http_write(passing->req, data, len);
    if (rc && !passing->gone) {
        passing->gone = true;
        work_end(work, WORK_CANCEL);
    }
}

/* Keeps the outcome of each ref for the task's events: lines of JSON. */
static void keep_events(struct gitgate_pass *pass, char *words)
{
    char *save = NULL;
    for (char *line = strtok_r(words, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct err ignored;
        AUTO(json)
        struct json *event = *line == '{' ? json_parse(line, strlen(line), &ignored) : NULL;
        if (!event)
            continue;
        lock_take(&pass->gate->lock);
        if (pass->events.count < PASS_EVENTS_MAX)
            strlist_add(&pass->events, line);
        lock_drop(&pass->gate->lock);
    }
}

static void pass_on(struct passing *passing, struct passage_request *request)
{
    struct err err = ERR_INIT;
    struct gitgate_pass *pass = passing->pass;
    char place[4200];
    AUTO(buf) struct buf words = BUF_INIT(WORDS_MAX);
    const struct work_stop stop = {.wake_fd = pass->wake, .asked = asked, .arg = passing};
    workspace_new_place(pass->wish.workspace, place, sizeof(place));
    request->place = place;
    request->wish = &pass->wish.repo;
    request->protocol = http_header(passing->req, "Git-Protocol");
    request->any = pass->any;
    request->force = pass->force;
    request->branches = &pass->branches;
    int rc = workspace_serve(pass->wish.workspace, request, &stop, take, passing, &words, &err);
    if (words.len > 0)
        keep_events(pass, words.data);
    if (rc)
        log_debug("gitgate", "%s", err.msg);
    if (passing->begun)
        http_end(passing->req, rc == 0 && !passing->gone);
    else
        passing_refuse(passing->req, 502, "claude-runner: %s",
                       rc ? err.msg : "git ended without an answer");
}

static void serve_body(struct passing *passing, struct passage_request *request, char *chunk)
{
    struct err err = ERR_INIT;
    char path[4200];
    workspace_new_place(passing->pass->wish.workspace, path, sizeof(path));
    struct spool spool = {.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
                          .most = request->push ? request->most_mb << 20 : FETCH_BYTES_MAX};
    request->body = path;
    if (spool.fd < 0)
        err_sys(&err, "cannot keep what git sends");
    int rc = spool.fd < 0 ? -1 : spool_body(passing->req, &spool, chunk, &err);
    fd_close(&spool.fd);
    request->cut = spool.beyond > 0;
    if (rc)
        passing_refuse(passing->req, err_http(err.code), "claude-runner: %s", err.msg);
    else if (request->cut && !request->push)
        passing_refuse(passing->req, 413, "claude-runner: the request of this fetch is too large");
    else
        pass_on(passing, request);
    unlink(path);
}

static void refuse_push(struct http_request *req)
{
    passing_refuse(req, 403,
                   "claude-runner: this task may fetch and pull, but not push: its request has no "
                   "\"gitPush\".\nTo allow it, send the task with \"gitPush\":true, or "
                   "\"gitPush\":{\"branches\":[\"claude/*\"]} for some branches only.");
}

/* In the form that git-lfs reads. */
static void refuse_lfs(struct http_request *req)
{
    static const char said[] =
        "{\"message\":\"claude-runner: Git LFS does not go through the runner. Large files of the "
        "repository stay pointers; to get them, allow the LFS server by egress and give the "
        "task a credential of its own.\"}\n";
    http_send(req, 501, "application/vnd.git-lfs+json", said, sizeof(said) - 1);
}

void passing_serve(struct gitgate_pass *pass, struct http_request *req, const char *rest)
{
    struct passing passing = {.pass = pass, .req = req, .head = BUF_INIT(HEAD_LINE_MAX)};
    const char *service = http_query(req, "service");
    bool refs = strcmp(rest, "/info/refs") == 0 && strcmp(http_method(req), "GET") == 0;
    const char *what = refs ? service : rest + 1;
    struct passage_request request = {.push = what && strcmp(what, "git-receive-pack") == 0,
                                      .most_mb = CONFIG_GET(pass->gate->config, git_push_max_mb)};
    bool fetch = what && strcmp(what, "git-upload-pack") == 0;
    if (str_starts(rest, "/info/lfs/")) {
        refuse_lfs(req);
        return;
    }
    if (!request.push && !fetch) {
        passing_refuse(req, 404, "claude-runner: only git's smart protocol is passed on.");
        return;
    }
    if (request.push && !pass->pushes) {
        refuse_push(req);
        return;
    }
    char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        passing_refuse(req, 503, "claude-runner: out of memory.");
    else if (refs)
        pass_on(&passing, &request);
    else if (strcmp(http_method(req), "POST") == 0)
        serve_body(&passing, &request, chunk);
    else
        passing_refuse(req, 405, "claude-runner: that is asked for by POST.");
    free(chunk);
    buf_done(&passing.head);
}
