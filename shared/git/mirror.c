#include "git/mirror.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "git/git_private.h"
#include "git/lib.h"
#include "git/refs.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_BYTES_MAX 65536
#define LOCK_LOOK_MS 10

void mirror_result_done(struct mirror_result *result)
{
    tree_report_done(&result->report);
}

/* --- state --------------------------------------------------------------------------------- */

static void copy_text(const struct json *root, const char *name, char *to, size_t size)
{
    const char *text = json_text(json_get(root, name));
    snprintf(to, size, "%s", text ? text : "");
}

int mirror_load(const char *dir, struct mirror_state *ret_state, struct err *err)
{
    struct mirror_state state = {0};
    AUTO(str) char *path = path_join(dir, "state");
    AUTO(buf) struct buf text = BUF_INIT(STATE_BYTES_MAX);
    if (!path)
        return err_sys(err, "mirror");
    if (file_read(path, &text, err))
        return -1;
    AUTO(json) struct json *root = json_parse(buf_str(&text), text.len, err);
    if (!root)
        return err_set(err, ERR_NOT_FOUND, "the mirror's state is damaged");
    copy_text(root, "url", state.url, sizeof(state.url));
    copy_text(root, "credential", state.credential, sizeof(state.credential));
    copy_text(root, "generation", state.generation, sizeof(state.generation));
    copy_text(root, "head", state.head, sizeof(state.head));
    json_int(json_get(root, "fetchedMs"), &state.fetched_ms);
    *ret_state = state;
    return 0;
}

int mirror_save(const char *dir, const struct mirror_state *state, struct err *err)
{
    struct json_writer w;
    AUTO(str) char *path = path_join(dir, "state");
    AUTO(buf) struct buf text = BUF_INIT(STATE_BYTES_MAX);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "url", state->url);
    json_add_int(&w, "fetchedMs", state->fetched_ms);
    json_add_text(&w, "credential", state->credential);
    json_add_text(&w, "generation", state->generation);
    json_add_text(&w, "head", state->head);
    json_close(&w);
    if (!path || buf_check(&text, "the mirror's state", err))
        return path ? -1 : err_sys(err, "mirror");
    return file_replace(path, buf_str(&text), text.len, 0600, err);
}

/* --- the lock ------------------------------------------------------------------------------ */

int mirror_lock(const char *dir, int64_t deadline_ms, struct err *err)
{
    AUTO(str) char *path = path_join(dir, "lock");
    for (;;) {
        int fd = path ? file_lock(path, err) : err_sys(err, "lock");
        if (fd >= 0 || err->code != ERR_CONFLICT)
            return fd;
        if (clock_mono_ms() >= deadline_ms)
            return err_set(err, ERR_TIMEOUT, "another task keeps the repository's mirror busy");
        poll(NULL, 0, LOCK_LOOK_MS);
    }
}

static bool ends_with(const char *text, const char *tail)
{
    size_t len = strlen(text), n = strlen(tail);
    return len > n && strcmp(text + len - n, tail) == 0;
}

/* Removes what a killed process left unfinished in one directory. */
static int sweep(const char *dir, bool (*is_stale)(const char *name), struct err *err)
{
    struct dirent *entry;
    int rc = 0;
    DIR *list = opendir(dir);
    while (list && rc == 0 && (entry = readdir(list))) {
        if (!is_stale(entry->d_name))
            continue;
        AUTO(str) char *path = path_join(dir, entry->d_name);
        rc = path ? path_remove_tree(path, err) : err_sys(err, "mirror");
    }
    if (list)
        closedir(list);
    return rc;
}

static bool is_unfinished(const char *name)
{
    return ends_with(name, ".new") || ends_with(name, ".old");
}

static bool is_left_over(const char *name)
{
    return ends_with(name, ".lock") || str_starts(name, "tmp_") || str_starts(name, ".tmp-");
}

