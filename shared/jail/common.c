/*
 * What the roots of many jails have in common, made once.
 *
 * Theory of operation. Whoever starts jails takes the common steps of a plan (the system, its
 * names, its devices) on a file system in memory that is attached nowhere. A jail clones what
 * stands at its top, /usr, /etc and /dev, with all that is mounted below: some ten calls instead of
 * some three hundred.
 *
 *     launcher   common_prepare()   "/usr" "/etc" "/dev"  on a tmpfs, read-only, kept by descriptor
 *       └ child  common_attach()      └──── cloned ────▶  its own root
 *
 * It is made again when it would come out differently: other steps, another file or directory at a
 * path that is shown (a name server's file is replaced by renaming), anything mounted or unmounted.
 * Kernels before 6.15 can't clone what is attached nowhere; then each jail takes the steps itself,
 * as it does when something of its own stands in /etc or /dev.
 */
#include "jail/jail_private.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD_LOWEST 64
#define KEPT 4      /* kinds of jails: with a gate, without, helpers, Python */
#define LOOK_MS 100 /* files are looked at no oftener */
#define ENTRIES_MAX 32
#define GUARDED (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

/* What stands at the top. */
struct entry {
    char name[32];
    char link[64]; /* where it is a link; else empty */
    bool directory;
};

struct common {
    uint64_t steps, files; /* what it was made by, and of */
    int64_t looked_ms;     /* when the files were still the same */
    uint64_t used;         /* the smallest is given up first */
    int tree;              /* -1: free */
    size_t count;
    struct entry entries[ENTRIES_MAX];
};

static struct common kept[KEPT] = {{.tree = -1}, {.tree = -1}, {.tree = -1}, {.tree = -1}};
static uint64_t uses;
static int mounts = -1; /* of this process; tells when something is mounted */
static pid_t watcher;   /* who has opened it: those that are forked from it miss what it sees */
static bool impossible;

/* --- what it is made of -------------------------------------------------------------------- */

static uint64_t add_bytes(uint64_t key, const void *data, size_t len)
{
    const unsigned char *at = data;
    while (len-- > 0)
        key = (key ^ *at++) * UINT64_C(0x100000001b3);
    return key;
}

static uint64_t add_text(uint64_t key, const char *text)
{
    return text ? add_bytes(key, text, strlen(text) + 1) : add_bytes(key, "", 1);
}

/* Which file stands there now, and where a link leads. */
static uint64_t add_file(uint64_t key, const char *path)
{
    struct stat st;
    for (int follow = 0; follow < 2; follow++) {
        if (fstatat(AT_FDCWD, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW))
            return add_bytes(key, "-", 1);
        const uint64_t is[] = {st.st_dev, st.st_ino, st.st_mode & S_IFMT};
        key = add_bytes(key, is, sizeof(is));
        if (!S_ISLNK(st.st_mode))
            break;
        key = add_bytes(key, &st.st_ctim, sizeof(st.st_ctim));
    }
    return key;
}

static uint64_t steps_of(const struct jail *jail)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        const char how[] = {(char)step->kind, (char)step->read_only, (char)step->optional};
        if (step->common) {
            key = add_bytes(key, how, sizeof(how));
            key = add_text(add_text(key, step->to), step->from);
        }
    }
    return key;
}

static uint64_t files_of(const struct jail *jail)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        if (step->common && (step->kind == STEP_BIND || step->kind == STEP_DEVICE))
            key = add_file(key, step->from);
    }
    return key;
}

