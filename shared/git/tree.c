#include "git/tree.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/lib.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define AGE_S 10 /* how long before now the files are said to be from, at least */
#define SUBMODULES_LISTED 200
#define LFS_POINTER_MAX 1024
#define GIT_MODE_LINK 0120000
#define GIT_MODE_SUBMODULE 0160000

void tree_report_done(struct tree_report *report)
{
    strlist_done(&report->submodules);
}

/* --- checking out -------------------------------------------------------------------------- */

/* A repository that borrows another's objects and has nothing else. */
static git_repository *borrow(const char *git_dir, const char *path, struct err *err)
{
    git_repository *repo = NULL;
    git_repository_init_options options;
    AUTO(buf) struct buf text = BUF_INIT(8192);
    AUTO(str) char *alternates = NULL;
    git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
    options.flags = GIT_REPOSITORY_INIT_MKDIR | GIT_REPOSITORY_INIT_NO_REINIT;
    options.mode = 0755;
    if (git_repository_init_ext(&repo, path, &options)) {
        lib_err(err, "cannot make a workspace");
        return NULL;
    }
    git_repository_free(repo); /* alternates are read when it is opened */
    repo = NULL;
    buf_addf(&text, "%s/objects\n", git_dir);
    if (asprintf(&alternates, "%s/.git/objects/info/alternates", path) < 0 ||
        file_replace(alternates, buf_str(&text), text.len, 0644, err))
        return NULL;
    if (git_repository_open(&repo, path))
        lib_err(err, "cannot open the workspace");
    return repo;
}

/* Names that other systems would take for .git are refused, as git itself refuses them. */
static int set_up(git_repository *repo, struct err *err)
{
    AUTO(git_config) git_config *config = NULL;
    if (git_repository_config(&config, repo) ||
        git_config_set_bool(config, "core.protectNTFS", 1) ||
        git_config_set_bool(config, "core.protectHFS", 1) ||
        git_config_set_bool(config, "core.symlinks", 1) ||
        git_config_set_bool(config, "core.fileMode", 1))
        return lib_err(err, "cannot set up the workspace");
    return 0;
}

static int check_out(git_repository *repo, const char *commit_id, int64_t *ret_time,
                     struct err *err)
{
    git_oid oid;
    AUTO(git_commit) git_commit *commit = NULL;
    git_checkout_options options;
    git_checkout_options_init(&options, GIT_CHECKOUT_OPTIONS_VERSION);
    options.checkout_strategy = GIT_CHECKOUT_FORCE;
    options.dir_mode = 0755;
    if (git_oid_fromstr(&oid, commit_id) || git_commit_lookup(&commit, repo, &oid))
        return lib_err(err, "the commit cannot be read");
    *ret_time = git_commit_time(commit);
    if (git_checkout_tree(repo, (const git_object *)commit, &options))
        return lib_err(err, "cannot check out the commit");
    return 0;
}

/* --- what is in it ------------------------------------------------------------------------- */

static bool is_lfs_pointer(int dir, const char *path)
{
    static const char mark[] = "version https://git-lfs.github.com/spec/";
    char head[sizeof(mark)] = "";
    AUTO(fd) int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 && read(fd, head, sizeof(mark) - 1) == (ssize_t)sizeof(mark) - 1 &&
           strcmp(head, mark) == 0;
}

static void note(const git_index_entry *entry, int dir, struct tree_report *report)
{
    if (entry->mode == GIT_MODE_SUBMODULE) {
        if (report->submodules.count < SUBMODULES_LISTED)
            strlist_add(&report->submodules, entry->path);
        else
            report->submodules_more = true;
        return;
    }
    report->files++;
    if (entry->mode != GIT_MODE_LINK && entry->file_size > 100 &&
        entry->file_size < LFS_POINTER_MAX && is_lfs_pointer(dir, entry->path))
        report->lfs_pointers++;
}

/* Files get the commit's time: older than the index by whole seconds, they are never "racily
 * clean", which would make git read every one of them. The entry gets what lstat then says. */
