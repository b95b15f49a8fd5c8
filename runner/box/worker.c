/* Work on files, each in a child process, so that a slow disk delays nothing else: see
 * box_private.h. */
#include "runner/box/box_private.h"

#include "base/beneath.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORK_SECONDS 120
#define ARCHIVE_SECONDS 3600
#define PATH_BYTES_MAX 4095
#define ASK_BYTES_MAX (96u << 20)

static const struct {
    const char *name;
    int (*run)(const struct work *work, struct err *err);
    unsigned seconds;
} works[] = {
    {"open", box_file_open, WORK_SECONDS},           {"create", box_file_create, WORK_SECONDS},
    {"commit", box_file_commit, WORK_SECONDS},       {"discard", box_file_discard, WORK_SECONDS},
    {"remove", box_file_remove, WORK_SECONDS},       {"list", box_file_list, WORK_SECONDS},
    {"search", box_text_search, WORK_SECONDS},       {"find", box_text_find, WORK_SECONDS},
    {"replace", box_text_replace, WORK_SECONDS},     {"pack", box_archive_pack, ARCHIVE_SECONDS},
    {"unpack", box_archive_unpack, ARCHIVE_SECONDS}, {"env", box_shell_env, WORK_SECONDS},
};

/* --- paths --------------------------------------------------------------------------------- */

/* Appends one part to the path: ".." removes the last one. */
static void add_part(struct buf *out, const char *part, size_t len)
{
    if (len == 0 || (len == 1 && part[0] == '.'))
        return;
    if (len == 2 && part[0] == '.' && part[1] == '.') {
        while (out->len > 0 && out->data[--out->len] != '/')
            continue;
        if (out->data)
            out->data[out->len] = '\0';
        return;
    }
    buf_addc(out, '/');
    buf_add(out, part, len);
}

char *box_clean_path(const char *path, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(PATH_BYTES_MAX);
    if (!path) {
        err_set(err, ERR_INVALID, "a path is missing");
        return NULL;
    }
    if (path[0] != '/')
        buf_adds(&out, "/workspace");
    while (*path) {
        size_t n = strcspn(path, "/");
        add_part(&out, path, n);
        path += n + (path[n] == '/');
    }
    if (out.len == 0)
        buf_addc(&out, '/');
    if (buf_ok(&out))
        return buf_steal(&out);
    err_set(err, ERR_URI_TOO_LONG, "the path is too long");
    return NULL;
}

int box_path_error(const char *path, struct err *err)
{
    switch (errno) {
    case ENOENT:
        return err_set(err, ERR_NOT_FOUND, "there is no '%.180s'", path);
    case ENOTDIR:
        return err_set(err, ERR_NOT_FOUND, "'%.160s': a part of the path is no directory", path);
    case ELOOP:
    case EXDEV:
        return err_set(err, ERR_FORBIDDEN, "'%.160s': a link that leads nowhere, or out", path);
    case EACCES:
    case EPERM:
    case EROFS:
        return err_set(err, ERR_FORBIDDEN, "'%.160s' may not be used so: %s", path,
                       strerror(errno));
    case ENAMETOOLONG:
        return err_set(err, ERR_URI_TOO_LONG, "'%.60s…': a name is too long", path);
    case EISDIR:
        return err_set(err, ERR_CONFLICT, "'%.180s' is a directory", path);
    case ENXIO:
        return err_set(err, ERR_CONFLICT, "'%.180s' is no regular file", path);
    default:
        return err_sys(err, "'%.120s'", path);
    }
}

int box_open_inside(const struct work *work, const char *path, int flags, mode_t mode,
                    struct err *err)
{
    if (!(flags & O_PATH)) /* It cannot be combined with other flags. */
        flags |= O_NONBLOCK | O_NOCTTY;
    int fd = beneath_open(work->root, path, flags, mode, BENEATH_ROOT);
    return fd < 0 ? box_path_error(path, err) : fd;
}

/* Makes the missing directories of a path. */
static int make_parents(const struct work *work, char *path, struct err *err)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        struct err missing;
        AUTO(fd) int dir = box_open_inside(work, path, O_PATH | O_DIRECTORY, 0, &missing);
        if (dir < 0 && missing.code == ERR_NOT_FOUND) {
            char *last = strrchr(path, '/');
            AUTO(str)
            char *above = last == path ? strdup("/") : str_copy(path, (size_t)(last - path));
            AUTO(fd)
            int parent = above ? box_open_inside(work, above, O_PATH | O_DIRECTORY, 0, err) : -1;
            if (parent < 0)
                return -1;
            if (mkdirat(parent, last + 1, 0755) && errno != EEXIST)
                return box_path_error(path, err);
        } else if (dir < 0) {
            *err = missing;
            return -1;
        }
        *slash = '/';
    }
    return 0;
}

