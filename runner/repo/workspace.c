#include "runner/repo/repos.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/repo/repo_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES 20 /* bytes of a mirror's hash: enough to exclude collisions */
#define HOLDS_MAX 3
#define FILE_BYTES_MAX 65536

struct workspace {
    struct repos *repos; /* borrowed */
    char name[2 * NAME_BYTES + 1];
    char *mirror;   /* the mirror's directory */
    char *dir;      /* the run's directory */
    char *upper;    /* directory of its own files */
    char *tree;     /* the shared tree below them, or NULL */
    bool own_files; /* all of its files are in dir/work, also where overlays work */
    char *url;      /* for git and for people */
    char commit[65];
    char branch[256];
    char generation[40];
    char host_key[80];
    bool fetched, stale, repaired;
    int64_t took_ms;
    int64_t lfs_pointers;
    struct strlist submodules;
    int mounted; /* number of mounts: each has a work directory of its own */
    char *holds[HOLDS_MAX];
    size_t hold_count;
};

/* The options of its overlay; NULL when it has none. */
static const char *overlay_of(const struct workspace *workspace)
{
    return workspace->own_files ? NULL : workspace->repos->overlay;
}

void workspace_close(struct workspace *workspace)
{
    if (!workspace)
        return;
    for (size_t i = 0; i < workspace->hold_count; i++) {
        hold_drop(workspace->repos, workspace->holds[i]);
        free(workspace->holds[i]);
    }
    strlist_done(&workspace->submodules);
    free(workspace->mirror);
    free(workspace->dir);
    free(workspace->upper);
    free(workspace->tree);
    free(workspace->url);
    free(workspace);
}

const char *workspace_upper(const struct workspace *workspace)
{
    return workspace->upper;
}

const char *workspace_tree(const struct workspace *workspace)
{
    return workspace->tree;
}

struct repos *workspace_repos(const struct workspace *workspace)
{
    return workspace->repos;
}

const char *workspace_dir(const struct workspace *workspace)
{
    return workspace->dir;
}

const char *workspace_mirror(const struct workspace *workspace)
{
    return workspace->mirror;
}

const char *workspace_commit(const struct workspace *workspace)
{
    return workspace->commit;
}

const char *workspace_url(const struct workspace *workspace)
{
    return workspace->url;
}

const char *workspace_branch(const struct workspace *workspace)
{
    return workspace->branch;
}

/* --- which mirror -------------------------------------------------------------------------- */

/* Holds a directory: `kind` is "" for the mirror itself, else "/tree-" or "/refs-". */
static int hold(struct workspace *workspace, const char *kind, const char *what, struct err *err)
{
    char name[512];
    snprintf(name, sizeof(name), "%s%s%s", workspace->name, kind, what);
    char *copy = strdup(name);
    if (!copy || hold_take(workspace->repos, name, err)) {
        free(copy);
        return err_sys(err, "repository");
    }
    workspace->holds[workspace->hold_count++] = copy;
    return 0;
}

static int find_mirror(struct workspace *workspace, const struct git_url *url, struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf canonical = BUF_INIT(8192);
    AUTO(buf) struct buf name = BUF_INIT(128);
    AUTO(buf) struct buf shown = BUF_INIT(8192);
    git_url_canonical(url, &canonical);
    git_url_print(url, &shown);
    crypto_sha256(buf_str(&canonical), canonical.len, digest);
    str_add_hex(&name, digest, NAME_BYTES);
    snprintf(workspace->name, sizeof(workspace->name), "%s", buf_str(&name));
    workspace->mirror = path_join(workspace->repos->dir, workspace->name);
    workspace->url = strdup(buf_str(&shown));
    if (!workspace->mirror || !workspace->url)
        return err_sys(err, "repository");
    return hold(workspace, "", "", err);
}

/* --- the way without a helper -------------------------------------------------------------- */

static bool is_there(const struct workspace *workspace, const char *kind, const char *name,
                     const char *file)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s-%s/.git/%s", workspace->mirror, kind, name, file);
    return access(path, F_OK) == 0;
}