/* The lock is held, so nobody else can be using these. */
static int sweep_all(const char *dir, struct err *err)
{
    static const char *const places[] = {"git", "git/objects/pack", "git/refs/runner"};
    if (sweep(dir, is_unfinished, err))
        return -1;
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        AUTO(str) char *path = path_join(dir, places[i]);
        if (!path || sweep(path, is_left_over, err))
            return path ? -1 : err_sys(err, "mirror");
    }
    return 0;
}

/* --- asking the remote --------------------------------------------------------------------- */

static int init_bare(const char *path, int64_t deadline_ms, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    AUTO(program) struct program program = {.secret_fd = -1, .deadline_ms = deadline_ms};
    strlist_add(&program.argv, "git");
    strlist_add(&program.argv, "init");
    strlist_add(&program.argv, "--quiet");
    strlist_add(&program.argv, "--bare");
    strlist_add(&program.argv, "--template=");
    strlist_add(&program.argv, "--initial-branch=main");
    strlist_add(&program.argv, path);
    program_add_environment(&program.env);
    return program_run(&program, &out, err);
}

/* Makes a new mirror beside the old one, if there is one, and then replaces the old one by it. */
static int clone(const struct mirror_job *job, const struct remote *remote, const char *git_dir,
                 struct mirror_state *state, struct err *err)
{
    char fresh[4096], old[4096];
    snprintf(fresh, sizeof(fresh), "%s.new", git_dir);
    snprintf(old, sizeof(old), "%s.old", git_dir);
    state->head[0] = '\0';
    if (init_bare(fresh, job->remote.deadline_ms, err) ||
        fetch_refs(job, remote, fresh, true, state, err)) {
        struct err ignored;
        path_remove_tree(fresh, &ignored);
        return -1;
    }
    if (rename(git_dir, old) && errno != ENOENT)
        return err_sys(err, "cannot put the old mirror aside");
    if (rename(fresh, git_dir))
        return err_sys(err, "cannot publish the mirror");
    state->generation[0] = '\0';
    return path_remove_tree(old, err);
}

/* --- generations --------------------------------------------------------------------------- */

int mirror_make_generation(const struct mirror_job *job, const char *git_dir,
                           const struct buf *refs, struct mirror_state *state, struct err *err)
{
    char id[ID_SIZE], fresh[4096], whole[4096], git[4200];
    id_new(id);
    snprintf(whole, sizeof(whole), "%s/refs-%s", job->dir, id);
    snprintf(fresh, sizeof(fresh), "%s.new", whole);
    snprintf(git, sizeof(git), "%s/.git", fresh);
    if (path_make_dirs(git, 0755, err) || path_own(fresh, job->uid, job->gid, err) ||
        path_own(git, job->uid, job->gid, err) ||
        worktree_link_objects(git_dir, git, job->uid, job->gid, err) ||
        refs_write(git, refs, state->head, job->uid, job->gid, err) ||
        refs_copy_shallow(git_dir, git, job->uid, job->gid, err))
        return -1;
    if (rename(fresh, whole))
        return err_sys(err, "cannot publish the mirror's refs");
    snprintf(state->generation, sizeof(state->generation), "%s", id);
    return 0;
}

static bool file_is(const char *path, const struct buf *text)
{
    struct err ignored;
    AUTO(buf) struct buf found = BUF_INIT(REFS_BYTES_MAX);
    return (file_read(path, &found, &ignored) == 0 || text->len == 0) && found.len == text->len &&
           memcmp(buf_str(&found), buf_str(text), text->len) == 0;
}

/* Begins a new generation of refs when they have changed. */
static int renew_generation(const struct mirror_job *job, const char *git_dir,
                            struct mirror_state *state, struct err *err)
{
    char packed[4200], path[4200];
    AUTO(buf) struct buf refs = BUF_INIT(REFS_BYTES_MAX);
    AUTO(buf) struct buf head = BUF_INIT(512);
    if (refs_list(git_dir, job->remote.deadline_ms, &refs, err))
        return -1;
    refs_print_head(&refs, state->head, &head);
    snprintf(packed, sizeof(packed), "%s/refs-%s/.git/packed-refs", job->dir, state->generation);
    snprintf(path, sizeof(path), "%s/refs-%s/.git/" REFS_ORIGIN "/HEAD", job->dir,
             state->generation);
    if (state->generation[0] && file_is(packed, &refs) && file_is(path, &head) &&
        packs_are_linked(git_dir, job->dir, state->generation))
        return 0;
    return mirror_make_generation(job, git_dir, &refs, state, err);
}

