#include "runner/claude/finish.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/material/material.h"
#include "runner/repo/collect.h"
#include "runner/repo/harvest.h"
#include "json/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUNDLE "repository.bundle"
#define REPORT_BYTES_MAX (1u << 20)

const char *const finish_own_files[] = {".env", NULL};

struct finish {
    const struct claude *claude;
    struct task_run *run;
    const struct task_request *request;
    struct workspace *workspace;
    struct work_stop stop;
    char *work;    /* directory of the workspace */
    char *bundle;  /* kept outside of the outputs until it has to be one of them */
    char *outputs; /* directory */
    struct json_writer w;
};

static bool is_stopped(void *arg)
{
    return task_run_stop(arg) != STOP_NO;
}

static void say(const struct finish *finish, const char *what, const struct err *err)
{
    (void)finish;
    log_warn("claude", "%s: %s", what, err->msg);
}

/* --- commit and push ----------------------------------------------------------------------- */

/* Makes the bundle of a commit an output, so that a commit that was not pushed is not lost. */
static void harvest_bundle(struct finish *finish)
{
    char url[256];
    struct err err = ERR_INIT;
    AUTO(str) char *to = path_join(finish->outputs, BUNDLE);
    if (!to || path_make_dirs(finish->outputs, 0700, &err) || rename(finish->bundle, to)) {
        if (err.code == ERR_NONE)
            err_sys(&err, "bundle");
        say(finish, "cannot keep the commit", &err);
        return;
    }
    snprintf(url, sizeof(url), "/tasks/%s/outputs/" BUNDLE, task_run_record(finish->run)->id);
    json_add_text(&finish->w, "bundle", url);
}

static void print_recovery(struct json_writer *w, const struct json *answer)
{
    const char *method = json_text(json_get(answer, "method"));
    if (!method)
        return;
    json_open_object(w, "recovery");
    json_add_text(w, "method", method);
    json_add_text(w, "remoteSha", json_text(json_get(answer, "remoteSha")));
    json_open_array(w, "conflictFiles");
    const struct json *at = json_first(json_get(answer, "conflictFiles"));
    for (; at; at = json_next(at))
        json_add_text(w, NULL, json_text(at));
    json_close(w);
    json_close(w);
}

static void print_lost_push(struct finish *finish, const struct err *err)
{
    struct json_writer *w = &finish->w;
    say(finish, "push", err);
    json_add_bool(w, "pushed", false);
    json_add_text(w, "error", err->msg);
    harvest_bundle(finish);
}

/* Pushes, and notes the id that the remote has now. */
static void push(struct finish *finish, struct harvested_commit *kept)
{
    struct err err = ERR_INIT;
    const struct task_request *request = finish->request;
    const struct repo_wish wish = material_wish(request);
    const char *strategy = request->post_git_conflict_strategy;
    bool recover = !strategy || strcmp(strategy, "auto") == 0;
    if (!kept->branch[0]) {
        err_set(&err, ERR_INVALID, "no branch is checked out and none was named to push to");
        print_lost_push(finish, &err);
        return;
    }
    AUTO(json)
    struct json *answer =
        harvest_push(finish->workspace, &wish, kept, finish->bundle, recover, &finish->stop, &err);
    if (!answer) {
        print_lost_push(finish, &err);
        return;
    }
    const char *sha = json_text(json_get(answer, "sha"));
    if (sha)
        snprintf(kept->sha, sizeof(kept->sha), "%s", sha);
    json_add_bool(&finish->w, "pushed", true);
    print_recovery(&finish->w, answer);
}

/* The branch that the request names, or that was checked out for it; NULL when there is neither.
 * HEAD does not count, because Claude may have changed it. */
static const char *push_branch(const struct finish *finish)
{
    const char *named = material_branch(finish->request->post_git_branch);
    const char *made_of = workspace_branch(finish->workspace);
    return named ? named : *made_of ? made_of : NULL;
}

