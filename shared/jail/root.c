/*
 * A root of its own: assembled on a file system in memory, then made the root.
 *
 * The new root is mounted over /proc, where nothing that is shown inside can stand, so that every
 * path outside stays reachable until pivot_root(). Places inside are walked part by part without
 * following links: what is bound writable was written by tasks.
 */
#include "jail/jail_private.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TOP "/proc"
#define PLACE (O_PATH | O_NOFOLLOW | O_CLOEXEC)
#define GUARDED (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

/* --- places inside ------------------------------------------------------------------------- */

/* Opens a directory, making it when it is missing. It looks first: to make one takes the lock of
 * the directory above, and jails share those of a template. */
static int open_dir(int at, const char *name)
{
    int fd = openat(at, name, PLACE | O_DIRECTORY);
    if (fd >= 0 || errno != ENOENT || (mkdirat(at, name, 0755) && errno != EEXIST))
        return fd;
    return openat(at, name, PLACE | O_DIRECTORY);
}

/* Opens the directory that contains `path` and makes what is missing; *ret_name is the last
 * part. */
static int open_parent(int top, const char *path, const char **ret_name)
{
    int at = fcntl(top, F_DUPFD_CLOEXEC, 0);
    const char *part = path, *slash;
    while (at >= 0 && (slash = strchr(part, '/'))) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof(name), "%.*s", (int)(slash - part), part);
        int next = open_dir(at, name);
        fd_close(&at);
        at = next;
        part = slash + 1;
    }
    *ret_name = part;
    if (at >= 0 && strchr(part, '/'))
        fd_close(&at);
    return at;
}

/* Opens the directory or file at `path`, making it when missing. */
static int open_place(int top, const char *path, bool directory)
{
    const char *name;
    AUTO(fd) int parent = open_parent(top, path, &name);
    if (parent < 0)
        return -1;
    if (directory)
        return open_dir(parent, name);
    int there = openat(parent, name, PLACE);
    if (there >= 0 || errno != ENOENT)
        return there;
    AUTO(fd)
    int made = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (made < 0 && errno != EEXIST)
        return -1;
    return openat(parent, name, PLACE);
}

static int attach(int mount, int top, const char *path, bool directory)
{
    AUTO(fd) int place = open_place(top, path, directory);
    if (place < 0)
        return -1;
    return move_mount(mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* --- steps --------------------------------------------------------------------------------- */

static int make_link(int top, const struct step *step)
{
    const char *name;
    AUTO(fd) int parent = open_parent(top, step->to, &name);
    if (parent >= 0 && symlinkat(step->from, parent, name) == 0)
        return 0;
    /* It is there already, or below a link or a tree that is shown as it is. */
    return step->optional && (errno == EEXIST || errno == ELOOP || errno == ENOTDIR ||
                              errno == EROFS || errno == EACCES)
               ? 0
               : -1;
}

static int make_file(int top, const struct step *step)
{
    const char *name;
    AUTO(fd) int parent = open_parent(top, step->to, &name);
    AUTO(fd)
    int fd = parent < 0 ? -1 : openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    return fd < 0 ? -1 : fd_write_all(fd, step->from, strlen(step->from));
}

/* Makes a file system with options "name=value,name". */
static int make_fs(const char *type, const char *options, unsigned attributes)
{
    char text[128], *save = NULL;
    AUTO(fd) int fs = fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    snprintf(text, sizeof(text), "%s", options);
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');
        if (!value)
            return -1;
        *value++ = '\0';
        if (fsconfig(fs, FSCONFIG_SET_STRING, word, value, 0))
            return -1;
    }
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
        return -1;
    return fsmount(fs, FSMOUNT_CLOEXEC, attributes);
}

int mount_detached(const char *type)
{
    return make_fs(type, "", GUARDED | MOUNT_ATTR_NOEXEC);
}

static int mount_fs(int top, const struct step *step, const char *type, const char *options,
                    unsigned attributes)
{
    AUTO(fd) int fs = make_fs(type, options, attributes);
    return fs < 0 ? -1 : attach(fs, top, step->to, true);
}

/* True when a link of the system leads to something that is shown at the same place inside. */
static bool stays_shown(const char *text)
{
    static const char *const begins[] = {"usr/", "/usr/", "../usr/", "/etc/alternatives/"};
    for (size_t i = 0; i < COUNT_OF(begins); i++)
        if (str_starts(text, begins[i]))
            return true;
    return false;
}

/* Returns 1 when `from` is such a link and was recreated inside. */
static int copy_link(int top, const struct step *step)
{
    char text[PATH_MAX];
    ssize_t len =
        step->optional && step->read_only ? readlink(step->from, text, sizeof(text) - 1) : -1;
    if (len < 0)
        return 0;
    text[len] = '\0';
    const struct step link = {.kind = STEP_LINK, .from = text, .to = step->to};
    if (!stays_shown(text))
        return 0;
    return top >= 0 && make_link(top, &link) ? -1 : 1;
}

bool root_makes_link(const struct step *step)
{
    return step->kind == STEP_BIND && copy_link(-1, step) == 1;
}

/* Opens what a bind shows, not yet attached: 1 with *ret_tree, 0 when there is nothing to show. */
static int take_tree(const struct step *step, int *ret_tree)
{
    const unsigned follow = step->read_only || step->kind == STEP_DEVICE ? 0 : AT_SYMLINK_NOFOLLOW;
    struct mount_attr attr = {.attr_set = step->kind == STEP_DEVICE ? MOUNT_ATTR_NOSUID : GUARDED,
                              .propagation = MS_PRIVATE};
    AUTO(fd)
    int tree = open_tree(AT_FDCWD, step->from,
                         OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | follow);
    if (tree < 0)
        return step->optional && (errno == ENOENT || errno == ENOTDIR) ? 0 : -1;
    if (step->read_only)
        attr.attr_set |= MOUNT_ATTR_RDONLY;
    if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)))
        return -1;
    *ret_tree = tree;
    tree = -1;
    return 1;
}

