#include "git/worktree.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/index.h"
#include "git/lib.h"
#include "git/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define AGE_S 10 /* The files' times are at least this long before now. */
#define SUBMODULES_LISTED 200
#define LFS_POINTER_MAX 1024
#define CHECKOUT_WORKERS 2

/* --- checking out -------------------------------------------------------------------------- */

/* Makes git create the files as the task's user: to change the owner of 50,000 files afterwards
 * takes as long as making them. git gets that user, and from root's rights only the one to pass
 * permission checks, which it needs to read the mirror. */
static void act_for(struct program *program, uid_t uid, gid_t gid)
{
    if (geteuid() != 0 || uid == 0)
        return;
    strlist_add(&program->argv, "setpriv");
    strlist_addf(&program->argv, "--reuid=%u", (unsigned)uid);
    strlist_addf(&program->argv, "--regid=%u", (unsigned)gid);
    strlist_add(&program->argv, "--clear-groups");
    strlist_add(&program->argv, "--inh-caps=-all,+dac_override");
    strlist_add(&program->argv, "--ambient-caps=-all,+dac_override");
    strlist_add(&program->argv, "--securebits=+no_setuid_fixup"); /* access(2) must use it as
                                                                   * well. */
}

/* Refuses names that any system would take for .git, even where this one does not. */
static void add_settings(struct program *program)
{
    static const char *const settings[] = {
        "core.bare=false",      "core.protectNTFS=true", "core.protectHFS=true",
        "core.symlinks=true",   "core.fileMode=true",    "core.hooksPath=/dev/null",
        "core.fsmonitor=false", "core.fsync=none",       "core.sparseCheckout=false",
        "index.version=2",      "index.skipHash=false",  "submodule.recurse=false",
        "safe.directory=*",     "core.splitIndex=false", "core.untrackedCache=false",
    };
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        strlist_add(&program->argv, "-c");
        strlist_add(&program->argv, settings[i]);
    }
    strlist_add(&program->argv, "-c");
    strlist_addf(&program->argv, "checkout.workers=%d", CHECKOUT_WORKERS);
}

static int check_out(const struct tree_job *job, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    AUTO(program) struct program program = {.secret_fd = -1, .deadline_ms = job->deadline_ms};
    act_for(&program, job->uid, job->gid);
    strlist_add(&program.argv, "git");
    strlist_addf(&program.argv, "--git-dir=%s", job->git_dir);
    strlist_addf(&program.argv, "--work-tree=%s", job->path);
    add_settings(&program);
    strlist_add(&program.argv, "read-tree");
    strlist_add(&program.argv, "--reset");
    strlist_add(&program.argv, "-u");
    strlist_add(&program.argv, job->commit);
    program_add_environment(&program.env);
    strlist_addf(&program.env, "GIT_INDEX_FILE=%s/.git/index", job->path);
    if (job->objects)
        strlist_addf(&program.env, "GIT_OBJECT_DIRECTORY=%s", job->objects);
    return program_run(&program, &out, err);
}