static int settle_entry(int dir, git_index_entry *entry, time_t when)
{
    struct stat st;
    const struct timespec times[2] = {{when, 0}, {when, 0}};
    if (entry->mode == GIT_MODE_SUBMODULE)
        return 0;
    if (utimensat(dir, entry->path, times, AT_SYMLINK_NOFOLLOW) ||
        fstatat(dir, entry->path, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    entry->mtime = (git_index_time){(int32_t)st.st_mtim.tv_sec, (uint32_t)st.st_mtim.tv_nsec};
    entry->ctime = (git_index_time){(int32_t)st.st_ctim.tv_sec, (uint32_t)st.st_ctim.tv_nsec};
    entry->dev = (uint32_t)st.st_dev;
    entry->ino = (uint32_t)st.st_ino;
    entry->uid = st.st_uid;
    entry->gid = st.st_gid;
    entry->file_size = (uint32_t)st.st_size;
    return 0;
}

static int settle(git_repository *repo, const char *path, int64_t commit_time,
                  struct tree_report *report, struct err *err)
{
    AUTO(git_index) git_index *index = NULL;
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t newest = (int64_t)time(NULL) - AGE_S;
    time_t when = commit_time < 1 ? 1 : commit_time > newest ? newest : commit_time;
    if (dir < 0 || git_repository_index(&index, repo))
        return lib_err(err, "cannot read the index");
    size_t count = git_index_entrycount(index);
    for (size_t i = 0; i < count; i++) {
        git_index_entry entry = *git_index_get_byindex(index, i);
        AUTO(str) char *name = strdup(entry.path); /* the index may free its own */
        entry.path = name;
        if (!name || settle_entry(dir, &entry, when))
            return err_sys(err, "cannot settle a file of the workspace");
        note(&entry, dir, report);
        if (entry.mode != GIT_MODE_SUBMODULE && git_index_add(index, &entry))
            return lib_err(err, "cannot settle the index");
    }
    return git_index_write(index) ? lib_err(err, "cannot write the index") : 0;
}

/* Of .git only the index stays. */
static int strip(const char *path, struct err *err)
{
    AUTO(str) char *git = path_join(path, ".git");
    AUTO(str) char *index = git ? path_join(git, "index") : NULL;
    AUTO(str) char *aside = path_join(path, ".git.index");
    if (!git || !index || !aside)
        return err_sys(err, "workspace");
    int rc = rename(index, aside);
    if (rc && errno != ENOENT)
        return err_sys(err, "cannot keep the index");
    if (path_remove_tree(git, err) || path_make_dirs(git, 0755, err))
        return -1;
    return rc == 0 && rename(aside, index) ? err_sys(err, "cannot keep the index") : 0;
}

int tree_build(const char *git_dir, const char *commit, const char *path, uid_t uid, gid_t gid,
               struct tree_report *report, struct err *err)
{
    int64_t when = 0;
    if (lib_act_for(uid, gid, err))
        return -1;
    AUTO(git_repository) git_repository *repo = borrow(git_dir, path, err);
    int rc = !repo || set_up(repo, err) || check_out(repo, commit, &when, err) ||
                     settle(repo, path, when, report, err)
                 ? -1
                 : 0;
    if (rc == 0)
        rc = strip(path, err);
    lib_act_for(0, 0, err);
    return rc;
}

/* --- objects ------------------------------------------------------------------------------- */

static int copy_file(int from_dir, int to_dir, const char *name, struct err *err)
{
    AUTO(fd) int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO(fd) int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (from < 0 || to < 0)
        return err_sys(err, "cannot copy '%s'", name);
    for (ssize_t n = 1; n > 0;) {
        n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
        if (n < 0)
            return err_sys(err, "cannot copy '%s'", name);
    }
    return 0;
}

static bool is_kept(const char *name)
{
    static const char *const tails[] = {".pack", ".idx", ".rev", ".bitmap"};
    size_t len = strlen(name);
    if (str_starts(name, "tmp_") || *name == '.')
        return false;
    for (size_t i = 0; i < COUNT_OF(tails); i++)
        if (len > strlen(tails[i]) && strcmp(name + len - strlen(tails[i]), tails[i]) == 0)
            return true;
    return len == 38; /* a loose object */
}

static int link_dir(const char *from, const char *to, uid_t uid, gid_t gid, struct err *err)
{
    struct dirent *entry;
    AUTO(fd) int from_dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from_dir < 0 && errno == ENOENT)
        return 0;
    if (from_dir < 0 || path_make_dirs(to, 0755, err) || path_own(to, uid, gid, err))
        return err_sys(err, "cannot link '%s'", from);
    AUTO(fd) int to_dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = opendir(from);
    int rc = to_dir < 0 || !list ? err_sys(err, "cannot link '%s'", from) : 0;
    while (list && rc == 0 && (entry = readdir(list))) {
        if (!is_kept(entry->d_name))
            continue;
        if (linkat(from_dir, entry->d_name, to_dir, entry->d_name, 0) == 0)
            continue;
        rc = errno == EXDEV || errno == EMLINK || errno == EPERM
                 ? copy_file(from_dir, to_dir, entry->d_name, err)
                 : err_sys(err, "cannot link '%s'", entry->d_name);
    }
    if (list)
        closedir(list);
    return rc;
}

int tree_link_objects(const char *git_dir, const char *to_git, uid_t uid, gid_t gid,
                      struct err *err)
{
    static const char *const always[] = {"objects", "objects/pack", "objects/info"};
    char from[4096], to[4096];
    for (size_t i = 0; i < COUNT_OF(always); i++) {
        snprintf(to, sizeof(to), "%s/%s", to_git, always[i]);
        if (path_make_dirs(to, 0755, err) || path_own(to, uid, gid, err))
            return -1;
    }
    snprintf(from, sizeof(from), "%s/objects/pack", git_dir);
    snprintf(to, sizeof(to), "%s/objects/pack", to_git);
    if (link_dir(from, to, uid, gid, err))
        return -1;
    for (unsigned i = 0; i < 256; i++) {
        snprintf(from, sizeof(from), "%s/objects/%02x", git_dir, i);
        snprintf(to, sizeof(to), "%s/objects/%02x", to_git, i);
        if (link_dir(from, to, uid, gid, err))
            return -1;
    }
    return 0;
}
