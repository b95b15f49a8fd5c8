/* session cp: files and whole directories, both ways. */
#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "pack/bundle.h"
#include "pack/unpack.h"
#include "runner/client/commands.h"
#include "runner/client/download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL_BYTES 65536

/* One side that is a session's: "ID:PATH". */
struct remote {
    char *id;
    char *path; /* without a '/' at its end, but for "/" */
    bool below; /* it had one, or is empty: what is copied goes into it */
};

static void remote_done(struct remote *remote)
{
    free(remote->id);
    free(remote->path);
}

/* A name with a '/' before the colon is one of ours. */
static bool is_remote(const char *text)
{
    const char *colon = strchr(text, ':');
    return colon && colon != text && !memchr(text, '/', (size_t)(colon - text));
}

static char *without_slashes(const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    return strndup(path, len);
}

static int remote_read(const char *text, struct remote *ret, struct err *err)
{
    const char *colon = strchr(text, ':');
    size_t len = strlen(colon + 1);
    ret->id = strndup(text, (size_t)(colon - text));
    ret->path = without_slashes(colon + 1);
    ret->below = len == 0 || colon[len] == '/';
    return ret->id && ret->path ? 0 : err_sys(err, "a path");
}

/* The last part of a path that names something; NULL for "", "/", "." and "..". */
static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 ? name : NULL;
}

/* A route of the session's with a path in it; `before` ends where the path goes. */
static char *url_of(const struct remote *at, const char *before, const char *path, struct err *err)
{
    AUTO(buf) struct buf url = BUF_INIT(URL_BYTES);
    buf_adds(&url, "/sessions/");
    str_add_url(&url, at->id, "");
    buf_adds(&url, before);
    str_add_url(&url, path, "/");
    return buf_check(&url, "a path", err) ? NULL : buf_steal(&url);
}

/* --- up ------------------------------------------------------------------------------------ */

static int send_directory(const struct settings *to, const char *from, const char *url,
                          struct err *err)
{
    struct bundle bundle;
    AUTO(fd) int fd = temporary_open(err);
    if (fd < 0 || bundle_write(from, &(struct bundle_options){.level = 0}, fd, &bundle, err))
        return -1;
    if (bundle.skipped > 0)
        fprintf(stderr, "%s: %lld sockets, FIFOs or devices stay behind\n", from,
                (long long)bundle.skipped);
    return upload_from(to, url, fd, err);
}

static int copy_up(const struct settings *settings, const char *given, const struct remote *to,
                   struct err *err)
{
    struct stat st;
    AUTO(str) char *from = without_slashes(given), *below = NULL;
    const char *name = from ? last_part(from) : NULL;
    if (!from)
        return err_sys(err, "a path");
    if (stat(from, &st))
        return err_set(err, ERR_NOT_FOUND, "cannot open %.150s: %s", from, strerror(errno));
    if (to->below && name &&
        asprintf(&below, "%s%s%s", to->path, strcmp(to->path, "/") == 0 || !*to->path ? "" : "/",
                 name) < 0)
        return err_sys(err, "a path");
    const char *place = below ? below : to->path;
    bool directory = S_ISDIR(st.st_mode);
    AUTO(str) char *url = url_of(to, directory ? "/archive?path=" : "/files/", place, err);
    if (!url)
        return -1;
    return directory ? send_directory(settings, from, url, err)
                     : upload_file(settings, url, from, err);
}

/* --- down ---------------------------------------------------------------------------------- */

static ssize_t next_piece(void *data, size_t max, void *arg, struct err *err)
{
    ssize_t n = read(*(int *)arg, data, max);
    return n < 0 ? err_sys(err, "cannot read an archive") : n;
}

static int unpack_into(const char *dir, int archive, struct err *err)
{
    const struct unpack_limits limits = {.bytes = INT64_MAX, .entries = INT64_MAX};
    struct unpack_result result;
    AUTO(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || lseek(archive, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot write %.150s", dir);
    return unpack_below(fd, next_piece, &archive, &limits, &result, err);
}

/* A new directory is made beside its place, so that it is whole or not there; into one that is
 * there already what comes is laid. */
static int place_directory(const char *to, int archive, struct err *err)
{
    struct stat st;
    struct err ignored;
    AUTO(str) char *beside = NULL;
    if (stat(to, &st) == 0)
        return unpack_into(to, archive, err);
    if (asprintf(&beside, "%s.part-%d", to, (int)getpid()) < 0) {
        beside = NULL;
        return err_sys(err, "a path");
    }
    if (path_make_dirs(beside, 0777, err))
        return -1;
    if (unpack_into(beside, archive, err) == 0 && rename(beside, to) == 0)
        return 0;
    if (err->code == ERR_NONE)
        err_sys(err, "cannot write %.150s", to);
    path_remove_tree(beside, &ignored);
    return -1;
}

static int copy_directory_down(const struct settings *settings, const struct remote *from,
                               const char *to, struct err *err)
{
    AUTO(str) char *url = url_of(from, "/archive?path=", from->path, err);
    AUTO(fd) int fd = url ? temporary_open(err) : -1;
    if (fd < 0 || download_into(settings, url, fd, err))
        return -1;
    *err = (struct err)ERR_INIT;
    return place_directory(to, fd, err);
}

static int copy_down(const struct settings *settings, const struct remote *from, const char *to,
                     struct err *err)
{
    struct stat st;
    const char *name = last_part(from->path);
    bool screen = strcmp(to, "-") == 0;
    AUTO(str) char *here = without_slashes(to);
    AUTO(str) char *below = NULL;
    AUTO(str) char *url = url_of(from, "/files/", from->path, err);
    if (!here || !url)
        return here ? -1 : err_sys(err, "a path");
    if (!screen && name && stat(here, &st) == 0 && S_ISDIR(st.st_mode))
        below = path_join(here, name);
    const char *place = below ? below : here;
    bool whole_box = !name; /* "", "." and the like are directories */
    if (!whole_box && download_file(settings, url, place, NULL, err) == 0)
        return 0;
    if (!whole_box && err->code != ERR_CONFLICT) /* that says: no file */
        return -1;
    if (screen)
        return err_set(err, ERR_INVALID, "'%.100s' is a directory: it needs a place", from->path);
    return copy_directory_down(settings, from, place, err);
}

int client_session_cp(struct call *call, struct err *err)
{
    const char *from = call->args.items[0], *to = call->args.items[1];
    struct remote remote = {NULL, NULL, false};
    bool down = is_remote(from);
    if (down == is_remote(to))
        return err_set(err, ERR_INVALID,
                       "one of the two must be ID:PATH, the other a file or directory here");
    int rc = settings_find(&call->to, &call->given, err)
                 ? -1
                 : remote_read(down ? from : to, &remote, err);
    if (rc == 0)
        rc = down ? copy_down(&call->to, &remote, to, err) : copy_up(&call->to, from, &remote, err);
    remote_done(&remote);
    return rc;
}
