#include "runner/overflow/cloud_inputs.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/inputs/layers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define RENEW_MS 86400000 /* an older input is made new: the lifecycle removes it after a week */

struct moving {
    const struct cloud *cloud;
    struct inputs *inputs;
    const char *dir;
    const struct storage_stop *stop;
    struct err *err;
};

static void object_name(const char *hash, char name[FOLDER_NAME_SIZE])
{
    snprintf(name, FOLDER_NAME_SIZE, "inputs/%.64s", hash);
}

/* --- from home ----------------------------------------------------------------------------- */

static int put_one(const char *input, const char *hash, void *arg)
{
    struct moving *m = arg;
    const struct cloud *cloud = m->cloud;
    AUTO(storage_object) struct storage_object there = {0};
    char name[FOLDER_NAME_SIZE];
    int64_t size = 0;
    object_name(hash, name);
    AUTO(fd) int fd = input_open(m->inputs, hash, &size, m->err);
    if (fd < 0)
        return err_wrap(m->err, "inputs.%.100s", input);
    if (storage_stat(cloud->google, cloud->bucket, name, &there, m->err) == 0 && there.size == size)
        return 0;
    if (there.name == NULL && m->err->code != ERR_NOT_FOUND)
        return -1;
    const struct storage_at at = {cloud->bucket, name, "application/gzip",
                                  there.name ? there.generation : STORAGE_ABSENT};
    if (storage_put_file(cloud->google, &at, fd, 0, size, m->stop, NULL, m->err) == 0 ||
        m->err->code == ERR_MISMATCH) /* Another runner was faster, with the same bytes. */
        return 0;
    return err_wrap(m->err, "inputs.%.100s", input);
}

int cloud_inputs_put(const struct cloud *cloud, struct inputs *inputs, const char *request,
                     const struct storage_stop *stop, struct err *err)
{
    struct moving m = {.cloud = cloud, .inputs = inputs, .stop = stop, .err = err};
    return request ? input_each(request, put_one, &m, err) : 0;
}

/* --- at the service ------------------------------------------------------------------------ */

struct holding {
    const struct cloud *cloud;
    void (*lacks)(const char *input, void *arg);
    void *arg;
    struct err *err;
};

/* An object that is put together with itself is a new one. */
static int renew(const struct cloud *cloud, const struct storage_object *object, struct err *err)
{
    const char *names[] = {object->name};
    const struct storage_at at = {cloud->bucket, object->name, "application/gzip",
                                  object->generation};
    if (clock_real_ms() - object->updated_ms < RENEW_MS ||
        storage_compose(cloud->google, &at, names, 1, NULL, err) == 0)
        return 0;
    return err->code == ERR_MISMATCH ? 0 : -1; /* Somebody else has renewed it. */
}

static int hold_one(const char *input, const char *hash, void *arg)
{
    struct holding *holding = arg;
    const struct cloud *cloud = holding->cloud;
    AUTO(storage_object) struct storage_object object = {0};
    char name[FOLDER_NAME_SIZE];
    object_name(hash, name);
    int rc = storage_stat(cloud->google, cloud->bucket, name, &object, holding->err);
    if (rc == 0)
        rc = renew(cloud, &object, holding->err);
    if (rc == 0 || holding->err->code != ERR_NOT_FOUND)
        return rc;
    holding->lacks(input, holding->arg);
    return 0;
}

int cloud_inputs_hold(const struct cloud *cloud, const char *request,
                      void (*lacks)(const char *input, void *arg), void *arg, struct err *err)
{
    struct holding holding = {cloud, lacks, arg, err};
    return request ? input_each(request, hold_one, &holding, err) : 0;
}

int cloud_input_find(const struct cloud *cloud, const char *hash, int64_t *ret_size,
                     struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(storage_object) struct storage_object object = {0};
    object_name(hash, name);
    if (storage_stat(cloud->google, cloud->bucket, name, &object, err))
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, "there is no input '%s'", hash)
                   : -1;
    *ret_size = object.size;
    return 0;
}

struct arrival {
    struct storage_upload *upload;
    struct crypto_hash *hash;
    int64_t bytes_max;
};

