#include "runner/repo/harvest.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "git/diff.h"
#include "runner/repo/repo_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE "Changes made by Claude Code"
#define COLLECT_MS 300000

/* Runs a job as the task's own user, in a jail in which it sees the run's directory, and `reads`
 * unless that is NULL. */
static struct json *run_as_task(struct repos *repos, struct workspace *workspace, const char *dir,
                                const char *reads, struct json_writer *w, int timeout_ms,
                                const struct work_stop *stop, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    AUTO(strlist) struct strlist mounts = STRLIST_INIT;
    if (workspace && workspace_mounts(workspace, &mounts, err))
        return NULL;
    json_close(w);
    const struct call call = {.launcher = repos->config.launcher,
                              .marker = repos->config.marker,
                              .job = w->out,
                              .uid = repos->config.uid,
                              .gid = repos->config.gid,
                              .mounts = &mounts,
                              .walls = repos->config.walls,
                              .dir = dir,
                              .reads = reads,
                              .timeout_ms = timeout_ms,
                              .file_mb_max = config->repo_cache_max_mb,
                              .stop = *stop};
    return call_run(&call, err);
}

static void add_list(struct json_writer *w, const char *name, const struct strlist *list)
{
    json_open_array(w, name);
    for (size_t i = 0; list && i < list->count; i++)
        json_add_text(w, NULL, list->items[i]);
    json_close(w);
}

/* Copies a plain file (not a link) that the task's user made to a directory of the runner's, where
 * nobody else can change it. */
static int adopt(const char *from, const char *to, struct err *err)
{
    struct stat st;
    AUTO(fd) int in = open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    AUTO(fd) int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0 || fstat(in, &st) || !S_ISREG(st.st_mode))
        return err_sys(err, "cannot take over the commits");
    if (fd_copy(in, out, st.st_size))
        return err_sys(err, "cannot take over the commits");
    unlink(from);
    return 0;
}

/* Makes a new directory of the task's user below the run's own, for a helper's files. It is made
 * after the task's programs have ended and under a random name, so nothing can have been put into
 * it. Returns its path, which the caller frees; drop_place() removes the directory. */
static char *make_place(const struct repos *repos, const char *dir, struct err *err)
{
    char id[ID_SIZE];
    char *place = NULL;
    id_new(id);
    if (asprintf(&place, "%s/harvest-%s", dir, id) < 0)
        place = NULL;
    if (place && mkdir(place, 0700) == 0 &&
        path_own(place, repos->config.uid, repos->config.gid, err) == 0)
        return place;
    err_sys(err, "cannot make a place for what the task leaves");
    free(place);
    return NULL;
}

static void drop_place(char **place)
{
    struct err ignored;
    if (*place)
        path_remove_tree(*place, &ignored);
    free(*place);
}

#define PLACE __attribute__((cleanup(drop_place)))

static void take_text(const struct json *answer, const char *name, char *to, size_t size)
{
    const char *text = json_text(json_get(answer, name));
    snprintf(to, size, "%s", text ? text : "");
}

/* A helper's job in a workspace, and where its file will be. */
struct asked_of_helper {
    struct json_writer w;
    struct buf job;
    char *place; /* a new directory; removed at the end */
    char *raw;   /* the file in it */
    int timeout_ms;
};

static void auto_asked_of_helper(struct asked_of_helper *asked)
{
    drop_place(&asked->place);
    free(asked->raw);
    buf_done(&asked->job);
}

/* Begins a job on the workspace's tree; its file will be `name` in a directory of its own. */
static int ask_helper(struct workspace *workspace, const char *what, const char *name,
                      struct asked_of_helper *asked, struct err *err)
{
    struct repos *repos = workspace_repos(workspace);
    AUTO(str) char *work = path_join(workspace_dir(workspace), "work");
    *asked = (struct asked_of_helper){
        .job = BUF_INIT(4u << 20),
        .timeout_ms = CONFIG_GET(repos->config.config, git_timeout_seconds) * 1000};
    asked->place = make_place(repos, workspace_dir(workspace), err);
    if (!asked->place)
        return -1;
    asked->raw = path_join(asked->place, name);
    if (!work || !asked->raw)
        return err_sys(err, "%s", what);
    repo_job_begin(repos, &asked->w, &asked->job, what, asked->timeout_ms);
    json_add_text(&asked->w, "work", work);
    json_add_text(&asked->w, "base", workspace_commit(workspace));
    return 0;
}

