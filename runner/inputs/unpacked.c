/*
 * Inputs, unpacked: once for all tasks that want one.
 *
 *     tree-HASH/files/…    what the archive holds
 *     tree-HASH/bytes      how much that is
 *
 * A tree gets its name when it is whole. Nobody writes into it afterwards: tasks have layers of
 * their own over it, or copies. It stays for as long as its archive does.
 */
#include "runner/inputs/inputs_private.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "pack/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEVERAL "several" /* file next to `files`: the archive had more than one entry */
#define RATIO_MAX 200
#define ENTRIES_MAX 1000000
#define ENTRY_BYTES 4096 /* disk space of the smallest file */
#define DISK_LOOK_BYTES (INT64_C(64) << 20)

void input_tree_done(struct input_tree *tree)
{
    free(tree->files);
    *tree = (struct input_tree){0};
}

int64_t input_tree_bytes(const struct inputs *inputs, const char *name)
{
    char path[INPUTS_TREE_SIZE + 8], text[32];
    int64_t bytes = 0;
    snprintf(path, sizeof(path), INPUTS_TREE "%s/bytes", name);
    AUTO(fd) int fd = openat(inputs->dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    str_to_int(text, 0, INT64_MAX, &bytes);
    return bytes;
}

/* --- unpacking ----------------------------------------------------------------------------- */

struct reading {
    const struct inputs *inputs;
    int fd;
    int64_t taken;
    bool (*stopped)(void *arg);
    void *arg;
};

static ssize_t take(void *data, size_t max, void *arg, struct err *err)
{
    struct reading *reading = arg;
    if (reading->stopped && reading->stopped(reading->arg))
        return err_set(err, ERR_BUSY, "stopped");
    ssize_t n = read(reading->fd, data, max);
    if (n < 0)
        return err_sys(err, "cannot read the archive");
    int64_t before = reading->taken / DISK_LOOK_BYTES;
    reading->taken += n;
    if (reading->taken / DISK_LOOK_BYTES != before && inputs_check_disk(reading->inputs, err))
        return -1;
    return n;
}

static int unpack(struct inputs *inputs, const char *name, int files, bool (*stopped)(void *arg),
                  void *arg, struct unpack_result *ret_result, struct err *err)
{
    int64_t size;
    AUTO(fd) int fd = input_open(inputs, name, &size, err);
    struct reading reading = {.inputs = inputs, .fd = fd, .stopped = stopped, .arg = arg};
    const struct unpack_limits limits = {
        .bytes = inputs_bytes_max(inputs), .entries = ENTRIES_MAX, .ratio = RATIO_MAX};
    if (fd < 0 || inputs_check_disk(inputs, err) ||
        unpack_below(files, take, &reading, &limits, ret_result, err))
        return -1;
    return copy_own(files, inputs->config.uid, inputs->config.gid, err);
}

/* Makes the tree at `part`, a new directory. */
static int grow(struct inputs *inputs, const char *name, const char *part,
                bool (*stopped)(void *arg), void *arg, struct err *err)
{
    char text[32];
    struct unpack_result result;
    AUTO(fd) int dir = -1;
    AUTO(fd) int files = -1;
    AUTO(fd) int note = -1;
    AUTO(fd) int several = -1;
    if (mkdirat(inputs->dir, part, 0755))
        return err_sys(err, "cannot unpack the input");
    dir = openat(inputs->dir, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || mkdirat(dir, "files", 0755) ||
        (files = openat(dir, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_sys(err, "cannot unpack the input");
    if (unpack(inputs, name, files, stopped, arg, &result, err))
        return -1;
    int n = snprintf(text, sizeof(text), "%lld",
                     (long long)(result.bytes + result.entries * ENTRY_BYTES));
    note = openat(dir, "bytes", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (note < 0 || fd_write_all(note, text, (size_t)n))
        return err_sys(err, "cannot unpack the input");
    if (result.entries != 1)
        several = openat(dir, SEVERAL, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return result.entries == 1 || several >= 0 ? 0 : err_sys(err, "cannot unpack the input");
}

static int make_tree(struct inputs *inputs, const char *name, const char *tree,
                     bool (*stopped)(void *arg), void *arg, struct err *err)
{
    struct err ignored;
    char id[ID_SIZE], part[ID_SIZE + 8];
    id_new(id);
    snprintf(part, sizeof(part), INPUTS_PART "%s", id);
    AUTO(str) char *path = path_join(inputs->path, part);
    if (!path)
        return err_sys(err, "input");
    int rc = grow(inputs, name, part, stopped, arg, err);
    if (rc == 0 && renameat(inputs->dir, part, inputs->dir, tree))
        rc = err_sys(err, "cannot unpack the input");
    if (rc)
        path_remove_tree(path, &ignored);
    else /* A needed input is kept, however large. */
        (void)inputs_make_room(inputs, 0, name, &ignored);
    return rc;
}

/* Finds the only entry, when it is a file; "" otherwise. Also "" when the archive had more entries:
 * one that begins with the directory itself ("./") is the archive of a directory. */
static void find_single(const char *files, char name[NAME_MAX + 1])
{
    struct dirent *entry;
    struct stat st;
    size_t count = 0;
    AUTO(str) char *several = NULL;
    name[0] = '\0';
    if (asprintf(&several, "%s/../" SEVERAL, files) < 0 || access(several, F_OK) == 0)
        return;
    DIR *list = opendir(files);
    while (list && count < 2 && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
        count++;
    }
    if (count != 1 || fstatat(dirfd(list), name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
        name[0] = '\0';
    if (list)
        closedir(list);
}

int input_tree_get(struct inputs *inputs, const char *name, bool (*stopped)(void *arg), void *arg,
                   struct input_tree *ret_tree, struct err *err)
{
    struct input_job job = {0};
    snprintf(job.what, sizeof(job.what), INPUTS_TREE "%s", name);
    int mine = input_job_enter(inputs, &job, stopped, arg, err);
    if (mine < 0)
        return -1;
    if (mine == 1) {
        int rc = make_tree(inputs, name, job.what, stopped, arg, err);
        input_job_leave(inputs, &job);
        if (rc)
            return -1;
    }
    char *files = NULL;
    if (asprintf(&files, "%s/%s/files", inputs->path, job.what) < 0)
        return err_sys(err, "input");
    ret_tree->files = files;
    find_single(files, ret_tree->single);
    return 0;
}
