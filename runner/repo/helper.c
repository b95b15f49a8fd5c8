#include "runner/repo/helper.h"

#include "base/clock.h"
#include "base/fd.h"
#include "git/commit.h"
#include "git/diff.h"
#include "git/mirror.h"
#include "git/offer.h"
#include "git/push.h"
#include "git/receive.h"
#include "runner/repo/collect.h"
#include "json/json.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_BYTES_MAX (16u << 20)
#define ANSWER_BYTES_MAX (16u << 20)

/* --- reading a job ------------------------------------------------------------------------- */

static const char *text_of(const struct json *job, const char *name)
{
    return json_text(json_get(job, name));
}

static int64_t int_of(const struct json *job, const char *name)
{
    int64_t value = 0;
    json_int(json_get(job, name), &value);
    return value;
}

static bool bool_of(const struct json *job, const char *name)
{
    bool value = false;
    json_bool(json_get(job, name), &value);
    return value;
}

static void list_of(const struct json *job, const char *name, struct strlist *list)
{
    for (const struct json *at = json_first(json_get(job, name)); at; at = json_next(at))
        if (json_text(at))
            strlist_add(list, json_text(at));
}

static struct remote_config remote_of(const struct json *job, const struct strlist *allow)
{
    return (struct remote_config){
        .url = text_of(job, "url") ? text_of(job, "url") : "",
        .allow = allow,
        .token = text_of(job, "token"),
        .key = text_of(job, "key"),
        .known_hosts = text_of(job, "knownHosts"),
        .known_hosts_owner = text_of(job, "knownHostsOwner"),
        .ca_file = getenv("SSL_CERT_FILE"),
        .deadline_ms = clock_mono_ms() + int_of(job, "timeoutMs"),
    };
}

/* --- the jobs ------------------------------------------------------------------------------ */

static void print_report(const struct tree_report *report, struct json_writer *w)
{
    json_add_texts(w, "submodules", &report->submodules);
    json_add_int(w, "lfsPointers", report->lfs_pointers);
    json_add_int(w, "files", report->files);
}

static int do_prepare(const struct json *job, struct json_writer *w, struct err *err)
{
    AUTO(strlist) struct strlist allow = STRLIST_INIT;
    AUTO(mirror_result) struct mirror_result result = {0};
    list_of(job, "allow", &allow);
    const struct mirror_job mirror = {
        .dir = text_of(job, "dir"),
        .remote = remote_of(job, &allow),
        .credential = text_of(job, "credential") ? text_of(job, "credential") : "",
        .asked_ms = int_of(job, "askedMs"),
        .ttl_ms = int_of(job, "ttlMs"),
        .stale_ok = bool_of(job, "staleOk"),
        .branch = text_of(job, "branch"),
        .ref = text_of(job, "ref"),
        .depth = (int)int_of(job, "depth"),
        .share = bool_of(job, "share"),
        .into = text_of(job, "into"),
        .place = text_of(job, "place"),
        .uid = (uid_t)int_of(job, "uid"),
        .gid = (gid_t)int_of(job, "gid"),
    };
    if (!mirror.dir || (mirror.into && !mirror.place))
        return err_set(err, ERR_INVALID, "the job names no mirror");
    if (mirror_prepare(&mirror, &result, err))
        return -1;
    json_add_text(w, "commit", result.commit);
    json_add_text(w, "branch", result.branch);
    json_add_text(w, "generation", result.state.generation);
    json_add_bool(w, "fetched", result.fetched);
    json_add_bool(w, "stale", result.stale);
    json_add_bool(w, "repaired", result.repaired);
    json_add_text(w, "hostKey", result.host_key[0] ? result.host_key : NULL);
    print_report(&result.report, w);
    return 0;
}

static int do_repack(const struct json *job, struct json_writer *w, struct err *err)
{
    (void)w;
    const char *dir = text_of(job, "dir");
    return mirror_repack(dir ? dir : "", (uid_t)int_of(job, "uid"), (gid_t)int_of(job, "gid"),
                         clock_mono_ms() + int_of(job, "timeoutMs"), err);
}

