#include "runner/oauth/spare.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROWTH_MAX 131072 /* how much longer the new pair may be than the old one */

static int path_of(struct spare *spare, const char *path, struct err *err)
{
    int n = snprintf(spare->path, sizeof(spare->path), "%s.refreshed", path);
    if (n < 0 || (size_t)n >= sizeof(spare->path))
        return err_set(err, ERR_INVALID, "path too long: '%.80s'", path);
    return 0;
}

/* Refuses a file that no rename can replace: a mount point (a container's bind mount), or an
 * immutable file. */
static int check_replaceable(const char *path, struct err *err)
{
    struct statx st;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st))
        return err_sys(err, "cannot look at '%s'", path);
    if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
        return err_set(err, ERR_CONFIG,
                       "'%s' is mounted by itself and cannot be replaced; mount its directory",
                       path);
    if (st.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND))
        return err_set(err, ERR_CONFIG, "'%s' is immutable; not refreshing", path);
    return 0;
}

int spare_make(struct spare *spare, const char *path, struct err *err)
{
    struct stat st;
    if (path_of(spare, path, err) || check_replaceable(path, err))
        return -1;
    unlink(spare->path);
    spare->fd = open(spare->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spare->fd < 0 || stat(path, &st))
        return err_sys(err, "cannot make '%s'", spare->path);
    if (fchown(spare->fd, st.st_uid, st.st_gid) && geteuid() == 0)
        return err_sys(err, "cannot give '%s' to its owner", spare->path);
    errno = posix_fallocate(spare->fd, 0, st.st_size + GROWTH_MAX);
    return errno ? err_sys(err, "no room for new credentials; not refreshing") : 0;
}

void spare_drop(struct spare *spare)
{
    if (spare->fd >= 0)
        unlink(spare->path);
    fd_close(&spare->fd);
}

static bool is_same(const char *a, const char *b)
{
    return !b || (a && strcmp(a, b) == 0);
}

/* True when the spare, read back from the disk, has the intended content. */
static bool reads_back(const struct spare *spare, size_t len, const struct login_tokens *tokens)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    char *to = buf_room(&text, len);
    if (!to || fd_pread_full(spare->fd, to, len, 0) != (ssize_t)len)
        return false;
    buf_grew(&text, len);
    login_parse(text.data, text.len, &login);
    return login.access_token && is_same(login.access_token, tokens->access_token) &&
           is_same(login.refresh_token, tokens->refresh_token);
}

static int put_in_place(const char *spare, const char *path, struct err *err)
{
    if (rename(spare, path))
        return err_sys(err, "cannot replace '%s'", path);
    return file_sync_directory(path, err);
}

/* Writes the spare. From the moment that it holds the new pair it is kept, whatever fails:
 * spare_recover() tries again. */
int spare_use(struct spare *spare, const char *path, const struct buf *text,
              const struct login_tokens *tokens, struct err *err)
{
    REQUIRE(spare->fd >= 0);
    if (fd_pwrite_all(spare->fd, text->data, text->len, 0) ||
        ftruncate(spare->fd, (off_t)text->len))
        return err_sys(err, "cannot write '%s'", spare->path);
    if (!reads_back(spare, text->len, tokens))
        return err_set(err, ERR_INTERNAL, "the new credentials do not read back");
    int rc = fsync(spare->fd) ? err_sys(err, "cannot write '%s'", spare->path) : 0;
    fd_close(&spare->fd);
    return rc ? rc : put_in_place(spare->path, path, err);
}

static bool is_older(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* True when the file was replaced by a login that is newer than the spare, which is then
 * worthless. */
static bool is_newer(const char *spare, const char *path)
{
    struct stat left, there;
    return lstat(spare, &left) == 0 && stat(path, &there) == 0 && S_ISREG(left.st_mode) &&
           left.st_uid == there.st_uid && !is_older(&left.st_mtim, &there.st_mtim);
}

/* True when the spare holds a complete login. Cuts off the zeros that a killed process has left
 * after the text. */
static bool holds_login(const char *path)
{
    struct err ignored;
    AUTO(buf_wipe) struct buf text = BUF_INIT(LOGIN_FILE_MAX + GROWTH_MAX);
    AUTO(login) struct login login = {0};
    if (file_read(path, &text, &ignored))
        return false;
    size_t len = text.len;
    while (len > 0 && text.data[len - 1] == '\0')
        len--;
    login_parse(buf_str(&text), len, &login);
    bool whole = login.access_token && login.refresh_token;
    return whole && (len == text.len || truncate(path, (off_t)len) == 0);
}

int spare_recover(const char *path, struct err *err)
{
    struct spare spare = SPARE_INIT;
    if (path_of(&spare, path, err))
        return -1;
    if (!is_newer(spare.path, path) || !holds_login(spare.path))
        return 0;
    AUTO(fd) int fd = open(spare.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fsync(fd))
        return err_sys(err, "cannot save '%s'", spare.path);
    return put_in_place(spare.path, path, err) ? -1 : 1;
}
