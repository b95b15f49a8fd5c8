/* Passes on the requests of git clients in a workspace. */
#include "base/id.h"
#include "runner/repo/repo_private.h"

#include <stdio.h>
#include <unistd.h>

#define MEMORY_MB 2048 /* memory of the helper, which unpacks packs from untrusted senders */

void workspace_new_place(const struct workspace *workspace, char *path, size_t size)
{
    char id[ID_SIZE];
    id_new(id);
    snprintf(path, size, "%s/" REPOS_PUSH "%s", workspace_repos(workspace)->dir, id);
}

static void add_push(const struct passage_request *request, struct json_writer *w)
{
    json_add_text(w, "place", request->place);
    json_add_bool(w, "any", request->any);
    json_add_bool(w, "force", request->force);
    json_add_bool(w, "cut", request->cut);
    json_add_int(w, "mostMb", request->most_mb);
    json_open_array(w, "branches");
    for (size_t i = 0; request->branches && i < request->branches->count; i++)
        json_add_text(w, NULL, request->branches->items[i]);
    json_close(w);
}

int workspace_serve(struct workspace *workspace, const struct passage_request *request,
                    const struct work_stop *stop, work_take_fn *take, void *arg, struct buf *words,
                    struct err *err)
{
    struct json_writer w;
    struct git_url url;
    const struct repos *repos = workspace_repos(workspace);
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    int timeout_ms = config->git_timeout_seconds * 1000;
    AUTO(secret) struct repo_secret secret = {.owned = BUF_INIT(131072)};
    AUTO(buf_wipe) struct buf job = BUF_INIT(4u << 20);
    if (git_url_parse(request->wish->url, &url, err) ||
        repo_secret_choose(repos, request->wish, &url, &secret, err))
        return -1;
    repo_job_begin(repos, &w, &job, "serve", timeout_ms);
    json_add_text(&w, "dir", workspace_mirror(workspace));
    json_add_bool(&w, "push", request->push);
    json_add_text(&w, "protocol", request->protocol ? request->protocol : "");
    if (request->body)
        json_add_text(&w, "body", request->body);
    if (request->push)
        add_push(request, &w);
    repo_job_add_remote(repos, &w, request->wish->url, &secret);
    json_close(&w);
    const struct call call = {.launcher = repos->config.launcher,
                              .marker = repos->config.marker,
                              .job = &job,
                              .uid = geteuid(),
                              .gid = getegid(),
                              .timeout_ms = timeout_ms,
                              .file_mb_max = config->repo_cache_max_mb,
                              .memory_mb = MEMORY_MB,
                              .stop = *stop};
    return call_stream(&call, take, arg, words, err);
}
