#include "base/beneath.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as in the kernel */
/* The kernel is not sure where ".." leads (EAGAIN) when anything on the machine is renamed or
 * mounted at that moment. */
#define TRIES_MAX 100

/* A path on the way. Directories are kept open down to here, so that ".." leads back to where the
 * way came from, wherever that was moved meanwhile. */
struct way {
    int fds[BENEATH_DEPTH_MAX + 1]; /* the first is borrowed */
    int depth;
    int links;
    enum beneath how;
    char rest[2 * PATH_MAX]; /* what is still to go */
};

static int fail(int error)
{
    errno = error;
    return -1;
}

static int here(const struct way *way)
{
    return way->fds[way->depth];
}

static int go_up(struct way *way)
{
    if (way->depth == 0)
        return way->how == BENEATH_ROOT ? 0 : fail(EXDEV);
    fd_close(&way->fds[way->depth--]);
    return 0;
}

static int go_down(struct way *way, int *dir)
{
    if (way->depth == BENEATH_DEPTH_MAX)
        return fail(ENAMETOOLONG);
    way->fds[++way->depth] = *dir;
    *dir = -1;
    return 0;
}

/* A path that begins with '/'. */
static int go_to_top(struct way *way)
{
    if (way->how != BENEATH_ROOT)
        return fail(EXDEV);
    while (way->depth > 0)
        go_up(way);
    return 0;
}

/* Puts what a link says before the rest. */
static int go_by_link(struct way *way, const char *name, const char *rest)
{
    char text[PATH_MAX], whole[sizeof(way->rest)];
    if (way->how == BENEATH_NO_LINKS || ++way->links > LINKS_MAX)
        return fail(ELOOP);
    ssize_t n = readlinkat(here(way), name, text, sizeof(text) - 1);
    if (n < 0)
        return -1;
    text[n] = '\0';
    int len = snprintf(whole, sizeof(whole), "%s%s", text, rest);
    if (len < 0 || len >= PATH_MAX)
        return fail(ENAMETOOLONG);
    memcpy(way->rest, whole, (size_t)len + 1);
    return text[0] == '/' ? go_to_top(way) : 0;
}

/* Takes a part of the way that is not the last. */
static int go_on(struct way *way, const char *name, const char *rest)
{
    struct stat st;
    if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        memmove(way->rest, rest, strlen(rest) + 1);
        return name[1] ? go_up(way) : 0;
    }
    AUTO(fd) int at = openat(here(way), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0 || fstat(at, &st))
        return -1;
    if (S_ISLNK(st.st_mode))
        return go_by_link(way, name, rest);
    if (!S_ISDIR(st.st_mode))
        return fail(ENOTDIR);
    memmove(way->rest, rest, strlen(rest) + 1);
    return go_down(way, &at);
}

/* True for a last part that is a link and is to be followed. */
static bool is_followed(const struct way *way, const char *name, int flags)
{
    struct stat st;
    const bool itself = flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL);
    return !itself && fstatat(here(way), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISLNK(st.st_mode);
}

/* Opens the last part; -2 when the way goes on by a link. */
static int arrive(struct way *way, const char *name, int flags, mode_t mode)
{
    if (is_followed(way, name, flags))
        return go_by_link(way, name, "") ? -1 : -2;
    return openat(here(way), name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
}

/* Takes one part of the rest; -2 when there is more to go. */
static int step(struct way *way, int flags, mode_t mode)
{
    char name[NAME_MAX + 1];
    const char *at = way->rest + strspn(way->rest, "/");
    size_t len = strcspn(at, "/");
    if (len == 0)
        return openat(here(way), ".", flags | O_CLOEXEC, mode);
    if (len > NAME_MAX)
        return fail(ENAMETOOLONG);
    memcpy(name, at, len);
    name[len] = '\0';
    if (at[len] == '/' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return go_on(way, name, at + len) ? -1 : -2;
    return arrive(way, name, flags, mode);
}

static int walk(int dir, const char *path, int flags, mode_t mode, enum beneath how)
{
    struct way way = {.fds = {dir}, .how = how};
    if (!path[0])
        return fail(ENOENT);
    if (snprintf(way.rest, sizeof(way.rest), "%s", path) >= PATH_MAX)
        return fail(ENAMETOOLONG);
    int fd = path[0] == '/' && go_to_top(&way) ? -1 : -2;
    while (fd == -2)
        fd = step(&way, flags, mode);
    while (way.depth > 0)
        fd_close(&way.fds[way.depth--]);
    return fd;
}

int beneath_open(int dir, const char *path, int flags, mode_t mode, enum beneath how)
{
    static const uint64_t resolves[] = {
        [BENEATH_NO_LINKS] = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        [BENEATH_STAY] = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
        [BENEATH_ROOT] = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    struct open_how ask = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = resolves[how]};
    REQUIRE(path);
    int fd = -1, tries = 0;
    do
        fd = (int)syscall(SYS_openat2, dir, path, &ask, sizeof(ask));
    while (fd < 0 && errno == EAGAIN && ++tries < TRIES_MAX);
    return fd < 0 && (errno == ENOSYS || errno == EAGAIN) ? walk(dir, path, flags, mode, how) : fd;
}