static bool begins_with_part(const char *path, const char *part, size_t len)
{
    return strncmp(path, part, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* A place of the jail's own could not be made in a directory that is read-only by then. */
static bool has_room(const struct jail *jail)
{
    for (size_t i = 2; i < jail->policy.binds.count; i += 3) {
        const char *inside = jail->policy.binds.items[i] + 1;
        if (begins_with_part(inside, "etc", 3) || begins_with_part(inside, "dev", 3))
            return false;
    }
    return true;
}

/* --- making it ------------------------------------------------------------------------------ */

static void drop(struct common *common)
{
    fd_close(&common->tree);
    *common = (struct common){.tree = -1};
}

static int add_entry(struct common *common, const char *path)
{
    struct stat st;
    struct entry entry = {.link = ""};
    const size_t len = strcspn(path, "/");
    if (len >= sizeof(entry.name))
        return -1;
    memcpy(entry.name, path, len);
    for (size_t i = 0; i < common->count; i++)
        if (strcmp(common->entries[i].name, entry.name) == 0)
            return 0;
    if (fstatat(common->tree, entry.name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -1; /* the host has none */
    entry.directory = S_ISDIR(st.st_mode);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(common->tree, entry.name, entry.link, sizeof(entry.link) - 1);
        if (n <= 0 || n == (ssize_t)sizeof(entry.link) - 1)
            return -1;
    }
    if (common->count == ENTRIES_MAX)
        return -1;
    common->entries[common->count++] = entry;
    return 0;
}

/* Where the jail mounts something of its own on what is common. */
static int add_places(const struct common *common, const struct jail *jail)
{
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        if (step->common || (step->kind != STEP_TMPFS && step->kind != STEP_PTS) ||
            !begins_with_part(step->to, "dev", 3))
            continue;
        AUTO(fd) int place = root_place(common->tree, step->to);
        if (place < 0)
            return -1;
    }
    return 0;
}

static int make(struct common *common, const struct jail *jail)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    mode_t mask = umask(0);
    AUTO(fd) int tree = mount_detached("tmpfs");
    int rc = -1;
    common->tree = tree < 0 ? -1 : fcntl(tree, F_DUPFD_CLOEXEC, FD_LOWEST);
    if (common->tree >= 0)
        rc = add_places(common, jail);
    for (size_t i = 0; rc == 0 && i < jail->step_count; i++)
        if (jail->steps[i].common)
            rc = root_step(common->tree, &jail->steps[i]);
    for (size_t i = 0; rc == 0 && i < jail->step_count; i++)
        if (jail->steps[i].common)
            rc = add_entry(common, jail->steps[i].to);
    umask(mask);
    return rc || mount_setattr(common->tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) ? -1 : 0;
}

/* Forgets all when something was mounted since the last time. */
static void look_at_mounts(void)
{
    struct pollfd wait = {.fd = mounts, .events = POLLPRI};
    if (mounts >= 0 && watcher == getpid() && poll(&wait, 1, 0) == 0)
        return;
    for (size_t i = 0; i < KEPT; i++)
        drop(&kept[i]);
    if (mounts >= 0 && watcher == getpid())
        return;
    fd_close(&mounts);
    AUTO(fd) int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    mounts = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_LOWEST);
    watcher = getpid();
}

/* Whether the files are the same still. */
static bool is_fresh(struct common *common, const struct jail *jail)
{
    const int64_t now_ms = clock_mono_ms();
    if (now_ms - common->looked_ms < LOOK_MS)
        return true;
    common->looked_ms = now_ms;
    return common->files == files_of(jail);
}

/* One that these steps have made; else one that can be made anew. */
static struct common *find(uint64_t steps)
{
    struct common *oldest = &kept[0];
    for (size_t i = 0; i < KEPT; i++) {
        if (kept[i].tree >= 0 && kept[i].steps == steps)
            return &kept[i];
        if (kept[i].used < oldest->used)
            oldest = &kept[i];
    }
    return oldest;
}

void common_prepare(struct jail *jail)
{
    jail->common = NULL;
    if (impossible || !has_room(jail))
        return;
    look_at_mounts();
    if (mounts < 0)
        return;
    const uint64_t steps = steps_of(jail);
    struct common *common = find(steps);
    if (common->tree < 0 || common->steps != steps || !is_fresh(common, jail)) {
        drop(common);
        const uint64_t files = files_of(jail); /* before: what changes meanwhile is seen later */
        if (make(common, jail)) {
            drop(common);
            impossible = true; /* an old kernel */
            return;
        }
        common->steps = steps;
        common->files = files;
        common->looked_ms = clock_mono_ms();
    }
    common->used = ++uses;
    jail->common = common;
}

/* --- in the child --------------------------------------------------------------------------- */

int common_attach(const struct jail *jail, int top)
{
    const struct common *common = jail->common;
    for (size_t i = 0; common && i < common->count; i++) {
        const struct entry *entry = &common->entries[i];
        if (entry->link[0]) {
            if (symlinkat(entry->link, top, entry->name))
                return -1;
            continue;
        }
        AUTO(fd)
        int tree = open_tree(common->tree, entry->name,
                             OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (tree < 0 && i == 0)
            return 1; /* not from another namespace */
        if (tree < 0 || root_attach(tree, top, entry->name, entry->directory))
            return -1;
    }
    return common ? 0 : 1;
}

void common_forget(const struct jail *jail)
{
    fd_close(&mounts);
    for (size_t i = 0; i < KEPT; i++)
        if (!jail || &kept[i] != jail->common)
            fd_close(&kept[i].tree);
}