/* --- preparing ----------------------------------------------------------------------------- */

struct work {
    const struct mirror_job *job;
    struct mirror_result *result;
    struct remote remote;
    bool open;   /* the remote is open */
    bool is_new; /* there was no mirror before */
    char git_dir[4096];
};

static int open_remote(struct work *work, struct err *err)
{
    if (work->open)
        return 0;
    if (remote_open(&work->remote, &work->job->remote, err))
        return -1;
    work->open = true;
    return 0;
}

/* A fetch time in the future means that the clock was set back since: treat it as old. */
static bool is_fresh(const struct mirror_job *job, const struct mirror_state *state,
                     const char *git_dir)
{
    int64_t now = clock_real_ms();
    if (!state->generation[0] || strcmp(state->credential, job->credential) != 0 ||
        now < state->fetched_ms || !packs_are_linked(git_dir, job->dir, state->generation))
        return false;
    return state->fetched_ms >= job->asked_ms ||
           (job->ttl_ms > 0 && now - state->fetched_ms < job->ttl_ms);
}

static int resolve(struct work *work, struct err *err)
{
    struct mirror_result *result = work->result;
    return refs_resolve(work->git_dir, result->state.head, work->job->branch, work->job->ref,
                        result->commit, result->branch, err);
}

/* Fetches a commit that no branch or tag reaches: many servers give it when asked for its id. */
static int find_commit(struct work *work, struct err *err)
{
    struct err ignored;
    const char *ref = work->job->ref;
    if (!ref || !refs_is_id(ref) || open_remote(work, &ignored) ||
        fetch_commit(&work->remote, work->git_dir, ref, &ignored))
        return -1;
    work->result->state.generation[0] = '\0'; /* Its objects belong to the next generation. */
    return resolve(work, err);
}

static int ask_remote(struct work *work, bool anew, struct err *err)
{
    const struct mirror_job *job = work->job;
    struct mirror_state *state = &work->result->state;
    int64_t now = clock_real_ms();
    if (open_remote(work, err))
        return -1;
    int rc = anew ? clone(job, &work->remote, work->git_dir, state, err)
                  : fetch_refs(job, &work->remote, work->git_dir, false, state, err);
    if (rc)
        return -1;
    AUTO(buf) struct buf key = BUF_INIT(sizeof(work->result->host_key));
    AUTO(buf) struct buf url = BUF_INIT(sizeof(state->url));
    struct git_url shown;
    remote_learnt_key(&work->remote, &key);
    snprintf(work->result->host_key, sizeof(work->result->host_key), "%s", buf_str(&key));
    if (git_url_parse(job->remote.url, &shown, err))
        return -1;
    git_url_print(&shown, &url);
    snprintf(state->url, sizeof(state->url), "%s", buf_str(&url));
    snprintf(state->credential, sizeof(state->credential), "%s", job->credential);
    state->fetched_ms = now;
    work->result->fetched = true;
    return 0;
}

/* True when the network failed, false when permission was refused. */
static bool is_offline(const struct err *err)
{
    return err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT;
}

/* Brings the mirror to the state that the job wants. */
static int update(struct work *work, bool anew, struct err *err)
{
    struct mirror_state *state = &work->result->state;
    struct err ignored;
    if (!anew && is_fresh(work->job, state, work->git_dir) && resolve(work, &ignored) == 0 &&
        work->result->commit[0])
        return 0;
    if (ask_remote(work, anew, err)) {
        if (anew || !work->job->stale_ok || !is_offline(err) || !state->generation[0])
            return -1;
        work->result->stale = true;
        return resolve(work, err);
    }
    if (resolve(work, err) && (err->code != ERR_NOT_FOUND || find_commit(work, err)))
        return -1;
    if (renew_generation(work->job, work->git_dir, state, err))
        return -1;
    return mirror_save(work->job->dir, state, err);
}