/* True when the mirror is recent enough, was fetched with the same credential, and has everything
 * that is wanted. */
static bool try_fresh(struct workspace *workspace, const struct repo_wish *wish,
                      const struct repo_secret *secret)
{
    struct err ignored;
    struct mirror_state state;
    const struct repos *repos = workspace->repos;
    int64_t ttl_ms = (int64_t)CONFIG_GET(repos->config.config, repo_ttl) * 1000;
    int64_t now = clock_real_ms();
    if (ttl_ms == 0 || !overlay_of(workspace) || mirror_load(workspace->mirror, &state, &ignored) ||
        strcmp(state.credential, secret->name) != 0 || now - state.fetched_ms >= ttl_ms ||
        now < state.fetched_ms)
        return false;
    if (mirror_resolve(workspace->mirror, &state, wish->branch, wish->ref, workspace->commit,
                       workspace->branch, &ignored) ||
        !is_there(workspace, "tree", workspace->commit, "index") ||
        !is_there(workspace, "refs", state.generation, "objects/pack"))
        return false;
    snprintf(workspace->generation, sizeof(workspace->generation), "%s", state.generation);
    return true;
}

/* --- the way with one ---------------------------------------------------------------------- */

static void take_text(const struct json *answer, const char *name, char *to, size_t size)
{
    const char *text = json_text(json_get(answer, name));
    snprintf(to, size, "%s", text ? text : "");
}

static void take_answer(struct workspace *workspace, const struct json *answer)
{
    take_text(answer, "commit", workspace->commit, sizeof(workspace->commit));
    take_text(answer, "branch", workspace->branch, sizeof(workspace->branch));
    take_text(answer, "generation", workspace->generation, sizeof(workspace->generation));
    take_text(answer, "hostKey", workspace->host_key, sizeof(workspace->host_key));
    json_bool(json_get(answer, "fetched"), &workspace->fetched);
    json_bool(json_get(answer, "stale"), &workspace->stale);
    json_bool(json_get(answer, "repaired"), &workspace->repaired);
    json_int(json_get(answer, "lfsPointers"), &workspace->lfs_pointers);
    const struct json *at = json_first(json_get(answer, "submodules"));
    for (; at; at = json_next(at))
        strlist_add(&workspace->submodules, json_text(at));
}

/* Reads the note about the commit. */
static void take_note(struct workspace *workspace)
{
    struct err ignored;
    AUTO(tree_report) struct tree_report report = {0};
    if (tree_report_load(workspace->mirror, workspace->commit, &report, &ignored))
        return;
    workspace->lfs_pointers = report.lfs_pointers;
    for (size_t i = 0; i < report.submodules.count; i++)
        strlist_add(&workspace->submodules, report.submodules.items[i]);
}

static void say_what_is_new(const struct workspace *workspace)
{
    if (workspace->host_key[0])
        log_warn("repo", "the key %s of the host of '%s' was not known and is trusted from now on",
                 workspace->host_key, workspace->url);
    if (workspace->repaired)
        log_warn("repo", "the mirror of '%s' was damaged and has been made anew", workspace->url);
}