int harvest_commit(struct workspace *workspace, const struct harvest_commit *wish,
                   const char *bundle, const struct work_stop *stop,
                   struct harvested_commit *ret_kept, struct err *err)
{
    AUTO(asked_of_helper) struct asked_of_helper asked;
    if (ask_helper(workspace, "commit", "bundle", &asked, err))
        return -1;
    struct json_writer *w = &asked.w;
    struct repos *repos = workspace_repos(workspace);
    json_add_bool(w, "commit", wish->commit);
    json_add_text(w, "message", wish->message ? wish->message : MESSAGE);
    add_list(w, "files", wish->files);
    add_list(w, "except", wish->except);
    if (wish->branch)
        json_add_text(w, "branch", wish->branch);
    json_add_text(w, "bundle", asked.raw);
    AUTO(json)
    struct json *answer = run_as_task(repos, workspace, workspace_dir(workspace), NULL, w,
                                      asked.timeout_ms, stop, err);
    if (!answer)
        return -1;
    take_text(answer, "sha", ret_kept->sha, sizeof(ret_kept->sha));
    take_text(answer, "branch", ret_kept->branch, sizeof(ret_kept->branch));
    json_bool(json_get(answer, "committed"), &ret_kept->committed);
    json_bool(json_get(answer, "bundled"), &ret_kept->bundled);
    json_int(json_get(answer, "files"), &ret_kept->files);
    return ret_kept->bundled ? adopt(asked.raw, bundle, err) : 0;
}

struct json *harvest_push(struct workspace *workspace, const struct repo_wish *wish,
                          const struct harvested_commit *kept, const char *bundle, bool recover,
                          const struct work_stop *stop, struct err *err)
{
    REQUIRE(kept->bundled && bundle);
    struct json_writer w;
    struct git_url url;
    char place[4200], id[ID_SIZE];
    struct repos *repos = workspace_repos(workspace);
    int timeout_ms = CONFIG_GET(repos->config.config, git_timeout_seconds) * 1000;
    AUTO(secret) struct repo_secret secret = {.owned = BUF_INIT(131072)};
    AUTO(buf_wipe) struct buf job = BUF_INIT(4u << 20);
    if (git_url_parse(wish->url, &url, err) || repo_secret_choose(repos, wish, &url, &secret, err))
        return NULL;
    id_new(id);
    snprintf(place, sizeof(place), "%s/" REPOS_PUSH "%s", repos->dir, id);
    repo_job_begin(repos, &w, &job, "push", timeout_ms);
    json_add_text(&w, "dir", workspace_mirror(workspace));
    json_add_text(&w, "place", place);
    json_add_text(&w, "bundle", bundle);
    json_add_text(&w, "base", workspace_commit(workspace));
    json_add_text(&w, "sha", kept->sha);
    json_add_text(&w, "branch", kept->branch);
    json_add_bool(&w, "recover", recover);
    repo_job_add_remote(repos, &w, wish->url, &secret);
    struct json *answer = repo_job_run(repos, &w, timeout_ms, stop, err);
    struct err ignored;
    path_remove_tree(place, &ignored); /* Left by a killed helper. */
    return answer;
}

/* The directory of the run's own files; the caller frees the path. */
static char *own_files(struct workspace *workspace, const char *dir)
{
    return workspace ? strdup(workspace_upper(workspace)) : path_join(dir, "work");
}

static bool is_there(const char *top, const char *name)
{
    struct stat st;
    AUTO(str) char *path = path_join(top, name);
    return path && lstat(path, &st) == 0;
}

int harvest_make_output(struct repos *repos, struct workspace *workspace, const char *dir,
                        struct err *err)
{
    const char *tree = workspace ? workspace_tree(workspace) : NULL;
    AUTO(str) char *own = own_files(workspace, dir);
    AUTO(str) char *path = own ? path_join(own, HARVEST_OUTPUT) : NULL;
    if (!path)
        return err_sys(err, "outputs");
    if (is_there(own, HARVEST_OUTPUT) || (tree && is_there(tree, HARVEST_OUTPUT)))
        return 0;
    return mkdir(path, 0755) ? err_sys(err, "outputs")
                             : path_own(path, repos->config.uid, repos->config.gid, err);
}