/* Makes the tree that workspaces share. */
static int build_tree(struct work *work, struct err *err)
{
    struct err ignored;
    const struct mirror_job *job = work->job;
    struct mirror_result *result = work->result;
    char whole[4096], fresh[4200];
    if (!job->share || !result->commit[0])
        return 0;
    snprintf(whole, sizeof(whole), "%s/tree-%s", job->dir, result->commit);
    snprintf(fresh, sizeof(fresh), "%s/.git/index", whole);
    if (access(fresh, F_OK) == 0) {
        tree_report_load(job->dir, result->commit, &result->report, &ignored);
        return 0;
    }
    snprintf(fresh, sizeof(fresh), "%s.new", whole);
    if (path_remove_tree(whole, err)) /* What is there is not a tree. */
        return -1;
    const struct tree_job tree = {.git_dir = work->git_dir,
                                  .commit = result->commit,
                                  .path = fresh,
                                  .uid = job->uid,
                                  .gid = job->gid,
                                  .deadline_ms = job->remote.deadline_ms};
    if (worktree_build(&tree, &result->report, err) ||
        tree_report_save(job->dir, result->commit, &result->report, err))
        return -1;
    return rename(fresh, whole) ? err_sys(err, "cannot publish the tree") : 0;
}

/* A state file that cannot be read is replaced. */
static int forget_state(const char *dir, struct err *err)
{
    AUTO(str) char *path = path_join(dir, "state");
    return path ? path_remove_tree(path, err) : err_sys(err, "mirror");
}

/* Does everything that needs the lock. */
static int prepare_mirror(struct work *work, bool anew, struct err *err)
{
    struct err ignored;
    struct mirror_result *result = work->result;
    const struct mirror_job *job = work->job;
    AUTO(fd) int lock = mirror_lock(job->dir, job->remote.deadline_ms, err);
    if (lock < 0 || sweep_all(job->dir, err))
        return -1;
    if (access(work->git_dir, F_OK) != 0 || mirror_load(job->dir, &result->state, &ignored) != 0)
        anew = work->is_new = true;
    else if (anew || !packs_are_whole(work->git_dir))
        anew = result->repaired = true;
    if (work->is_new && forget_state(job->dir, err))
        return -1;
    if (update(work, anew, err) || build_tree(work, err))
        return -1;
    return job->into ? own_begin(job, work->git_dir, result, err) : 0;
}

static int prepare(struct work *work, bool anew, struct err *err)
{
    return prepare_mirror(work, anew, err) ||
                   (work->job->into && own_finish(work->job, work->git_dir, work->result, err))
               ? -1
               : 0;
}

/* True when the mirror may be damaged. git describes damage in many ways, so any failure may mean
 * it: clone again. The clone replaces the mirror only when it is complete, so a fault of the remote
 * costs one attempt. */
static bool is_damage(const struct err *err)
{
    return err->code == ERR_MISMATCH || err->code == ERR_INTERNAL;
}

int mirror_prepare(const struct mirror_job *job, struct mirror_result *ret_result, struct err *err)
{
    REQUIRE(job->dir && job->remote.url);
    REQUIRE(!job->into || job->place);
    struct work work = {.job = job, .result = ret_result, .remote = REMOTE_INIT};
    snprintf(work.git_dir, sizeof(work.git_dir), "%s/git", job->dir);
    if (lib_start(err) || path_make_dirs(job->dir, 0700, err))
        return -1;
    int rc = prepare(&work, false, err);
    if (rc && is_damage(err) && !work.is_new && !ret_result->repaired) {
        struct err ignored;
        tree_report_done(&ret_result->report);
        if (job->into)
            path_remove_tree(job->place, &ignored);
        rc = prepare(&work, true, err); /* It is damaged: nothing in it is worth keeping. */
    }
    remote_close(&work.remote);
    return rc;
}