/* Asks a helper for the tree. `place` is where a workspace that stands alone is built. */
static int ask_helper(struct workspace *workspace, const struct repo_wish *wish, const char *place,
                      const struct repo_secret *secret, const struct work_stop *stop,
                      struct err *err)
{
    struct json_writer w;
    const struct repos *repos = workspace->repos;
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    int timeout_ms = config->git_timeout_seconds * 1000;
    if (wish->timeout_ms > 0 && wish->timeout_ms < timeout_ms)
        timeout_ms = wish->timeout_ms;
    AUTO(buf_wipe) struct buf job = BUF_INIT(4u << 20);
    repo_job_begin(repos, &w, &job, "prepare", timeout_ms);
    json_add_text(&w, "dir", workspace->mirror);
    json_add_int(&w, "askedMs", clock_real_ms());
    json_add_int(&w, "ttlMs", (int64_t)config->repo_ttl * 1000);
    json_add_bool(&w, "staleOk", wish->stale_ok);
    if (wish->branch)
        json_add_text(&w, "branch", wish->branch);
    if (wish->ref)
        json_add_text(&w, "ref", wish->ref);
    if (repos->config.one_task)
        json_add_int(&w, "depth", wish->depth);
    json_add_bool(&w, "share", overlay_of(workspace) || repos->reflink);
    if (!overlay_of(workspace)) {
        json_add_text(&w, "into", workspace->upper);
        json_add_text(&w, "place", place);
    }
    repo_job_add_remote(repos, &w, wish->url, secret);
    AUTO(json) struct json *answer = repo_job_run(repos, &w, timeout_ms, stop, err);
    if (!answer)
        return -1;
    take_answer(workspace, answer);
    say_what_is_new(workspace);
    return 0;
}

/* --- its own files ------------------------------------------------------------------------- */

static int own_dir(const struct workspace *workspace, const char *path, struct err *err)
{
    const struct repos_config *config = &workspace->repos->config;
    return path_make_dirs(path, 0755, err) || path_own(path, config->uid, config->gid, err) ? -1
                                                                                            : 0;
}

/* Writes a file below .git for git to read; its directories belong to the task as well. */
static int write_git_file(const struct workspace *workspace, const char *name, const char *text,
                          struct err *err)
{
    char path[5000];
    const struct repos_config *config = &workspace->repos->config;
    size_t top = (size_t)snprintf(path, sizeof(path), "%s/.git/", workspace->upper);
    snprintf(path + top, sizeof(path) - top, "%s", name);
    for (char *slash = path + top; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        int rc = own_dir(workspace, path, err);
        *slash = '/';
        if (rc)
            return -1;
    }
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) || fchown(fd, config->uid, config->gid))
        return err_sys(err, "cannot write '%s' of the workspace", name);
    return 0;
}

/* Appends a value of git's configuration, quoted. */
static void add_value(struct buf *out, const char *text)
{
    buf_addc(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_addc(out, '\\');
        buf_addc(out, *text);
    }
    buf_addc(out, '"');
}

static void print_config(const struct workspace *workspace, struct buf *out)
{
    buf_adds(out, "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
                  "\tlogallrefupdates = true\n[remote \"origin\"]\n\turl = ");
    add_value(out, workspace->url);
    buf_adds(out, "\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
                  "[include]\n\tpath = runner\n"); /* Read by git because of workspace_lead(). */
    char merge[300];
    if (!workspace->branch[0])
        return;
    buf_adds(out, "[branch ");
    add_value(out, workspace->branch);
    snprintf(merge, sizeof(merge), "refs/heads/%s", workspace->branch);
    buf_adds(out, "]\n\tremote = origin\n\tmerge = ");
    add_value(out, merge);
    buf_addc(out, '\n');
}

static int write_git_files(const struct workspace *workspace, struct err *err)
{
    char name[512], line[512];
    AUTO(buf) struct buf config = BUF_INIT(FILE_BYTES_MAX);
    bool on_branch = workspace->branch[0] != '\0';
    print_config(workspace, &config);
    snprintf(line, sizeof(line), on_branch ? "ref: refs/heads/%s\n" : "%s\n",
             on_branch ? workspace->branch : workspace->commit);
    if (buf_check(&config, "the workspace's configuration", err) ||
        write_git_file(workspace, "config", buf_str(&config), err) ||
        write_git_file(workspace, "HEAD", line, err) ||
        write_git_file(workspace, "info/exclude", "", err) ||
        write_git_file(workspace, "refs/heads/.keep", "", err))
        return -1;
    snprintf(name, sizeof(name), "%s/.git/refs/heads/.keep", workspace->upper);
    unlink(name);
    if (!on_branch || !workspace->commit[0])
        return 0;
    snprintf(name, sizeof(name), "refs/heads/%s", workspace->branch);
    snprintf(line, sizeof(line), "%s\n", workspace->commit);
    return write_git_file(workspace, name, line, err);
}

