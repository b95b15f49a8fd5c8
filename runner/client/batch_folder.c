/* A run's folder: made under a temporary name, then renamed. */
#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/client/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESPONSE_MAX (64u << 20)
#define HELD_MAX (16u << 10)   /* of a file: a batch has many */
#define TEXT_KEPT (256u << 10) /* of stdout and stderr in a line of results; the files have all */

static void file_init(struct batch_file *file, const char *name)
{
    *file = (struct batch_file){.name = name, .fd = -1};
    buf_init(&file->held, HELD_MAX);
}

static void file_close(struct batch_file *file)
{
    fd_close(&file->fd);
    buf_done(&file->held);
}

int batch_folder_begin(struct batch_folder *f, const char *dir, const char *task, size_t run,
                       struct err *err)
{
    *f = (struct batch_folder){.kept = false};
    file_init(&f->transcript, "transcript.jsonl");
    file_init(&f->out, "stdout.txt");
    file_init(&f->errors, "stderr.txt");
    buf_init(&f->response, RESPONSE_MAX);
    buf_init(&f->stderr_text, TEXT_KEPT);
    if (asprintf(&f->final, "%s/%s/%zu", dir, task, run) < 0)
        f->final = NULL;
    if (asprintf(&f->part, "%s/%s/.%zu.part", dir, task, run) < 0)
        f->part = NULL;
    if (!f->final || !f->part)
        return err_sys(err, "a folder");
    char *slash = strrchr(f->part, '/');
    *slash = '\0';
    int rc = mkdir(f->part, 0777) && errno != EEXIST; /* The task's folder, which its runs share. */
    *slash = '/';
    if (rc == 0 && mkdir(f->part, 0777) == 0)
        return 0;
    if (errno != EEXIST || path_remove_tree(f->part, err)) /* Left by a client that was killed. */
        return err_sys(err, "cannot make %.150s", f->part);
    return mkdir(f->part, 0777) ? err_sys(err, "cannot make %.150s", f->part) : 0;
}

/* Writes what is held, then more. */
static int file_write(struct batch_folder *f, struct batch_file *file, const char *text, size_t len,
                      struct err *err)
{
    if (file->fd < 0) {
        AUTO(str) char *path = path_join(f->part, file->name);
        file->fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    }
    if (file->fd < 0 || fd_write_all(file->fd, buf_str(&file->held), file->held.len) ||
        fd_write_all(file->fd, text, len))
        return err_sys(err, "cannot write %.150s/%s", f->part, file->name);
    buf_clear(&file->held);
    return 0;
}

static int append(struct batch_folder *f, struct batch_file *file, const char *text, size_t len,
                  struct err *err)
{
    file->bytes += (int64_t)len;
    if (file->held.len + len <= HELD_MAX && buf_add(&file->held, text, len) == 0)
        return 0;
    return file_write(f, file, text, len, err);
}

int batch_folder_line(struct batch_folder *f, const char *json, size_t len, struct err *err)
{
    return append(f, &f->transcript, json, len, err) || append(f, &f->transcript, "\n", 1, err) ? -1
                                                                                                : 0;
}

/* Keeps the beginning of a text, for the line of results. */
static void keep_beginning(struct buf *to, const char *text, size_t len)
{
    size_t room = TEXT_KEPT - to->len;
    if (to->len < TEXT_KEPT)
        buf_add(to, text, len < room ? len : room);
}

int batch_folder_text(struct batch_folder *f, bool is_stderr, const char *text, size_t len,
                      struct err *err)
{
    keep_beginning(is_stderr ? &f->stderr_text : &f->response, text, len);
    return append(f, is_stderr ? &f->errors : &f->out, text, len, err);
}

int batch_folder_again(struct batch_folder *f, struct err *err)
{
    struct batch_file *const files[] = {&f->transcript, &f->out, &f->errors};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        buf_clear(&files[i]->held);
        files[i]->bytes = 0;
        if (files[i]->fd >= 0 &&
            (ftruncate(files[i]->fd, 0) || lseek(files[i]->fd, 0, SEEK_SET) < 0))
            return err_sys(err, "cannot write %.150s/%s", f->part, files[i]->name);
    }
    buf_clear(&f->response);
    buf_clear(&f->stderr_text);
    return 0;
}

char *batch_folder_output(struct batch_folder *f, const char *name, struct err *err)
{
    AUTO(str) char *path = NULL;
    if (!path_is_inside(name)) {
        err_set(err, ERR_UPSTREAM, "the runner names an output '%.80s'", name);
        return NULL;
    }
    if (asprintf(&path, "%s/outputs/%s", f->part, name) < 0) {
        path = NULL;
        err_sys(err, "an output");
        return NULL;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int rc = path_make_dirs(path, 0777, err);
    *slash = '/';
    f->outputs |= rc == 0;
    return rc ? NULL : STEAL_PTR(path);
}

static int write_file(const struct batch_folder *f, const char *name, const void *data, size_t len,
                      struct err *err)
{
    AUTO(str) char *path = path_join(f->part, name);
    AUTO(fd) int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (fd < 0 || fd_write_all(fd, data, len))
        return err_sys(err, "cannot write %.150s/%s", f->part, name);
    return 0;
}

/* Renames the folder to its final name, and removes an earlier attempt's. */
static int put_in_place(struct batch_folder *f, struct err *err)
{
    AUTO(str) char *old = NULL;
    if (rename(f->part, f->final) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return err_sys(err, "cannot write %.150s", f->final);
    if (asprintf(&old, "%s.old", f->part) < 0)
        return err_sys(err, "a folder");
    if (path_remove_tree(old, err))
        return -1;
    if (rename(f->final, old) || rename(f->part, f->final))
        return err_sys(err, "cannot write %.150s", f->final);
    return path_remove_tree(old, err);
}

int batch_folder_keep(struct batch_folder *f, struct err *err)
{
    struct batch_file *const files[] = {&f->transcript, &f->out, &f->errors};
    bool text = f->out.bytes == 0 && f->response.len > 0; /* a command's is in stdout.txt */
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (files[i]->held.len > 0 && file_write(f, files[i], "", 0, err))
            return -1;
        file_close(files[i]);
    }
    if (text && write_file(f, "response.txt", buf_str(&f->response), f->response.len, err))
        return -1;
    if (put_in_place(f, err))
        return -1;
    f->kept = true;
    return 0;
}

void batch_folder_drop(struct batch_folder *f)
{
    struct err ignored;
    file_close(&f->transcript);
    file_close(&f->out);
    file_close(&f->errors);
    if (f->part && !f->kept)
        path_remove_tree(f->part, &ignored);
    free(f->part);
    free(f->final);
    buf_done(&f->response);
    buf_done(&f->stderr_text);
    *f = (struct batch_folder){.transcript.fd = -1, .out.fd = -1, .errors.fd = -1};
}
