#include "runner/cloudbox/visit_box.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_BYTES_MAX (8u << 20)
#define TTL_MINUTES 525600
#define HEAD_BYTES 8192

int visit_box_open(struct visit_box *box, const struct carry_place *place, const char *state_dir,
                   struct err *err)
{
    static const struct {
        const char *name;
        mode_t mode;
    } dirs[] = {{"", 0711},         {"box", 0711},       {"box/workspace", 0755},
                {"box/tmp", 01777}, {"box/home", 0755},  {"box/home/user", 0755},
                {"box/root", 0755}, {"box/shells", 0700}};
    AUTO(str) char *sessions = path_join(state_dir, "sessions");
    char *dir = sessions ? path_join(sessions, place->id) : NULL;
    box->place = *place;
    box->place.dir = dir;
    if (!dir)
        return err_sys(err, "session");
    if (path_make_dirs(sessions, 0711, err))
        return -1;
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        AUTO(str) char *path = path_join(dir, dirs[i].name);
        if (path && mkdir(path, dirs[i].mode) && errno == EEXIST)
            continue;
        if (!path || chmod(path, dirs[i].mode))
            return err_sys(err, "cannot make the session's directory");
        if (i > 0 && geteuid() == 0 && path_own(path, place->uid, place->gid, err))
            return -1;
    }
    return 0;
}

void visit_box_close(struct visit_box *box)
{
    free((char *)(uintptr_t)box->place.dir);
    free(box->cwd);
    *box = (struct visit_box){0};
}

/* --- before -------------------------------------------------------------------------------- */

/* Whether the shell has left a state. */
static bool has_state(const struct visit_box *box)
{
    AUTO(buf) struct buf path = BUF_INIT(8192);
    buf_addf(&path, "%s/box/shells/%s", box->place.dir, box->shell);
    return buf_ok(&path) && access(buf_str(&path), F_OK) == 0;
}

/* Names that each place has of its own. */
static bool is_of_place(const char *name)
{
    static const char *const names[] = {"HOME", "PWD", "OLDPWD", "PATH", "TMPDIR", "SHLVL", "_"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void add_variables(struct json_writer *w, const struct json *variables, bool all)
{
    for (const struct json *at = json_first(variables); at; at = json_next(at)) {
        AUTO(buf) struct buf item = BUF_INIT(RECORD_BYTES_MAX);
        if (!json_text(at) || (!all && is_of_place(json_name(at))))
            continue;
        buf_addf(&item, "%s=", json_name(at));
        buf_adds(&item, json_text(at));
        if (buf_ok(&item))
            json_add_text(w, NULL, buf_str(&item));
    }
}

static int add_env(struct json_writer *w, const struct task_request *request, const char *exported,
                   struct err *err)
{
    AUTO(json)
    struct json *own = request->env ? json_parse(request->env, strlen(request->env), err) : NULL;
    AUTO(json) struct json *more = exported ? json_parse(exported, strlen(exported), err) : NULL;
    if ((request->env && !own) || (exported && !more))
        return -1;
    json_open_array(w, "env");
    add_variables(w, own, true);
    add_variables(w, more, false);
    json_close(w);
    return 0;
}

/* Where state.json says that the shell is. */
static char *known_cwd(const struct visit_box *box, const struct box_state *state)
{
    struct err ignored;
    AUTO(json) struct json *shells = json_parse(state->shells, strlen(state->shells), &ignored);
    const char *cwd = json_text(json_get(shells, box->shell));
    if (!cwd && strcmp(box->shell, "default") == 0)
        cwd = state->cwd;
    return cwd && strcmp(cwd, "/workspace") != 0 ? strdup(cwd) : NULL;
}

int visit_box_describe(struct visit_box *box, const struct task_request *request,
                       const struct box_state *state, const struct json *wish, struct err *err)
{
    struct json_writer w;
    int64_t now = clock_real_ms();
    const char *shell = json_text(json_get(wish, "shell")), *cwd = json_text(json_get(wish, "cwd"));
    AUTO(str) char *path = path_join(box->place.dir, "session.json");
    AUTO(buf_wipe) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (shell && !id_is_valid(shell))
        return err_set(err, ERR_INVALID, "'%.80s' is no name of a shell", shell);
    snprintf(box->shell, sizeof(box->shell), "%s", shell ? shell : "default");
    bool known = has_state(box), first = strcmp(box->shell, "default") == 0;
    box->cwd = cwd ? strdup(cwd) : known ? NULL : known_cwd(box, state);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "id", box->place.id);
    json_add_int(&w, "createdMs", now);
    json_add_int(&w, "usedMs", now);
    json_add_int(&w, "ttlMinutes", TTL_MINUTES);
    json_add_int(&w, "pids", request->limits_pids);
    json_add_int(&w, "diskMb", request->limits_disk_mb);
    json_add_int(&w, "memoryMb", request->limits_memory_mb);
    json_add_number(&w, "cpu", request->limits_cpu);
    if (add_env(&w, request, first && !known ? state->env : NULL, err)) /* they are that shell's */
        return -1;
    json_close(&w);
    if (!path || buf_check(&text, "the session's record", err))
        return path ? -1 : err_sys(err, "session");
    return file_replace(path, text.data, text.len, 0600, err);
}

/* --- after --------------------------------------------------------------------------------- */

/* The shells as they were, but for this one. */
static void put_shell(const struct visit_box *box, const char *cwd, const struct json *before,
                      struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    for (const struct json *at = json_first(before); at; at = json_next(at))
        if (json_text(at) && strcmp(json_name(at), box->shell) != 0)
            json_add_text(&w, json_name(at), json_text(at));
    json_add_text(&w, box->shell, cwd);
    json_close(&w);
}

int visit_box_note(const struct visit_box *box, struct box_state *state, const char *end,
                   size_t len, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *answer = json_parse(end, len, err);
    const char *cwd = json_text(json_get(answer, "cwd"));
    AUTO(buf) struct buf shells = BUF_INIT(BOX_STATE_BYTES_MAX);
    if (!answer)
        return -1;
    if (!cwd || cwd[0] != '/')
        return 0;
    AUTO(json) struct json *before = json_parse(state->shells, strlen(state->shells), &ignored);
    put_shell(box, cwd, before, &shells);
    if (buf_check(&shells, "the session's shells", err) ||
        str_replace(&state->shells, buf_str(&shells)))
        return -1;
    return strcmp(box->shell, "default") == 0 && str_replace(&state->cwd, cwd)
               ? err_sys(err, "session")
               : 0;
}

/* True when its first line, which says where it is, names a path of this machine. */
static bool is_bound_here(int shells, const char *name, const char *box)
{
    static const char head[] = "\\builtin cd -- '";
    char text[HEAD_BYTES];
    AUTO(fd) int fd = openat(shells, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return str_starts(text, head) && str_starts(text + sizeof(head) - 1, box);
}

void visit_box_leave(const char *at)
{
    struct dirent *entry;
    AUTO(str) char *inside = path_join(at, "box");
    AUTO(str) char *path = path_join(at, "box/shells");
    int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(&fd);
        return;
    }
    while (inside && (entry = readdir(dir)))
        if (is_bound_here(fd, entry->d_name, inside))
            unlinkat(fd, entry->d_name, 0);
    closedir(dir);
}
