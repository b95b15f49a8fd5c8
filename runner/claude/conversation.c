#include "runner/claude/conversation.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 8
#define NAME_SIZE 300

/* --- trees that somebody else has written -------------------------------------------------- */

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Called for each entry of a directory; a result other than 0 ends the loop and is returned. */
typedef int entry_fn(int dir, const char *name, const struct stat *st, void *arg);

static int each_entry(int dir, entry_fn *fn, void *arg)
{
    int copy = open_dir(dir, "."), rc = 0;
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;
    struct stat st;
    if (!list) {
        fd_close(&copy);
        return -1;
    }
    while (rc == 0 && (entry = readdir(list))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            rc = fn(dir, name, &st, arg);
    }
    closedir(list);
    return rc;
}

struct tree_size {
    int64_t bytes;
    int files;
    int depth;
};

/* Returns non-zero as soon as the tree is too large to be kept. */
static int measure(int dir, const char *name, const struct stat *st, void *arg)
{
    struct tree_size *size = arg;
    size->bytes += st->st_size;
    if (++size->files > CONVERSATION_FILES_MAX || size->bytes > CONVERSATION_BYTES_MAX)
        return 1;
    if (!S_ISDIR(st->st_mode))
        return 0;
    AUTO(fd) int below = open_dir(dir, name);
    if (below < 0 || ++size->depth > DEPTH_MAX)
        return 1;
    int rc = each_entry(below, measure, size);
    size->depth--;
    return rc;
}

/* --- saving -------------------------------------------------------------------------------- */

struct save {
    const char *conversation;
    char transcript[NAME_SIZE]; /* its name */
    int to;                     /* directory that receives what is kept */
    bool found;
    bool too_long;
};