static int do_commit(const struct json *job, struct json_writer *w, struct err *err)
{
    struct commit_result result = {0};
    AUTO(strlist) struct strlist files = STRLIST_INIT;
    AUTO(strlist) struct strlist except = STRLIST_INIT;
    list_of(job, "files", &files);
    list_of(job, "except", &except);
    const struct commit_job commit = {.work = text_of(job, "work"),
                                      .base = text_of(job, "base"),
                                      .commit = bool_of(job, "commit"),
                                      .message = text_of(job, "message"),
                                      .files = &files,
                                      .except = &except,
                                      .branch = text_of(job, "branch"),
                                      .bundle = text_of(job, "bundle")};
    if (!commit.work || !commit.base || !commit.message || !commit.bundle)
        return err_set(err, ERR_INVALID, "the job is not whole");
    if (commit_make(&commit, &result, err))
        return -1;
    json_add_text(w, "sha", result.sha);
    json_add_text(w, "branch", result.branch);
    json_add_bool(w, "committed", result.committed);
    json_add_bool(w, "bundled", result.bundled);
    json_add_int(w, "files", result.files);
    return 0;
}

static int do_push(const struct json *job, struct json_writer *w, struct err *err)
{
    AUTO(strlist) struct strlist allow = STRLIST_INIT;
    AUTO(push_result) struct push_result result = {0};
    list_of(job, "allow", &allow);
    const struct push_job push = {.mirror = text_of(job, "dir"),
                                  .place = text_of(job, "place"),
                                  .bundle = text_of(job, "bundle"),
                                  .base = text_of(job, "base"),
                                  .sha = text_of(job, "sha"),
                                  .branch = text_of(job, "branch"),
                                  .recover = bool_of(job, "recover"),
                                  .remote = remote_of(job, &allow)};
    if (!push.mirror || !push.place || !push.bundle || !push.sha || !push.branch)
        return err_set(err, ERR_INVALID, "the job is not whole");
    if (push_run(&push, &result, err))
        return -1;
    json_add_text(w, "sha", result.sha);
    if (!result.method)
        return 0;
    json_add_text(w, "method", result.method);
    json_add_text(w, "remoteSha", result.remote_sha);
    json_add_texts(w, "conflictFiles", &result.conflict_files);
    return 0;
}

static int do_collect(const struct json *job, struct json_writer *w, struct err *err)
{
    AUTO(strlist) struct strlist patterns = STRLIST_INIT;
    list_of(job, "patterns", &patterns);
    const char *work = text_of(job, "work"), *to = text_of(job, "to");
    if (!work || !to)
        return err_set(err, ERR_INVALID, "the job is not whole");
    return collect_files(work, &patterns, to, w, err) ||
                   (bool_of(job, "output") &&
                    collect_output(work, int_of(job, "sinceMs"), to, w, err))
               ? -1
               : 0;
}

static int do_diff(const struct json *job, struct json_writer *w, struct err *err)
{
    AUTO(strlist) struct strlist except = STRLIST_INIT;
    list_of(job, "except", &except);
    const struct diff_job diff = {.work = text_of(job, "work"),
                                  .base = text_of(job, "base"),
                                  .except = &except,
                                  .patch = text_of(job, "patch")};
    if (!diff.work || !diff.base || !diff.patch)
        return err_set(err, ERR_INVALID, "the job is not whole");
    return diff_write(&diff, w, err);
}

static const struct {
    const char *name;
    int (*run)(const struct json *job, struct json_writer *w, struct err *err);
} jobs[] = {
    {"prepare", do_prepare}, {"repack", do_repack},   {"commit", do_commit},
    {"push", do_push},       {"collect", do_collect}, {"diff", do_diff},
};

