/* What a session's workspace begins with: a repository or a snapshot. */
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/session/session_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES 65536

bool base_is_stopped(struct sessions *sessions, const struct session *session)
{
    lock_take(&sessions->lock);
    bool stopped = sessions->closing || (session && session->deleted);
    lock_drop(&sessions->lock);
    return stopped;
}

static enum work_cause asked(struct work *work, void *arg)
{
    struct session *session = arg;
    (void)work;
    return base_is_stopped(session->sessions, session) ? WORK_CANCEL : WORK_ENDED;
}

/* Notes the workspace that it is based on. */
static int note(struct session *session, struct workspace *workspace, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf base = BUF_INIT(RECORD_BYTES), repo = BUF_INIT(1u << 20);
    json_write(&w, &base);
    json_open_object(&w, NULL);
    workspace_save(workspace, &w);
    json_close(&w);
    workspace_print(workspace, &repo);
    session->base = workspace_is_layered(workspace) ? buf_steal(&base) : NULL;
    session->repo = buf_steal(&repo);
    if (!session->repo || (workspace_is_layered(workspace) && !session->base))
        return err_sys(err, "session");
    return 0;
}

/* Moves the files, which are a directory of their own, to the workspace's place. */
static int move_in(const struct session *session, struct err *err)
{
    AUTO(str) char *from = path_join(session->dir, "work");
    AUTO(str) char *to = path_join(session->dir, "box/workspace");
    if (!from || !to || rmdir(to) || rename(from, to))
        return err_sys(err, "the session's workspace");
    return 0;
}

static int fill_repo(struct session *session, const struct repo_wish *wish, struct err *err)
{
    const struct work_stop stop = {.wake_fd = -1, .asked = asked, .arg = session};
    AUTO(workspace)
    struct workspace *workspace =
        workspace_open(session->sessions->config.repos, wish, session->dir, &stop, err);
    if (!workspace || note(session, workspace, err))
        return -1;
    if (!workspace_is_layered(workspace))
        return move_in(session, err);
    session->workspace = STEAL_PTR(workspace);
    return 0;
}

int base_fill(struct session *session, const struct session_wish *wish, struct err *err)
{
    if (wish->repo)
        return fill_repo(session, wish->repo, err);
    return wish->from ? snapshot_unfold(session, wish->from, err) : 0;
}

void base_load(struct session *session)
{
    struct err err;
    if (!session->base)
        return;
    AUTO(json) struct json *saved = json_parse(session->base, strlen(session->base), &err);
    if (saved)
        session->workspace =
            workspace_load(session->sessions->config.repos, saved, session->dir, &err);
    if (session->workspace)
        return;
    log_warn("session", "session '%s': %s", session->id, err.msg);
    session->trouble = strdup(err.msg);
}

int base_show(struct session *session, const char *box, struct plan *plan, struct err *err)
{
    struct err ignored;
    char last[64];
    if (session->trouble)
        return err_set(err, ERR_CONFLICT, "session '%s' has lost its workspace: %.150s",
                       session->id, session->trouble);
    if (!session->workspace)
        return 0;
    if (!workspace_is_layered(session->workspace))
        return err_set(err, ERR_CONFLICT,
                       "session '%s' needs overlays, which this host has no more", session->id);
    snprintf(last, sizeof(last), "overlay.%d", session->mounted);
    AUTO(str) char *place = path_join(box, "workspace");
    AUTO(str) char *old = path_join(session->dir, last);
    if (!place || !old)
        return err_sys(err, "session");
    if (session->mounted++ > 0)
        path_remove_tree(old, &ignored); /* Left by the last mount, which has gone with its process
                                          * tree. */
    strlist_add(&plan->jail.counted, workspace_upper(session->workspace));
    return workspace_mounts_at(session->workspace, place, &plan->mounts, err);
}

void base_done(struct session *session)
{
    workspace_close(session->workspace);
    free(session->base);
    free(session->repo);
    free(session->from);
    free(session->trouble);
}
