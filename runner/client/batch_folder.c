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
#include <sys/uio.h>
#include <unistd.h>

#define RESPONSE_MAX (64u << 20)
#define TEXT_KEPT                                                             \
    (256u << 10) /* of stdout and stderr in a line of results; the files have \
                  * everything */

int batch_folder_begin(struct batch_folder *f, const char *dir, const char *task, size_t run,
                       struct err *err)
{
    REQUIRE(dir && task);
    *f = (struct batch_folder){.transcript = -1, .out = -1, .errors = -1};
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

/* Opens the file of that name unless it is open. */
static int open_for(struct batch_folder *f, int *fd, const char *name, struct err *err)
{
    if (*fd < 0) {
        AUTO(str) char *path = path_join(f->part, name);
        *fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    }
    return *fd < 0 ? err_sys(err, "cannot write %.150s/%s", f->part, name) : 0;
}

static int append(struct batch_folder *f, int *fd, const char *name, const char *text, size_t len,
                  struct err *err)
{
    if (open_for(f, fd, name, err))
        return -1;
    return fd_write_all(*fd, text, len) ? err_sys(err, "cannot write %.150s/%s", f->part, name) : 0;
}

int batch_folder_line(struct batch_folder *f, const char *json, size_t len, struct err *err)
{
    static const char name[] = "transcript.jsonl";
    struct iovec parts[] = {{(void *)(uintptr_t)json, len}, {(char[]){"\n"}, 1}};
    if (open_for(f, &f->transcript, name, err))
        return -1;
    f->transcript_bytes += (int64_t)len + 1;
    ssize_t n = writev(f->transcript, parts, 2);
    if (n == (ssize_t)len + 1)
        return 0;
    if (n < 0 && errno != EINTR)
        return err_sys(err, "cannot write %.150s/%s", f->part, name);
    size_t done = n > 0 ? (size_t)n : 0; /* Write the rest after a short write, piece by piece. */
    if (done < len && append(f, &f->transcript, name, json + done, len - done, err))
        return -1;
    return append(f, &f->transcript, name, "\n", 1, err);
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
    *(is_stderr ? &f->error_bytes : &f->out_bytes) += (int64_t)len;
    keep_beginning(is_stderr ? &f->stderr_text : &f->response, text, len);
    return is_stderr ? append(f, &f->errors, "stderr.txt", text, len, err)
                     : append(f, &f->out, "stdout.txt", text, len, err);
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

static void close_all(struct batch_folder *f)
{
    fd_close(&f->transcript);
    fd_close(&f->out);
    fd_close(&f->errors);
}

int batch_folder_keep(struct batch_folder *f, struct err *err)
{
    bool text = f->out_bytes == 0 && f->response.len > 0; /* A command's text is in stdout.txt. */
    close_all(f);
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
    close_all(f);
    if (f->part && !f->kept)
        path_remove_tree(f->part, &ignored);
    free(f->part);
    free(f->final);
    buf_done(&f->response);
    buf_done(&f->stderr_text);
    *f = (struct batch_folder){.transcript = -1, .out = -1, .errors = -1};
}