/* Passes everything on while it is hashed. */
static int take_in(const struct arrival *arrival,
                   ssize_t (*next)(char *to, size_t max, void *arg, struct err *err), void *arg,
                   int64_t *ret_size, struct err *err)
{
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    ssize_t n;
    if (!piece)
        return err_sys(err, "an input");
    *ret_size = 0;
    while ((n = next(piece, PIECE_BYTES, arg, err)) > 0) {
        *ret_size += n;
        if (*ret_size > arrival->bytes_max)
            return err_set(err, ERR_TOO_LARGE, "an input may have %lld MB (INPUTS_MAX_MB)",
                           (long long)(arrival->bytes_max >> 20));
        crypto_hash_add(arrival->hash, piece, (size_t)n);
        if (storage_upload_add(arrival->upload, piece, (size_t)n, err))
            return -1;
    }
    return n < 0 ? -1 : 0;
}

int cloud_input_receive(const struct cloud *cloud, const char *hash, int64_t bytes_max,
                        ssize_t (*next)(char *to, size_t max, void *arg, struct err *err),
                        void *arg, bool *ret_made, int64_t *ret_size, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf hex = BUF_INIT(2 * CRYPTO_SHA256_SIZE + 1);
    *ret_made = false;
    if (cloud_input_find(cloud, hash, ret_size, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    object_name(hash, name);
    AUTO(crypto_hash) struct crypto_hash *sum = crypto_hash_new();
    AUTO(storage_upload)
    struct storage_upload *upload = storage_upload_new(cloud->google, cloud->bucket, name,
                                                       "application/gzip", STORAGE_ABSENT, err);
    const struct arrival arrival = {upload, sum, bytes_max};
    if (!sum)
        return err_sys(err, "an input");
    if (!upload || take_in(&arrival, next, arg, ret_size, err))
        return -1;
    crypto_hash_end(sum, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    if (strcmp(buf_str(&hex), hash) != 0)
        return err_set(err, ERR_MISMATCH, "the SHA-256 of what came is %s", buf_str(&hex));
    *ret_made = storage_upload_end(upload, NULL, err) == 0;
    return *ret_made || err->code == ERR_MISMATCH ? 0 : -1; /* Another upload was faster. */
}

/* --- in the job ---------------------------------------------------------------------------- */

struct download {
    int fd;
    const struct storage_stop *stop;
};

static int write_piece(const char *data, size_t len, void *arg)
{
    return fd_write_all(((struct download *)arg)->fd, data, len);
}

static bool is_stopped(void *arg)
{
    const struct storage_stop *stop = ((struct download *)arg)->stop;
    return stop && stop->stop && stop->stop(stop->arg);
}

struct source {
    int fd;
    int64_t at;
};

static ssize_t read_piece(char *to, size_t max, void *arg, struct err *err)
{
    struct source *source = arg;
    ssize_t n = pread(source->fd, to, max, source->at);
    if (n < 0)
        return err_sys(err, "an input");
    source->at += n;
    return n;
}

static int get_one(const char *input, const char *hash, void *arg)
{
    struct moving *m = arg;
    bool made;
    int64_t size;
    char name[FOLDER_NAME_SIZE];
    AUTO(fd) int fd = file_nameless(m->dir, 0);
    AUTO(fd) int had = input_open(m->inputs, hash, &size, m->err);
    if (had >= 0) /* It was fetched under another name for the same task. */
        return 0;
    if (fd < 0)
        return err_sys(m->err, "cannot write below %.100s", m->dir);
    object_name(hash, name);
    struct download download = {fd, m->stop};
    struct source source = {.fd = fd};
    const struct storage_sink sink = {write_piece, is_stopped, &download};
    if (storage_read(m->cloud->google, m->cloud->bucket, name, 0, -1, &sink, m->err) ||
        input_put(m->inputs, hash, read_piece, &source, &made, &size, m->err))
        return err_wrap(m->err, "inputs.%.100s", input);
    return 0;
}

int cloud_inputs_get(const struct cloud *cloud, struct inputs *inputs, const char *request,
                     const char *dir, const struct storage_stop *stop, struct err *err)
{
    struct moving m = {.cloud = cloud, .inputs = inputs, .dir = dir, .stop = stop, .err = err};
    return request ? input_each(request, get_one, &m, err) : 0;
}