/* Finds the time of the commit. */
static int find_time(const struct tree_job *job, int64_t *ret_time, struct err *err)
{
    git_oid oid;
    AUTO(git_repository) git_repository *repo = NULL;
    AUTO(git_commit) git_commit *commit = NULL;
    if (git_repository_open_bare(&repo, job->git_dir) || git_oid_fromstr(&oid, job->commit) ||
        git_commit_lookup(&commit, repo, &oid))
        return lib_err(err, "the commit cannot be read");
    *ret_time = git_commit_time(commit);
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

static void note_submodule(const char *path, struct tree_report *report)
{
    if (report->submodules.count < SUBMODULES_LISTED)
        strlist_add(&report->submodules, path);
    else
        report->submodules_more = true;
}

struct settling {
    int dir;
    time_t when;
    struct tree_report *report;
};

/* Gives a file the commit's time and its entry what lstat says. Because the file is older than the
 * index by whole seconds, it is never "racily clean" (git would then read every file), and a change
 * in the second of the checkout is noticed. */
static int settle_entry(const char *path, uint32_t mode, struct stat *ret_st, void *arg)
{
    const struct settling *settling = arg;
    const struct timespec times[2] = {{settling->when, 0}, {settling->when, 0}};
    if (mode == INDEX_MODE_SUBMODULE) {
        note_submodule(path, settling->report);
        return 0;
    }
    if (utimensat(settling->dir, path, times, AT_SYMLINK_NOFOLLOW) ||
        fstatat(settling->dir, path, ret_st, AT_SYMLINK_NOFOLLOW))
        return -1;
    settling->report->files++;
    if (mode != INDEX_MODE_LINK && ret_st->st_size > 100 && ret_st->st_size < LFS_POINTER_MAX &&
        is_lfs_pointer(settling->dir, path))
        settling->report->lfs_pointers++;
    return 1;
}

static int settle(const struct tree_job *job, int64_t commit_time, struct tree_report *report,
                  struct err *err)
{
    AUTO(str) char *index = path_join(job->path, ".git/index");
    AUTO(fd) int dir = open(job->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t newest = clock_real_ms() / 1000 - AGE_S;
    struct settling settling = {.dir = dir, .report = report};
    settling.when = commit_time < 1 ? 1 : commit_time > newest ? newest : commit_time;
    if (dir < 0 || !index)
        return err_sys(err, "workspace");
    return index_rewrite(index, settle_entry, &settling, err);
}

static int make_dirs(const char *path, uid_t uid, gid_t gid, struct err *err)
{
    AUTO(str) char *git = path_join(path, ".git");
    if (!git)
        return err_sys(err, "workspace");
    return path_make_dirs(git, 0755, err) || path_own(path, uid, gid, err) ||
                   path_own(git, uid, gid, err)
               ? -1
               : 0;
}

int worktree_build(const struct tree_job *job, struct tree_report *report, struct err *err)
{
    REQUIRE(job->commit && job->path);
    int64_t when = 0;
    return make_dirs(job->path, job->uid, job->gid, err) || find_time(job, &when, err) ||
                   check_out(job, err) || settle(job, when, report, err)
               ? -1
               : 0;
}

/* --- copying ------------------------------------------------------------------------------- */

struct copying {
    int from;
    int to;
    char parent[4096]; /* the directory that was created last */
};

/* Makes a file's directory. The index lists a directory's files together, so it is usually there
 * already. */
static int make_parents(struct copying *copying, const char *path)
{
    char part[4096];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof(part)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (len == 0 || (strncmp(copying->parent, path, len) == 0 && copying->parent[len] == '\0'))
        return 0;
    memcpy(part, path, len);
    part[len] = '\0';
    for (char *at = part; at; *at = '/') {
        at = strchr(at + 1, '/');
        if (at)
            *at = '\0';
        if (mkdirat(copying->to, part, 0755) && errno != EEXIST)
            return -1;
        if (!at)
            break;
    }
    memcpy(copying->parent, path, len);
    copying->parent[len] = '\0';
    return 0;
}

static int copy_link(const struct copying *copying, const char *path)
{
    char target[4097];
    ssize_t n = readlinkat(copying->from, path, target, sizeof(target) - 1);
    if (n < 0)
        return -1;
    target[n] = '\0';
    return symlinkat(target, copying->to, path);
}

static int copy_blocks(int from, int to, int64_t size)
{
    return ioctl(to, FICLONE, from) == 0 ? 0 : fd_copy(from, to, size);
}

static int copy_one(const struct copying *copying, const char *path, const struct stat *st,
                    struct stat *ret_st)
{
    const struct timespec times[2] = {st->st_mtim, st->st_mtim};
    AUTO(fd) int from = openat(copying->from, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    AUTO(fd)
    int to = openat(copying->to, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0777);
    return from < 0 || to < 0 || copy_blocks(from, to, st->st_size) || futimens(to, times) ||
                   fstat(to, ret_st)
               ? -1
               : 1;
}

static int copy_entry(const char *path, uint32_t mode, struct stat *ret_st, void *arg)
{
    struct stat st;
    struct copying *copying = arg;
    if (make_parents(copying, path))
        return -1;
    if (mode == INDEX_MODE_SUBMODULE)
        return mkdirat(copying->to, path, 0755) && errno != EEXIST ? -1 : 0;
    if (fstatat(copying->from, path, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    if (mode != INDEX_MODE_LINK)
        return copy_one(copying, path, &st, ret_st);
    const struct timespec times[2] = {st.st_mtim, st.st_mtim};
    return copy_link(copying, path) || utimensat(copying->to, path, times, AT_SYMLINK_NOFOLLOW) ||
                   fstatat(copying->to, path, ret_st, AT_SYMLINK_NOFOLLOW)
               ? -1
               : 1;
}

static int copy_all(struct copying *copying, const char *path, struct err *err)
{
    struct stat st;
    AUTO(str) char *index = path_join(path, ".git/index");
    if (!index || fstatat(copying->from, ".git/index", &st, AT_SYMLINK_NOFOLLOW) ||
        copy_one(copying, ".git/index", &st, &st) < 0)
        return err_sys(err, "cannot copy the index");
    return index_rewrite(index, copy_entry, copying, err);
}

int worktree_copy(const char *from, const char *path, uid_t uid, gid_t gid, struct err *err)
{
    if (make_dirs(path, uid, gid, err))
        return -1;
    AUTO(fd) int source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(fd) int target = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct copying copying = {.from = source, .to = target};
    if (source < 0 || target < 0)
        return err_sys(err, "cannot copy '%s'", from);
    if (lib_act_for(uid, gid, err))
        return -1;
    struct err back;
    int rc = copy_all(&copying, path, err);
    if (lib_act_for(0, 0, &back) && rc == 0) {
        *err = back;
        rc = -1;
    }
    return rc;
}

/* --- objects ------------------------------------------------------------------------------- */

static int copy_file(int from_dir, int to_dir, const char *name, struct err *err)
{
    AUTO(fd) int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO(fd) int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    struct stat st;
    if (from < 0 || to < 0 || fstat(from, &st) || fd_copy(from, to, st.st_size))
        return err_sys(err, "cannot copy '%s'", name);
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
    return len == 38; /* The length of a loose object's name. */
}

static int link_dir(const char *from, const char *to, uid_t uid, gid_t gid, struct err *err)
{
    struct dirent *entry;
    AUTO(fd) int from_dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from_dir < 0 && errno == ENOENT)
        return 0;
    if (from_dir < 0)
        return err_sys(err, "cannot link '%s'", from);
    if (path_make_dirs(to, 0755, err) || path_own(to, uid, gid, err))
        return -1;
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

int worktree_link_objects(const char *git_dir, const char *to_git, uid_t uid, gid_t gid,
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