int box_open_parent(const struct work *work, const char *path, bool make, const char **ret_name,
                    struct err *err)
{
    const char *last = strrchr(path, '/');
    AUTO(str) char *whole = strdup(path);
    AUTO(str) char *above = last == path ? strdup("/") : str_copy(path, (size_t)(last - path));
    if (!whole || !above)
        return err_sys(err, "path");
    if (!last[1])
        return err_set(err, ERR_INVALID, "'%.100s' is no file's path", path);
    if (make && make_parents(work, whole, err))
        return -1;
    *ret_name = last + 1;
    return box_open_inside(work, above, O_PATH | O_DIRECTORY, 0, err);
}

/* --- answering ----------------------------------------------------------------------------- */

void box_work_answer(const struct work *work, const struct buf *members, int fd)
{
    AUTO(buf) struct buf text = BUF_INIT(BOX_TEXT_MAX);
    buf_addf(&text, "{\"id\":%lld,\"ok\":true", (long long)work->id);
    if (members)
        buf_add(&text, members->data, members->len);
    buf_addc(&text, '}');
    box_say(work->box, &text, &fd, fd >= 0);
}

void box_work_body(const struct work *work, const struct buf *body)
{
    struct err err;
    AUTO(fd) int file = box_file(work->box);
    if (!buf_ok(body))
        err_set(&err, ERR_TOO_LARGE, "the answer is larger than %zu bytes", body->max);
    else if (file < 0 || fd_write_all(file, body->data, body->len))
        err_sys(&err, "the answer");
    else {
        box_work_answer(work, NULL, file);
        return;
    }
    box_say_error(work->box, work->id, &err);
}

/* --- the child ----------------------------------------------------------------------------- */

struct json *box_read_json(int fd, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(ASK_BYTES_MAX);
    return fd_read_all(fd, &text, err) ? NULL : json_parse(buf_str(&text), text.len, err);
}

/* `fd`: the request, or -1 when it is in the message, `ask`. */
static _Noreturn void do_work(struct box *box, int64_t id, const struct json *ask, int fd,
                              size_t which)
{
    struct err err = ERR_INIT;
    sigset_t none;
    struct work work = {.box = box, .id = id, .ask = ask, .root = box->root};
    if (fd >= 0 && !(work.ask = box_read_json(fd, &err))) {
        box_say_error(box, id, &err);
        _exit(0);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, SIG_DFL);
    alarm(works[which].seconds);
    if (works[which].run(&work, &err))
        box_say_error(box, id, &err);
    _exit(0);
}

void box_worker_start(struct box *box, int64_t id, const struct json *ask,
                      struct box_message *message)
{
    struct err err;
    size_t which = 0, place = 0;
    const char *name = json_text(json_get(ask, "work"));
    int fd = message->fd_count > 0 ? message->fds[0] : -1;
    while (which < COUNT_OF(works) && (!name || strcmp(works[which].name, name) != 0))
        which++;
    while (place < WORKERS_MAX && box->workers[place].pid)
        place++;
    if (which == COUNT_OF(works))
        err_set(&err, ERR_INVALID, "unknown work");
    else if (place == WORKERS_MAX)
        err_set(&err, ERR_BUSY, "the session works on %d files already", WORKERS_MAX);
    else {
        pid_t pid = box_fork(box);
        if (pid == 0)
            do_work(box, id, ask, fd, which);
        if (pid > 0) {
            box->workers[place] = (struct worker){pid, id};
            return;
        }
        err_sys(&err, "cannot start a process");
    }
    box_say_error(box, id, &err);
}

bool box_worker_died(struct box *box, pid_t pid, int wait_status)
{
    struct err err;
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        if (box->workers[i].pid != pid)
            continue;
        if (!WIFEXITED(wait_status)) {
            if (WTERMSIG(wait_status) == SIGALRM)
                err_set(&err, ERR_TIMEOUT, "it took too long");
            else
                err_set(&err, ERR_INTERNAL, "it was ended by signal %d", WTERMSIG(wait_status));
            box_say_error(box, box->workers[i].id, &err);
        }
        box->workers[i] = (struct worker){0};
        return true;
    }
    return false;
}
