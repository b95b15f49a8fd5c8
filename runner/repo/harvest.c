#include "runner/repo/harvest.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/path.h"
#include "runner/repo/repo_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE "Changes made by Claude Code"
#define COLLECT_MS 300000

/* A job for the task's own user, who sees the workspace. */
static struct json *run_as_task(struct repos *repos, struct workspace *workspace,
                                struct json_writer *w, int timeout_ms, const struct work_stop *stop,
                                struct err *err)
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

/* Takes a file that the task's user made over to a place of the runner's: a plain file and no
 * link, as a copy that nobody else can change. */
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

static void take_text(const struct json *answer, const char *name, char *to, size_t size)
{
    const char *text = json_text(json_get(answer, name));
    snprintf(to, size, "%s", text ? text : "");
}

int harvest_commit(struct workspace *workspace, const struct harvest_commit *wish,
                   const char *bundle, const struct work_stop *stop,
                   struct harvested_commit *ret_kept, struct err *err)
{
    struct json_writer w;
    struct repos *repos = workspace_repos(workspace);
    int timeout_ms = CONFIG_GET(repos->config.config, git_timeout_seconds) * 1000;
    AUTO(buf) struct buf job = BUF_INIT(4u << 20);
    AUTO(str) char *work = path_join(workspace_dir(workspace), "work");
    AUTO(str) char *raw = path_join(workspace_dir(workspace), "keep/bundle");
    if (!work || !raw)
        return err_sys(err, "commit");
    job_begin(repos, &w, &job, "commit", timeout_ms);
    json_add_text(&w, "work", work);
    json_add_text(&w, "base", workspace_commit(workspace));
    json_add_bool(&w, "commit", wish->commit);
    json_add_text(&w, "message", wish->message ? wish->message : MESSAGE);
    add_list(&w, "files", wish->files);
    add_list(&w, "except", wish->except);
    if (wish->branch)
        json_add_text(&w, "branch", wish->branch);
    json_add_text(&w, "bundle", raw);
    AUTO(json)
    struct json *answer = run_as_task(repos, workspace, &w, timeout_ms, stop, err);
    if (!answer)
        return -1;
    take_text(answer, "sha", ret_kept->sha, sizeof(ret_kept->sha));
    take_text(answer, "branch", ret_kept->branch, sizeof(ret_kept->branch));
    json_bool(json_get(answer, "committed"), &ret_kept->committed);
    json_bool(json_get(answer, "bundled"), &ret_kept->bundled);
    json_int(json_get(answer, "files"), &ret_kept->files);
    return ret_kept->bundled ? adopt(raw, bundle, err) : 0;
}

struct json *harvest_push(struct workspace *workspace, const struct repo_wish *wish,
                          const struct harvested_commit *kept, const char *bundle, bool recover,
                          const struct work_stop *stop, struct err *err)
{
    struct json_writer w;
    struct git_url url;
    char place[4200], id[ID_SIZE];
    struct repos *repos = workspace_repos(workspace);
    int timeout_ms = CONFIG_GET(repos->config.config, git_timeout_seconds) * 1000;
    AUTO(secret) struct repo_secret secret = {.owned = BUF_INIT(131072)};
    AUTO(buf_wipe) struct buf job = BUF_INIT(4u << 20);
    if (git_url_parse(wish->url, &url, err) || secret_choose(repos, wish, &url, &secret, err))
        return NULL;
    id_new(id);
    snprintf(place, sizeof(place), "%s/" REPOS_PUSH "%s", repos->dir, id);
    job_begin(repos, &w, &job, "push", timeout_ms);
    json_add_text(&w, "dir", workspace_mirror(workspace));
    json_add_text(&w, "place", place);
    json_add_text(&w, "bundle", bundle);
    json_add_text(&w, "base", workspace_commit(workspace));
    json_add_text(&w, "sha", kept->sha);
    json_add_text(&w, "branch", kept->branch);
    json_add_bool(&w, "recover", recover);
    job_add_remote(repos, &w, wish->url, &secret);
    struct json *answer = job_run(repos, &w, timeout_ms, stop, err);
    struct err ignored;
    path_remove_tree(place, &ignored); /* a killed helper leaves it */
    return answer;
}

struct json *harvest_files(struct repos *repos, struct workspace *workspace, const char *dir,
                           const struct strlist *patterns, const char *to,
                           const struct work_stop *stop, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf job = BUF_INIT(4u << 20);
    AUTO(str) char *work = path_join(dir, "work");
    AUTO(str) char *raw = path_join(dir, "keep/outputs");
    if (!work || !raw) {
        err_sys(err, "outputs");
        return NULL;
    }
    job_begin(repos, &w, &job, "collect", COLLECT_MS);
    json_add_text(&w, "work", work);
    json_add_text(&w, "to", raw);
    add_list(&w, "patterns", patterns);
    AUTO(json) struct json *answer = run_as_task(repos, workspace, &w, COLLECT_MS, stop, err);
    if (!answer)
        return NULL;
    if (rename(raw, to)) {
        err_sys(err, "cannot keep the outputs");
        return NULL;
    }
    return STEAL_PTR(answer);
}