/* --- the way through the git gate ---------------------------------------------------------- */

/* Adds a setting that replaces `from`, a URL or the beginning of one, by `to`. */
static void add_lead(struct buf *out, const char *to, const char *from, const char *more)
{
    char text[4200];
    buf_adds(out, "[url ");
    add_value(out, to);
    snprintf(text, sizeof(text), "%s%s", from, more);
    buf_adds(out, "]\n\tinsteadOf = ");
    add_value(out, text);
    buf_addc(out, '\n');
}

/* git replaces the beginnings of URLs; these settings keep repositories with longer names
 * unchanged. */
static void add_others(struct buf *out, const char *base)
{
    static const char following[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    for (const char *p = following; *p; p++) {
        char text[4200];
        snprintf(text, sizeof(text), "%s%c", base, *p);
        add_lead(out, text, text, "");
    }
}

int workspace_lead(struct workspace *workspace, const char *origin, const char *url,
                   const char *token, struct err *err)
{
    char base[2600];
    AUTO(buf_wipe) struct buf text = BUF_INIT(1u << 20);
    size_t len = (size_t)snprintf(base, sizeof(base), "%s", workspace->url);
    while (len > 1 && base[len - 1] == '/')
        base[--len] = '\0';
    if (len > 4 && strcmp(base + len - 4, ".git") == 0)
        base[len - 4] = '\0';
    buf_adds(&text, "# How git reaches the repository from in here: by way of claude-runner, which"
                    " has the\n# credentials. It ends with the task.\n[http ");
    add_value(&text, origin);
    buf_addf(&text, "]\n\textraHeader = \"Authorization: Bearer %s\"\n\tproxy = \"\"\n", token);
    add_lead(&text, url, base, "");
    add_lead(&text, url, base, ".git");
    add_lead(&text, url, base, ".git/");
    add_others(&text, base);
    return buf_check(&text, "the workspace's configuration", err)
               ? -1
               : write_git_file(workspace, "runner", buf_str(&text), err);
}

/* Writes the workspace's own files; `keep` is a directory for a helper that runs as the task's
 * user. */
static int compose(struct workspace *workspace, struct err *err)
{
    AUTO(str) char *git = path_join(workspace->upper, ".git");
    AUTO(str) char *place = path_join(workspace->dir, "work");
    if (!git || !place || own_dir(workspace, workspace->upper, err) ||
        own_dir(workspace, git, err) || own_dir(workspace, place, err))
        return git && place ? -1 : err_sys(err, "workspace");
    return write_git_files(workspace, err);
}

/* --- opening ------------------------------------------------------------------------------- */

/* Touches a tree: its age counts from its last use. */
static void touch_all(const struct workspace *workspace)
{
    char tree[4200];
    snprintf(tree, sizeof(tree), "%s/tree-%s", workspace->mirror, workspace->commit);
    utimensat(AT_FDCWD, workspace->mirror, NULL, 0);
    utimensat(AT_FDCWD, tree, NULL, 0);
}

static int stand_on(struct workspace *workspace, const struct repo_wish *wish,
                    const struct repo_secret *secret, const struct work_stop *stop, struct err *err)
{
    struct err ignored;
    char id[ID_SIZE], place[4200];
    if (try_fresh(workspace, wish, secret)) {
        take_note(workspace);
    } else {
        id_new(id);
        snprintf(place, sizeof(place), "%s/" REPOS_GROWING "%s", workspace->repos->dir, id);
        if (ask_helper(workspace, wish, place, secret, stop, err)) {
            path_remove_tree(place, &ignored);
            return -1;
        }
    }
    return hold(workspace, "/refs-", workspace->generation, err) ||
                   hold(workspace, "/tree-", workspace->commit, err)
               ? -1
               : 0;
}

static int open_parts(struct workspace *workspace, const struct repo_wish *wish,
                      const struct work_stop *stop, struct err *err)
{
    char opening[80];
    struct git_url url;
    AUTO(config_ref) const struct config *config = config_ref(workspace->repos->config.config);
    AUTO(secret) struct repo_secret secret = {.owned = BUF_INIT(131072)};
    if (git_url_parse(wish->url, &url, err) || git_url_check(&url, &config->git_allow, err) ||
        find_mirror(workspace, &url, err) ||
        repo_secret_choose(workspace->repos, wish, &url, &secret, err))
        return -1;
    /* Keeps the janitor away from the choice of a tree until its use is registered. */
    snprintf(opening, sizeof(opening), "%s/opening", workspace->name);
    if (hold_take(workspace->repos, opening, err))
        return -1;
    int rc = stand_on(workspace, wish, &secret, stop, err);
    hold_drop(workspace->repos, opening);
    if (rc)
        return -1;
    touch_all(workspace);
    if (overlay_of(workspace) && workspace->commit[0] &&
        asprintf(&workspace->tree, "%s/tree-%s", workspace->mirror, workspace->commit) < 0) {
        workspace->tree = NULL;
        return err_sys(err, "workspace");
    }
    return compose(workspace, err);
}

struct workspace *workspace_open(struct repos *repos, const struct repo_wish *wish, const char *dir,
                                 const struct work_stop *stop, struct err *err)
{
    REQUIRE(wish->url && dir);
    int64_t start = clock_mono_ms();
    AUTO(workspace) struct workspace *workspace = calloc(1, sizeof(*workspace));
    if (!workspace) {
        err_sys(err, "workspace");
        return NULL;
    }
    workspace->repos = repos;
    workspace->own_files = wish->own_files;
    workspace->dir = strdup(dir);
    workspace->upper = path_join(dir, overlay_of(workspace) ? "upper" : "work");
    if (!workspace->dir || !workspace->upper) {
        err_sys(err, "workspace");
        return NULL;
    }
    if (open_parts(workspace, wish, stop, err))
        return NULL;
    workspace->took_ms = clock_mono_ms() - start;
    return STEAL_PTR(workspace);
}

/* --- showing ------------------------------------------------------------------------------- */

static void add_lower(const struct workspace *workspace, struct buf *out)
{
    buf_adds(out, "lowerdir=");
    if (workspace->commit[0]) {
        repos_add_overlay_path(out, workspace->mirror);
        buf_addf(out, "/tree-%s:", workspace->commit);
    }
    repos_add_overlay_path(out, workspace->mirror);
    buf_addf(out, "/refs-%s", workspace->generation);
}

int workspace_mounts(struct workspace *workspace, struct strlist *mounts, struct err *err)
{
    AUTO(str) char *place = path_join(workspace->dir, "work");
    return place ? workspace_mounts_at(workspace, place, mounts, err) : err_sys(err, "workspace");
}

int workspace_mounts_at(struct workspace *workspace, const char *place, struct strlist *mounts,
                        struct err *err)
{
    REQUIRE(place);
    char work[4200];
    AUTO(buf) struct buf options = BUF_INIT(4000); /* The kernel accepts one page. */
    if (!overlay_of(workspace))
        return 0;
    snprintf(work, sizeof(work), "%s/overlay.%d", workspace->dir, ++workspace->mounted);
    if (path_make_dirs(work, 0700, err))
        return -1;
    add_lower(workspace, &options);
    buf_adds(&options, ",upperdir=");
    repos_add_overlay_path(&options, workspace->upper);
    buf_adds(&options, ",workdir=");
    repos_add_overlay_path(&options, work);
    buf_addf(&options, ",%s", overlay_of(workspace));
    strlist_add(mounts, "overlay");
    strlist_add(mounts, place);
    strlist_add(mounts, buf_str(&options));
    return buf_check(&options, "the workspace's mount options", err);
}

/* --- standing on the same again ------------------------------------------------------------- */

bool workspace_is_layered(const struct workspace *workspace)
{
    return overlay_of(workspace) != NULL;
}

void workspace_save(const struct workspace *workspace, struct json_writer *w)
{
    json_add_text(w, "mirror", workspace->name);
    json_add_text(w, "url", workspace->url);
    json_add_text(w, "commit", workspace->commit);
    json_add_text(w, "branch", workspace->branch);
    json_add_text(w, "generation", workspace->generation);
}

static bool is_plain(const char *text)
{
    return *text && text[strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

static int take_saved(struct workspace *workspace, const struct json *saved, const char *dir,
                      struct err *err)
{
    const char *url = json_text(json_get(saved, "url"));
    take_text(saved, "mirror", workspace->name, sizeof(workspace->name));
    take_text(saved, "commit", workspace->commit, sizeof(workspace->commit));
    take_text(saved, "branch", workspace->branch, sizeof(workspace->branch));
    take_text(saved, "generation", workspace->generation, sizeof(workspace->generation));
    if (!is_plain(workspace->name) || !is_plain(workspace->generation) ||
        (workspace->commit[0] && !is_plain(workspace->commit)))
        return err_set(err, ERR_INVALID, "what is kept of the repository is no such record");
    workspace->url = strdup(url ? url : "");
    workspace->dir = strdup(dir);
    workspace->upper = path_join(dir, "upper");
    workspace->mirror = path_join(workspace->repos->dir, workspace->name);
    if (!workspace->url || !workspace->dir || !workspace->upper || !workspace->mirror)
        return err_sys(err, "workspace");
    return hold(workspace, "", "", err) || hold(workspace, "/refs-", workspace->generation, err) ||
                   hold(workspace, "/tree-", workspace->commit, err)
               ? -1
               : 0;
}

/* Removes work directories of an earlier process's mounts. */
static void remove_work_dirs(const struct workspace *workspace)
{
    struct err ignored;
    for (int i = 1, left = 0; left < 64; i++) {
        char path[4200];
        snprintf(path, sizeof(path), "%s/overlay.%d", workspace->dir, i);
        left = access(path, F_OK) == 0 ? 0 : left + 1;
        if (left == 0)
            path_remove_tree(path, &ignored);
    }
}

struct workspace *workspace_load(struct repos *repos, const struct json *saved, const char *dir,
                                 struct err *err)
{
    AUTO(workspace) struct workspace *workspace = calloc(1, sizeof(*workspace));
    if (!workspace) {
        err_sys(err, "workspace");
        return NULL;
    }
    workspace->repos = repos;
    if (take_saved(workspace, saved, dir, err))
        return NULL;
    if ((workspace->commit[0] && !is_there(workspace, "tree", workspace->commit, "index")) ||
        !is_there(workspace, "refs", workspace->generation, "objects/pack")) {
        err_set(err, ERR_NOT_FOUND, "the mirror of '%.150s' is gone", workspace->url);
        return NULL;
    }
    remove_work_dirs(workspace);
    return STEAL_PTR(workspace);
}

void workspace_print(const struct workspace *workspace, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "url", workspace->url);
    json_add_text(&w, "commit", workspace->commit[0] ? workspace->commit : NULL);
    json_add_text(&w, "branch", workspace->branch[0] ? workspace->branch : NULL);
    json_add_text(&w, "method", repos_method(workspace->repos));
    json_add_bool(&w, "fetched", workspace->fetched);
    json_add_bool(&w, "stale", workspace->stale);
    json_add_int(&w, "readyMs", workspace->took_ms);
    if (workspace->host_key[0])
        json_add_text(&w, "hostKeyTrusted", workspace->host_key);
    if (workspace->lfs_pointers > 0)
        json_add_int(&w, "lfsPointers", workspace->lfs_pointers);
    if (workspace->submodules.count > 0) {
        json_add_texts(&w, "submodules", &workspace->submodules);
    }
    json_close(&w);
}
