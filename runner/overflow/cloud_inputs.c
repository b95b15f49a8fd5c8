#include "runner/overflow/cloud_inputs.h"

#include "base/fd.h"
#include "base/path.h"
#include "runner/inputs/layers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    AUTO(fd) int fd = open(m->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
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
