#include "runner/client/download.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "net/net.h"
#include "runner/client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBLEM_MAX (1u << 20)
#define SILENCE_MS 60000

struct transfer {
    int fd;
    int status;
    int64_t moved;
    bool failed; /* an error on this side; `sys` has errno */
    int sys;
    struct buf problem;
};

static int on_head(int status, const struct buf *head, void *arg)
{
    struct transfer *t = arg;
    (void)head;
    t->status = status;
    return 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct transfer *t = arg;
    if (t->status != 200 || t->fd < 0)
        return buf_add(&t->problem, data, len);
    t->moved += (int64_t)len;
    t->failed = fd_write_all(t->fd, data, len) != 0;
    t->sys = errno;
    return t->failed ? -1 : 0;
}

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct transfer *t = arg;
    ssize_t n = read(t->fd, to, size);
    t->failed = n < 0;
    t->sys = errno;
    return n;
}

static int transfer(const struct settings *settings, const char *path, int64_t body,
                    struct transfer *t, struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(str) char *url = NULL;
    struct net_link *link = net_link_new();
    if (!link || client_headers(settings, "*/*", &headers, err) ||
        asprintf(&url, "%s%s", settings->url, path) < 0) {
        net_link_free(link);
        return err_set(err, ERR_INTERNAL, "cannot prepare a transfer");
    }
    if (body >= 0)
        strlist_add(&headers, "Content-Type: application/octet-stream");
    const struct net_relay relay = {.method = body >= 0 ? "PUT" : "GET",
                                    .url = url,
                                    .headers = &headers,
                                    .body_len = body >= 0 ? body : 0,
                                    .silence_ms = SILENCE_MS,
                                    .arg = t,
                                    .read = on_read,
                                    .head = on_head,
                                    .write = on_write};
    int rc = net_relay(link, &relay, err);
    net_link_free(link);
    if (t->failed) {
        errno = t->sys;
        return err_sys(err, "cannot %s", body >= 0 ? "read the file" : "write the file");
    }
    if (rc == 0 && (t->status < 200 || t->status > 299))
        return client_explain(settings, t->status, buf_str(&t->problem), t->problem.len, err);
    return rc;
}

/* Opens a new file next to `to`. */
static int open_beside(const char *to, char **ret_name, struct err *err)
{
    AUTO(str) char *parent = strdup(to);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash && slash != parent) {
        *slash = '\0';
        if (path_make_dirs(parent, 0777, err))
            return -1;
    }
    if (asprintf(ret_name, "%s.part-%d", to, (int)getpid()) < 0)
        *ret_name = NULL;
    int fd = *ret_name ? open(*ret_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    return fd < 0 ? err_sys(err, "cannot write %.150s", to) : fd;
}

int download_file(const struct settings *settings, const char *path, const char *to,
                  int64_t *ret_size, struct err *err)
{
    AUTO(str) char *beside = NULL;
    AUTO(fd) int fd = -1;
    struct transfer t = {.fd = STDOUT_FILENO};
    buf_init(&t.problem, PROBLEM_MAX);
    if (strcmp(to, "-") != 0 && (t.fd = fd = open_beside(to, &beside, err)) < 0)
        return -1;
    int rc = transfer(settings, path, -1, &t, err);
    buf_done(&t.problem);
    if (rc == 0 && beside && rename(beside, to))
        rc = err_sys(err, "cannot write %.150s", to);
    if (rc && beside)
        unlink(beside);
    if (rc == 0 && ret_size)
        *ret_size = t.moved;
    return rc;
}

int download_into(const struct settings *settings, const char *path, int fd, struct err *err)
{
    struct transfer t = {.fd = fd};
    buf_init(&t.problem, PROBLEM_MAX);
    int rc = transfer(settings, path, -1, &t, err);
    buf_done(&t.problem);
    return rc;
}

int upload_from(const struct settings *settings, const char *path, int fd, struct err *err)
{
    struct stat st;
    struct transfer t = {.fd = fd};
    if (fstat(fd, &st) || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read the file");
    buf_init(&t.problem, PROBLEM_MAX);
    int rc = transfer(settings, path, st.st_size, &t, err);
    buf_done(&t.problem);
    return rc;
}

int upload_file(const struct settings *settings, const char *path, const char *from,
                struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return err_set(err, ERR_NOT_FOUND, "cannot open %.150s: %s", from, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return err_set(err, ERR_CONFLICT, "%.150s is a directory", from);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "%.150s is no file", from);
    return upload_from(settings, path, fd, err);
}

int temporary_open(struct err *err)
{
    const char *dir = getenv("TMPDIR");
    dir = dir && *dir ? dir : "/var/tmp";
    int fd = file_nameless(dir, 0);
    return fd < 0 ? err_sys(err, "cannot write below %.100s", dir) : fd;
}