static void commit(struct finish *finish)
{
    struct err err = ERR_INIT;
    struct harvested_commit kept = {0};
    const struct task_request *request = finish->request;
    AUTO(strlist) struct strlist except = STRLIST_INIT;
    for (size_t i = 0; finish_own_files[i]; i++)
        strlist_add(&except, finish_own_files[i]);
    const struct harvest_commit wish = {.commit = request->post_git_commit,
                                        .message = request->post_git_commit_message,
                                        .files = &request->post_git_files,
                                        .except = &except,
                                        .branch = push_branch(finish)};
    struct json_writer *w = &finish->w;
    json_open_object(w, "gitCommit");
    if (harvest_commit(finish->workspace, &wish, finish->bundle, &finish->stop, &kept, &err)) {
        say(finish, "commit", &err);
        json_add_text(w, "error", err.msg);
        json_close(w);
        return;
    }
    json_add_text(w, "branch", kept.branch[0] ? kept.branch : NULL);
    json_add_bool(w, "committed", kept.committed);
    if (kept.committed) {
        json_add_text(w, "message", wish.message ? wish.message : "Changes made by Claude Code");
        json_add_int(w, "files", kept.files);
    }
    if (request->post_git_push && kept.bundled)
        push(finish, &kept);
    else
        json_add_bool(w, "pushed", false);
    if (!request->post_git_push && kept.bundled)
        harvest_bundle(finish);
    json_add_text(w, "sha", kept.sha[0] ? kept.sha : NULL);
    json_close(w);
}

void finish_changes(struct task_run *run, struct workspace *workspace)
{
    struct err err = ERR_INIT;
    const struct work_stop stop = material_stop(run);
    AUTO(strlist) struct strlist except = STRLIST_INIT;
    for (size_t i = 0; finish_own_files[i]; i++)
        strlist_add(&except, finish_own_files[i]);
    if (harvest_diff(workspace, &except, task_run_keep_dir(run), task_run_redact(run), &stop, &err))
        log_warn("claude", "cannot keep what was changed: %s", err.msg);
}

/* --- files --------------------------------------------------------------------------------- */

/* Stores one of the outputs in the bucket as well, and reports where. */
static void store_file(struct finish *finish, const char *path, int64_t size)
{
    struct err err = ERR_INIT;
    const struct cloud *cloud = finish->claude->cloud;
    const struct storage_stop stop = {.stop = is_stopped, .arg = finish->run};
    AUTO(buf) struct buf name = BUF_INIT(16384);
    AUTO(str) char *from = path_join(finish->outputs, path);
    AUTO(fd) int fd = from ? open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    buf_addf(&name, "%s/%s", finish->request->post_upload_gcs_prefix, path);
    if (!cloud)
        err_set(&err, ERR_CONFIG, "gcsPrefix: no bucket is configured");
    else if (fd < 0)
        err_sys(&err, "cannot open '%s'", path);
    else if (buf_check(&name, "the object's name", &err) == 0 &&
             storage_put_file(cloud->google,
                              &(const struct storage_at){cloud->bucket, buf_str(&name),
                                                         "application/octet-stream", STORAGE_ANY},
                              fd, 0, size, &stop, NULL, &err) == 0) {
        AUTO(buf) struct buf at = BUF_INIT(32768);
        buf_addf(&at, "gs://%s/%s", cloud->bucket, buf_str(&name));
        json_add_text(&finish->w, "gcsPath", buf_str(&at));
        return;
    }
    say(finish, "outputs", &err);
    json_add_text(&finish->w, "uploadError", err.msg);
}

static void print_file(struct finish *finish, const struct json *file)
{
    int64_t size = 0;
    struct json_writer *w = &finish->w;
    const char *path = json_text(json_get(file, "path"));
    AUTO(buf) struct buf url = BUF_INIT(16384);
    json_int(json_get(file, "size"), &size);
    buf_addf(&url, "/tasks/%s/outputs/", task_run_record(finish->run)->id);
    for (const char *p = path ? path : ""; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("/._-~", *p);
        buf_addf(&url, plain ? "%c" : "%%%02X", plain ? *p : (unsigned char)*p);
    }
    json_open_object(w, NULL);
    json_add_text(w, "originalPath", path);
    json_add_text(w, "url", buf_str(&url));
    json_add_int(w, "sizeBytes", size);
    if (path && finish->request->post_upload_gcs_prefix)
        store_file(finish, path, size);
    json_close(w);
}