bool harvest_has_output(struct workspace *workspace, const char *work)
{
    struct dirent *entry;
    int count = 0;
    const char *own = workspace ? workspace_upper(workspace) : work;
    AUTO(fd) int top = open(own, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = top < 0 ? NULL
                        : fdopendir(openat(top, HARVEST_OUTPUT,
                                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    while (list && count < 3 && (entry = readdir(list)))
        count++;
    if (list)
        closedir(list);
    return count == 3; /* There is more than "." and "..". */
}

struct json *harvest_files(struct repos *repos, struct workspace *workspace, const char *dir,
                           const char *work, const struct harvest_files *wish, const char *to,
                           const struct work_stop *stop, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf job = BUF_INIT(4u << 20);
    PLACE char *place = make_place(repos, dir, err);
    AUTO(str) char *raw = place ? path_join(place, "outputs") : NULL;
    AUTO(str)
    char *box = str_starts(work, dir) ? NULL : strndup(work, (size_t)(strrchr(work, '/') - work));
    if (!raw) {
        if (place)
            err_sys(err, "outputs");
        return NULL;
    }
    repo_job_begin(repos, &w, &job, "collect", COLLECT_MS);
    json_add_text(&w, "work", work);
    json_add_text(&w, "to", raw);
    add_list(&w, "patterns", wish->patterns);
    json_add_bool(&w, "output", wish->output);
    json_add_int(&w, "sinceMs", wish->since_ms);
    AUTO(json)
    struct json *answer = run_as_task(repos, workspace, dir, box, &w, COLLECT_MS, stop, err);
    if (!answer)
        return NULL;
    if (rename(raw, to)) {
        err_sys(err, "cannot keep the outputs");
        return NULL;
    }
    return STEAL_PTR(answer);
}

void harvest_print_output(const struct json *answer, struct buf *out)
{
    int64_t files = 0, skipped = 0;
    const struct json *output = json_get(answer, "output");
    json_int(json_get(output, "files"), &files);
    json_int(json_get(output, "skipped"), &skipped);
    if (files + skipped > 0)
        json_print(output, out);
}

/* --- what was changed ---------------------------------------------------------------------- */

#define PATCH_BYTES_MAX (64u << 20) /* of all files, including the marks of secrets */

static void print_path(struct json_writer *w, const struct json *file, const char *name,
                       struct redact_set *redact)
{
    AUTO(buf) struct buf clean = BUF_INIT(65536);
    const char *path = json_text(json_get(file, name));
    if (!path)
        return;
    redact_text(redact, path, strlen(path), &clean);
    json_add_textn(w, name, buf_str(&clean), clean.len);
}

static void print_change(struct json_writer *w, const struct json *file, size_t bytes,
                         struct redact_set *redact)
{
    int64_t number = 0;
    bool binary = false;
    json_open_object(w, NULL);
    print_path(w, file, "path", redact);
    print_path(w, file, "oldPath", redact);
    json_add_text(w, "status", json_text(json_get(file, "status")));
    json_int(json_get(file, "additions"), &number);
    json_add_int(w, "additions", number);
    json_int(json_get(file, "deletions"), &number);
    json_add_int(w, "deletions", number);
    json_bool(json_get(file, "binary"), &binary);
    json_add_bool(w, "binary", binary);
    json_add_int(w, "bytes", (int64_t)bytes);
    json_close(w);
}

/* Redacts each file separately, so that the offsets of the files in the patch stay known. */
static int redact_changes(const struct json *answer, const struct buf *raw,
                          struct redact_set *redact, struct buf *patch, struct json_writer *w,
                          struct err *err)
{
    size_t at = 0;
    bool truncated = false;
    json_open_object(w, NULL);
    json_open_array(w, "files");
    for (const struct json *f = json_first(json_get(answer, "files")); f; f = json_next(f)) {
        int64_t bytes = 0;
        size_t before = patch->len;
        if (json_int(json_get(f, "bytes"), &bytes) || bytes < 0 || (size_t)bytes > raw->len - at)
            return err_set(err, ERR_INTERNAL, "the diff is not what its list says");
        redact_text(redact, buf_str(raw) + at, (size_t)bytes, patch);
        at += (size_t)bytes;
        print_change(w, f, patch->len - before, redact);
    }
    json_close(w);
    json_bool(json_get(answer, "truncated"), &truncated);
    json_add_bool(w, "truncated", truncated);
    json_close(w);
    return buf_check(patch, "the diff", err) || buf_check(w->out, "the list of changes", err);
}

static int keep_changes(const struct json *answer, const char *from, const char *keep_dir,
                        struct redact_set *redact, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf raw = BUF_INIT(DIFF_BYTES_MAX + 1);
    AUTO(buf) struct buf patch = BUF_INIT(PATCH_BYTES_MAX);
    AUTO(buf) struct buf list = BUF_INIT(PATCH_BYTES_MAX);
    AUTO(str) char *patch_path = path_join(keep_dir, HARVEST_PATCH);
    AUTO(str) char *list_path = path_join(keep_dir, HARVEST_CHANGES);
    json_write(&w, &list);
    if (!patch_path || !list_path)
        return err_sys(err, "diff");
    if (file_read(from, &raw, err) || redact_changes(answer, &raw, redact, &patch, &w, err))
        return -1;
    return file_replace(patch_path, buf_str(&patch), patch.len, 0600, err) ||
                   file_replace(list_path, buf_str(&list), list.len, 0600, err)
               ? -1
               : 0;
}

int harvest_diff(struct workspace *workspace, const struct strlist *except, const char *keep_dir,
                 struct redact_set *redact, const struct work_stop *stop, struct err *err)
{
    AUTO(asked_of_helper) struct asked_of_helper asked;
    if (ask_helper(workspace, "diff", "patch", &asked, err))
        return -1;
    add_list(&asked.w, "except", except);
    json_add_text(&asked.w, "patch", asked.raw);
    AUTO(json)
    struct json *answer =
        run_as_task(workspace_repos(workspace), workspace, workspace_dir(workspace), NULL, &asked.w,
                    asked.timeout_ms, stop, err);
    return answer ? keep_changes(answer, asked.raw, keep_dir, redact, err) : -1;
}