/* Moves a conversation's transcript and folder out of one project's directory. */
static int save_project(int dir, const char *name, const struct stat *st, void *arg)
{
    struct save *save = arg;
    struct stat own;
    AUTO(fd) int from = S_ISDIR(st->st_mode) ? open_dir(dir, name) : -1;
    if (from < 0)
        return 0;
    bool transcript = fstatat(from, save->transcript, &own, AT_SYMLINK_NOFOLLOW) == 0 &&
                      S_ISREG(own.st_mode) && own.st_size > 0;
    if (transcript && own.st_size > CONVERSATION_TRANSCRIPT_MAX) {
        save->too_long = true;
        return 1;
    }
    bool folder =
        fstatat(from, save->conversation, &own, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(own.st_mode);
    if (!transcript && !folder)
        return 0;
    if (mkdirat(save->to, name, 0700))
        return -1;
    AUTO(fd) int to = open_dir(save->to, name);
    if (to < 0 || (folder && renameat(from, save->conversation, to, save->conversation)))
        return -1;
    if (!transcript)
        return 0;
    if (renameat(from, save->transcript, to, save->transcript))
        return -1;
    save->found = true;
    AUTO(fd)
    int file = openat(to, save->transcript, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return file < 0 || fdatasync(file) ? -1 : 0;
}

struct strip {
    const char *path;
    const char *conversation;
};

/* Removes everything but the transcripts. */
static int strip_project(int dir, const char *name, const struct stat *st, void *arg)
{
    const struct strip *strip = arg;
    struct err err;
    AUTO(str) char *folder = NULL;
    (void)dir;
    (void)st;
    if (asprintf(&folder, "%s/%s/%s", strip->path, name, strip->conversation) < 0)
        folder = NULL;
    return folder ? path_remove_tree(folder, &err) : -1;
}

/* Collects what must be kept in the directory `fresh`. Returns 1 when there is a transcript. */
static int collect(int projects, const char *fresh, const char *conversation, struct err *err)
{
    struct save save = {.conversation = conversation};
    struct tree_size size = {0};
    snprintf(save.transcript, sizeof(save.transcript), "%s.jsonl", conversation);
    AUTO(fd) int to = open_dir(AT_FDCWD, fresh);
    save.to = to;
    if (to < 0 || (each_entry(projects, save_project, &save) && !save.too_long))
        return err_sys(err, "cannot keep the session '%s'", conversation);
    if (save.too_long)
        return err_set(err, ERR_TOO_LARGE, "the session '%s' is too long to be kept", conversation);
    struct strip strip = {fresh, conversation};
    if (each_entry(to, measure, &size) && each_entry(to, strip_project, &strip))
        return err_sys(err, "cannot keep the session '%s'", conversation);
    return save.found;
}

/* Exchanges the directory at `place` for the one at `fresh`, and removes the old one. */
static int put_in_place(const char *fresh, const char *place, struct err *err)
{
    if (rename(fresh, place) == 0)
        return file_sync_directory(place, err);
    if (path_exchange(fresh, place))
        return err_sys(err, "cannot keep '%s'", place);
    return file_sync_directory(place, err) || path_remove_tree(fresh, err) ? -1 : 0;
}

static int open_projects(const char *run_dir)
{
    AUTO(fd) int run = open_dir(AT_FDCWD, run_dir);
    AUTO(fd) int config = run < 0 ? -1 : open_dir(run, "config");
    return config < 0 ? -1 : open_dir(config, "projects");
}

static int save_at(const char *place, const char *conversation, const char *run_dir,
                   struct err *err)
{
    AUTO(fd) int projects = open_projects(run_dir);
    if (projects < 0) /* The CLI ended before it made the directory. */
        return 0;
    AUTO(str) char *fresh = NULL;
    if (asprintf(&fresh, "%s.new", place) < 0)
        return err_sys(err, "session");
    if (path_remove_tree(fresh, err) || path_make_dirs(fresh, 0700, err))
        return -1;
    int found = collect(projects, fresh, conversation, err);
    if (found == 1)
        return put_in_place(fresh, place, err) ? -1 : 1;
    struct err ignored;
    path_remove_tree(fresh, &ignored);
    return found;
}

int conversation_save(const char *state_dir, const char *conversation, const char *run_dir,
                      struct err *err)
{
    REQUIRE(state_dir && conversation && run_dir);
    struct stat st;
    AUTO(str) char *place = NULL;
    if (asprintf(&place, "%s/" CONVERSATIONS "/%s", state_dir, conversation) < 0)
        return err_sys(err, "session");
    int rc = save_at(place, conversation, run_dir, err);
    bool before = rc != 1 && stat(place, &st) == 0;
    if (rc < 0 && before)
        log_warn("claude", "%s; what was kept of it before stays", err->msg);
    return before ? 1 : rc;
}

/* --- restoring ----------------------------------------------------------------------------- */

struct restore {
    int to; /* directory */
    uid_t uid;
    gid_t gid;
    int depth;
    const char *transcript; /* its name */
    char project[NAME_SIZE];
};

static int copy_file(int dir, const char *name, const struct restore *restore, int64_t size)
{
    AUTO(fd) int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    AUTO(fd)
    int to = openat(restore->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return from < 0 || to < 0 || fd_copy(from, to, size) || fchown(to, restore->uid, restore->gid)
               ? -1
               : 0;
}

static int restore_entry(int dir, const char *name, const struct stat *st, void *arg)
{
    struct restore *restore = arg;
    if (S_ISREG(st->st_mode))
        return copy_file(dir, name, restore, st->st_size);
    if (!S_ISDIR(st->st_mode) || restore->depth == DEPTH_MAX)
        return 0;
    AUTO(fd) int from = open_dir(dir, name);
    if (from < 0 || mkdirat(restore->to, name, 0700))
        return -1;
    AUTO(fd) int to = open_dir(restore->to, name);
    if (to < 0 || fchown(to, restore->uid, restore->gid))
        return -1;
    struct restore below = *restore;
    struct stat transcript;
    below.to = to;
    below.depth++;
    if (restore->depth == 0 &&
        fstatat(from, restore->transcript, &transcript, AT_SYMLINK_NOFOLLOW) == 0)
        snprintf(restore->project, sizeof(restore->project), "%s", name);
    return each_entry(from, restore_entry, &below);
}

int conversation_restore(const char *state_dir, const char *conversation, const char *run_dir,
                         uid_t uid, gid_t gid, char **ret_transcript, struct err *err)
{
    char name[NAME_SIZE];
    AUTO(str) char *place = NULL;
    AUTO(str) char *projects = path_join(run_dir, "config/projects");
    if (!projects || asprintf(&place, "%s/" CONVERSATIONS "/%s", state_dir, conversation) < 0)
        return err_sys(err, "session");
    AUTO(fd) int from = open_dir(AT_FDCWD, place);
    if (from < 0)
        return err_set(err, ERR_NOT_FOUND, "nothing is left of the session '%s'", conversation);
    if (path_make_dirs(projects, 0700, err) || path_own(projects, uid, gid, err))
        return -1;
    AUTO(fd) int to = open_dir(AT_FDCWD, projects);
    snprintf(name, sizeof(name), "%s.jsonl", conversation);
    struct restore restore = {.to = to, .uid = uid, .gid = gid, .transcript = name};
    if (to < 0 || each_entry(from, restore_entry, &restore))
        return err_sys(err, "cannot bring back the session '%s'", conversation);
    if (!restore.project[0] ||
        asprintf(ret_transcript, "%s/%s/%s", projects, restore.project, name) < 0)
        return err_set(err, ERR_NOT_FOUND, "nothing is left of the session '%s'", conversation);
    return 0;
}
