#include "runner/overflow/travel.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/walk.h"
#include "google/storage.h"
#include "pack/tgz.h"
#include "pack/unpack.h"
#include "runner/task/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (64u << 10)
#define ENTRIES_MAX 20000
#define RATIO_MAX 1000

static char *place_of(const char *state_dir, const char *conversation, const char *after)
{
    char *place = NULL;
    return asprintf(&place, "%s/" CONVERSATIONS "/%s%s", state_dir, conversation, after) < 0
               ? NULL
               : place;
}

/* --- sending ------------------------------------------------------------------------------- */

struct sending {
    struct storage_upload *upload;
    struct tgz *tgz;
    struct err *err;
};

static int store_piece(const void *data, size_t len, void *arg)
{
    struct sending *sending = arg;
    return storage_upload_add(sending->upload, data, len, sending->err);
}

static int add_file(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    struct sending *sending = arg;
    char piece[PIECE_BYTES];
    int64_t at = 0;
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (tgz_file(sending->tgz, path, 0600, st->st_mtim.tv_sec, st->st_size, sending->err))
        return -1;
    while (at < st->st_size) {
        int64_t left = st->st_size - at;
        size_t want = left < (int64_t)sizeof(piece) ? (size_t)left : sizeof(piece);
        ssize_t n = fd_pread_full(fd, piece, want, at);
        if (n <= 0)
            return err_set(sending->err, ERR_INTERNAL, "'%s' became shorter", path);
        if (tgz_data(sending->tgz, piece, (size_t)n, sending->err))
            return -1;
        at += n;
    }
    return 0;
}

int travel_send(const struct cloud *cloud, const char *state_dir, const char *conversation,
                const char *object, struct err *err)
{
    AUTO(str) char *place = place_of(state_dir, conversation, "");
    if (!place)
        return err_sys(err, "session");
    int dir = open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot open '%s'", place);
    AUTO(storage_upload)
    struct storage_upload *upload = storage_upload_new(cloud->google, cloud->bucket, object,
                                                       "application/gzip", STORAGE_ANY, err);
    struct sending sending = {.upload = upload, .err = err};
    AUTO(tgz) struct tgz *tgz = upload ? tgz_new(store_piece, &sending, err) : NULL;
    sending.tgz = tgz;
    if (!tgz) {
        fd_close(&dir);
        return -1;
    }
    int rc = walk_files(dir, add_file, &sending);
    return rc || tgz_end(tgz, err) || storage_upload_end(upload, NULL, err) ? -1 : 1;
}

/* --- taking -------------------------------------------------------------------------------- */

struct taking {
    int fd;
    int64_t bytes;
};

static int keep_piece(const char *data, size_t len, void *arg)
{
    struct taking *taking = arg;
    taking->bytes += (int64_t)len;
    return taking->bytes > TRAVEL_BYTES_MAX || fd_write_all(taking->fd, data, len) ? -1 : 0;
}

static ssize_t read_piece(void *data, size_t max, void *arg, struct err *err)
{
    struct taking *taking = arg;
    ssize_t n = read(taking->fd, data, max);
    return n < 0 ? err_sys(err, "session") : n;
}

static int fetch(const struct cloud *cloud, const char *object, const char *file, const char *fresh,
                 struct err *err)
{
    static const struct unpack_limits limits = {
        .bytes = TRAVEL_BYTES_MAX, .entries = ENTRIES_MAX, .ratio = RATIO_MAX};
    struct unpack_result result;
    AUTO(fd)
    int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct taking taking = {.fd = fd};
    const struct storage_sink sink = {.write = keep_piece, .arg = &taking};
    if (fd < 0)
        return err_sys(err, "cannot make '%s'", file);
    if (storage_read(cloud->google, cloud->bucket, object, 0, -1, &sink, err))
        return taking.bytes > TRAVEL_BYTES_MAX
                   ? err_set(err, ERR_TOO_LARGE, "'%s' is larger than a session", object)
                   : -1;
    if (lseek(fd, 0, SEEK_SET) < 0 || path_remove_tree(fresh, err) ||
        path_make_dirs(fresh, 0700, err))
        return err->code == ERR_NONE ? err_sys(err, "session") : -1;
    AUTO(fd) int dir = open(fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dir < 0 ? err_sys(err, "cannot open '%s'", fresh)
                   : unpack_below(dir, read_piece, &taking, &limits, &result, err);
}

/* Exchanges the directories: a crash leaves the old conversation or the new one. */
static int put_in_place(const char *fresh, const char *place, struct err *err)
{
    if (rename(fresh, place) && path_exchange(fresh, place))
        return err_sys(err, "cannot keep '%s'", place);
    return file_sync_directory(place, err);
}

int travel_take(const struct cloud *cloud, const char *state_dir, const char *conversation,
                const char *object, struct err *err)
{
    struct err ignored;
    AUTO(str) char *place = place_of(state_dir, conversation, "");
    AUTO(str) char *fresh = place_of(state_dir, conversation, ".new");
    AUTO(str) char *file = place_of(state_dir, conversation, ".tgz");
    AUTO(str) char *all = path_join(state_dir, CONVERSATIONS);
    if (!place || !fresh || !file || !all)
        return err_sys(err, "session");
    *err = (struct err)ERR_INIT;
    int rc = path_make_dirs(all, 0700, err);
    if (rc == 0)
        rc = fetch(cloud, object, file, fresh, err) || put_in_place(fresh, place, err) ? -1 : 0;
    unlink(file);
    (void)path_remove_tree(fresh, &ignored);
    return rc;
}