static int attach_tree(int tree, int top, const struct step *step)
{
    struct stat st;
    return fstat(tree, &st) ? -1 : attach(tree, top, step->to, S_ISDIR(st.st_mode));
}

static int bind(int top, const struct step *step)
{
    AUTO(fd) int tree = -1;
    int link = copy_link(top, step);
    if (link)
        return link < 0 ? -1 : 0;
    int there = take_tree(step, &tree);
    return there <= 0 ? there : attach_tree(tree, top, step);
}

/* Hides a directory of the system, when it exists. */
static int make_tmpfs(int top, const struct step *step)
{
    struct stat st;
    if (step->optional &&
        (fstatat(top, step->to, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode)))
        return 0;
    int rc = mount_fs(top, step, "tmpfs", step->from,
                      GUARDED | (step->read_only ? MOUNT_ATTR_RDONLY : 0));
    /* A task has put a link on the way to it: then it is not shown here. */
    return rc && step->optional && (errno == ELOOP || errno == ENOTDIR) ? 0 : rc;
}

static int take_step(int top, const struct step *step)
{
    switch (step->kind) {
    case STEP_DIR: {
        AUTO(fd) int fd = open_place(top, step->to, true);
        return fd < 0 ? -1 : 0;
    }
    case STEP_LINK:
        return make_link(top, step);
    case STEP_FILE:
        return make_file(top, step);
    case STEP_TMPFS:
        return make_tmpfs(top, step);
    case STEP_BIND:
    case STEP_DEVICE:
        return bind(top, step);
    case STEP_PROC:
        return mount_fs(top, step, "proc", "", GUARDED | MOUNT_ATTR_NOEXEC);
    case STEP_PTS:
        return mount_fs(top, step, "devpts", "ptmxmode=0666,mode=620",
                        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    }
    return -1;
}

/* --- the host's own root, seen through ------------------------------------------------------ */

/* In a tier without a root of its own: puts the binds back on top of what has become read-only. */
static int put_back(int top, const struct jail *jail, int trees[], struct err *err)
{
    for (size_t i = 0; i < jail->policy.binds.count / 3; i++) {
        struct stat st;
        const char *path = jail->policy.binds.items[3 * i + 2];
        if (trees[i] < 0)
            continue;
        if (fstat(trees[i], &st) || attach(trees[i], top, path + 1, S_ISDIR(st.st_mode)))
            return jail_fail(err, "%s", path);
    }
    return 0;
}

static int cover(int top, const struct jail *jail, int trees[], struct err *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)))
        return jail_fail(err, "making the system read-only");
    for (size_t i = 0; i < jail->step_count; i++)
        if (take_step(top, &jail->steps[i]))
            return jail_fail(err, "/%s", jail->steps[i].to);
    return put_back(top, jail, trees, err);
}