/* In a container at Google files use memory. */
static void print_trouble(struct finish *finish, const struct err *err)
{
    char text[1024];
    bool away = finish->claude->cloud && getenv("CLOUD_RUN_JOB") &&
                (err->code == ERR_NO_SPACE || err->code == ERR_TOO_LARGE);
    snprintf(text, sizeof(text), "%s%s", err->msg,
             away
                 ? "; what a task writes in the cloud counts against its memory: give it more with "
                   "--memory of claude-runner cloud setup"
                 : "");
    json_add_text(&finish->w, "uploadError", text);
}

static void upload(struct finish *finish, const struct harvest_files *wish)
{
    struct err err;
    int64_t skipped = 0;
    struct json_writer *w = &finish->w;
    AUTO(buf) struct buf kept = BUF_INIT(256);
    AUTO(json)
    struct json *answer =
        harvest_files(finish->claude->repos, finish->workspace, task_run_dir(finish->run),
                      finish->work, wish, finish->outputs, &finish->stop, &err);
    if (!answer) {
        say(finish, "outputs", &err);
        print_trouble(finish, &err);
        return;
    }
    harvest_print_output(answer, &kept);
    if (kept.len > 0)
        json_add_raw(w, "outputs", buf_str(&kept), kept.len);
    if (!wish->patterns)
        return;
    json_open_array(w, "uploadedFiles");
    const struct json *at = json_first(json_get(answer, "files"));
    for (; at; at = json_next(at))
        print_file(finish, at);
    json_close(w);
    json_int(json_get(answer, "skipped"), &skipped);
    if (skipped > 0)
        json_add_int(w, "uploadsSkipped", skipped);
    const char *left = json_text(json_get(answer, "leftPath"));
    int64_t left_bytes = 0;
    json_int(json_get(answer, "leftBytes"), &left_bytes);
    if (left) {
        err_set(&err, ERR_TOO_LARGE,
                "'%.120s' has %lld bytes: a task keeps %d files and %d GiB at most", left,
                (long long)left_bytes, COLLECT_FILES_MAX, (int)(COLLECT_BYTES_MAX >> 30));
        print_trouble(finish, &err);
    }
}

/* --- all of it ----------------------------------------------------------------------------- */

void finish_run(struct attempt *attempt, bool success)
{
    struct task_run *run = attempt->run;
    struct workspace *workspace = attempt->workspace;
    const struct task_request *request = attempt->request;
    AUTO(buf) struct buf out = BUF_INIT(REPORT_BYTES_MAX);
    AUTO(str) char *bundle = path_join(task_run_keep_dir(run), "bundle");
    AUTO(str) char *outputs = path_join(task_run_keep_dir(run), "outputs");
    AUTO(str) char *work = walls_outside(&attempt->places, "work");
    struct finish finish = {.claude = attempt->claude,
                            .run = run,
                            .request = request,
                            .workspace = workspace,
                            .stop = material_stop(run),
                            .work = work,
                            .bundle = bundle,
                            .outputs = outputs};
    if (!bundle || !outputs || !work)
        return;
    bool patterns = success && request->post_upload_glob_patterns.count > 0;
    const struct harvest_files files = {
        .patterns = patterns ? &request->post_upload_glob_patterns : NULL,
        .output = harvest_has_output(workspace, work),
        .since_ms = workspace || attempt->guest ? attempt->files_ms : 0};
    json_write(&finish.w, &out);
    json_open_object(&finish.w, NULL);
    /* Files first, because a commit that cannot be pushed adds its bundle to them. */
    if (patterns || files.output)
        upload(&finish, &files);
    if (success && workspace && (request->post_git_commit || request->post_git_push))
        commit(&finish);
    json_close(&finish.w);
    unlink(bundle);
    if (!buf_ok(&out) || out.len <= 2)
        return;
    task_run_event(run, "finish", buf_str(&out), out.len);
    buf_addc(&attempt->members, ',');
    buf_add(&attempt->members, out.data + 1, out.len - 2);
}