static int run_job(const struct json *job, struct json_writer *w, struct err *err)
{
    const char *op = text_of(job, "op");
    for (size_t i = 0; i < COUNT_OF(jobs); i++)
        if (op && strcmp(op, jobs[i].name) == 0)
            return jobs[i].run(job, w, err);
    return err_set(err, ERR_INVALID, "there is no job of that name");
}

static struct json *read_job(struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(JOB_BYTES_MAX);
    if (fd_read_all(STDIN_FILENO, &text, err))
        return NULL;
    return json_parse(buf_str(&text), text.len, err);
}

/* --- the git gate -------------------------------------------------------------------------- */

static int serve_fetch(const struct json *job, const struct strlist *allow, int body,
                       bool *ret_begun, struct err *err)
{
    struct stat st = {.st_size = 0};
    if (body >= 0 && fstat(body, &st))
        return err_sys(err, "the request");
    const struct offer_job offer = {.remote = remote_of(job, allow),
                                    .protocol =
                                        text_of(job, "protocol") ? text_of(job, "protocol") : "",
                                    .body_fd = body,
                                    .body_len = st.st_size,
                                    .out_fd = STDOUT_FILENO};
    return offer_run(&offer, ret_begun, err);
}

static int serve_receive(const struct json *job, const struct strlist *allow, int body,
                         bool *ret_begun, struct err *err)
{
    AUTO(strlist) struct strlist branches = STRLIST_INIT;
    AUTO(buf) struct buf told = BUF_INIT(ANSWER_BYTES_MAX);
    list_of(job, "branches", &branches);
    const struct receive_job receive = {
        .remote = remote_of(job, allow),
        .mirror = text_of(job, "dir"),
        .place = text_of(job, "place"),
        .rules = {.any = bool_of(job, "any"),
                  .branches = &branches,
                  .force = bool_of(job, "force")},
        .body_fd = body,
        .cut = bool_of(job, "cut"),
        .most_mb = int_of(job, "mostMb"),
        .out_fd = STDOUT_FILENO,
        .told = &told,
    };
    if (!receive.mirror || !receive.place)
        return err_set(err, ERR_INVALID, "the job is not whole");
    int rc = receive_run(&receive, ret_begun, err);
    (void)!fd_write_all(STDERR_FILENO, buf_str(&told), told.len);
    return rc;
}

/* The answer goes to the git client, so it is not JSON. */
static int serve_client(const struct json *job)
{
    struct err err = ERR_INIT;
    bool begun = false;
    const char *path = text_of(job, "body");
    AUTO(strlist) struct strlist allow = STRLIST_INIT;
    AUTO(fd) int body = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    list_of(job, "allow", &allow);
    signal(SIGPIPE, SIG_IGN); /* When a server or the client goes away, writes fail with EPIPE. */
    int rc = path && body < 0       ? err_sys(&err, "the request")
             : bool_of(job, "push") ? serve_receive(job, &allow, body, &begun, &err)
                                    : serve_fetch(job, &allow, body, &begun, &err);
    if (rc && !begun && offer_head(STDOUT_FILENO, err_http(err.code), "text/plain", &err) == 0)
        dprintf(STDOUT_FILENO, "claude-runner: %s\n", err.msg);
    return rc ? 1 : 0;
}

int helper_serve(void)
{
    struct err err = ERR_INIT;
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(ANSWER_BYTES_MAX);
    AUTO(json) struct json *job = read_job(&err);
    const char *op = job ? text_of(job, "op") : NULL;
    if (op && strcmp(op, "serve") == 0)
        return serve_client(job);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    int rc = job ? run_job(job, &w, &err) : -1;
    if (rc) {
        buf_clear(&out);
        json_write(&w, &out);
        json_open_object(&w, NULL);
        json_add_int(&w, "code", err.code);
        json_add_text(&w, "error", err.msg);
    }
    json_close(&w);
    return !buf_ok(&out) || fd_write_all(STDOUT_FILENO, buf_str(&out), out.len) ? 1 : 0;
}