static int take_trees(const struct jail *jail, int trees[], struct err *err)
{
    char *const *at = jail->policy.binds.items;
    for (size_t i = 0; i < jail->policy.binds.count / 3; i++) {
        struct mount_attr attr = {.attr_set = GUARDED};
        if (at[3 * i][1] == 'o')
            attr.attr_set |= MOUNT_ATTR_RDONLY;
        trees[i] =
            open_tree(AT_FDCWD, at[3 * i + 1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (trees[i] < 0 && at[3 * i][2] == '?' && (errno == ENOENT || errno == ENOTDIR))
            continue;
        if (trees[i] < 0 ||
            mount_setattr(trees[i], "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)))
            return jail_fail(err, "%s", at[3 * i + 1]);
    }
    return 0;
}

int root_cover(const struct jail *jail, struct err *err)
{
    size_t count = jail->policy.binds.count / 3;
    int *trees = malloc((count + 1) * sizeof(*trees));
    AUTO(fd) int top = -1;
    if (!trees)
        return jail_fail(err, "memory");
    for (size_t i = 0; i < count; i++)
        trees[i] = -1;
    int rc = take_trees(jail, trees, err);
    if (rc == 0 && (top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = jail_fail(err, "/");
    if (rc == 0)
        rc = cover(top, jail, trees, err);
    for (size_t i = 0; i < count; i++)
        fd_close(&trees[i]);
    free(trees);
    return rc;
}

/* --- the root ------------------------------------------------------------------------------ */

static int enter(int top, struct err *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (fchdir(top) || syscall(SYS_pivot_root, ".", "."))
        return jail_fail(err, "pivot_root");
    if (umount2(".", MNT_DETACH) || chdir("/"))
        return jail_fail(err, "leaving the old root");
    if (mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)))
        return jail_fail(err, "making the root read-only");
    return 0;
}

/* Performs the steps, or only the common ones, on a file system in memory; *ret_top is its root. */
static int assemble(const struct jail *jail, bool common_only, int *ret_top, struct err *err)
{
    if (mount("tmpfs", TOP, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=512,mode=755"))
        return jail_fail(err, "a root in memory");
    AUTO(fd) int top = open(TOP, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return jail_fail(err, "a root in memory");
    for (size_t i = 0; i < jail->step_count; i++)
        if ((jail->steps[i].common || !common_only) && take_step(top, &jail->steps[i]))
            return jail_fail(err, "/%s", jail->steps[i].to);
    *ret_top = top;
    top = -1;
    return 0;
}

int root_build(const struct jail *jail, struct err *err)
{
    AUTO(fd) int top = -1;
    mode_t mask = umask(0);
    if (assemble(jail, false, &top, err))
        return -1;
    umask(mask);
    return enter(top, err);
}

/* --- by a template -------------------------------------------------------------------------- */

/* Makes the places of the jail's own mounts. Ignores errors: a place below another mount is made
 * there later. */
static void make_places(const struct jail *jail, int top)
{
    for (size_t i = 0; i < jail->step_count; i++) {
        struct stat st;
        const struct step *step = &jail->steps[i];
        const bool bound = step->kind == STEP_BIND;
        if (step->common || (step->kind == STEP_TMPFS && step->optional) ||
            (bound && stat(step->from, &st)))
            continue;
        int place = open_place(top, step->to, !bound || S_ISDIR(st.st_mode));
        fd_close(&place);
    }
}

int root_make_template(const struct jail *jail, struct err *err)
{
    AUTO(fd) int top = -1;
    umask(0);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return jail_fail(err, "private mounts");
    if (assemble(jail, true, &top, err))
        return -1;
    make_places(jail, top);
    return enter(top, err);
}

static int add_own(const struct jail *jail, const int trees[], struct err *err)
{
    AUTO(fd) int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    mode_t mask = umask(0);
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        if (step->common || (step->kind == STEP_BIND && trees[i] < 0))
            continue;
        if (step->kind == STEP_BIND ? attach_tree(trees[i], top, step) : take_step(top, step))
            return jail_fail(err, "/%s", step->to);
    }
    umask(mask);
    return 0;
}

static int join(const struct jail *jail, int trees[], struct err *err)
{
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        if (!step->common && step->kind == STEP_BIND && take_tree(step, &trees[i]) < 0)
            return jail_fail(err, "/%s", step->to);
    }
    if (setns(jail->template_ns, CLONE_NEWNS) || unshare(CLONE_NEWNS))
        return jail_fail(err, "the common root");
    return add_own(jail, trees, err);
}

int root_join(const struct jail *jail, struct err *err)
{
    int *trees = malloc((jail->step_count + 1) * sizeof(*trees));
    if (!trees)
        return jail_fail(err, "memory");
    for (size_t i = 0; i < jail->step_count; i++)
        trees[i] = -1;
    int rc = join(jail, trees, err);
    for (size_t i = 0; i < jail->step_count; i++)
        fd_close(&trees[i]);
    free(trees);
    return rc;
}
