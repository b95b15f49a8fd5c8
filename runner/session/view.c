/* Shells as callers see them. */
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"
#include "runner/session/session_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in the history for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

struct view *shellview_find_locked(struct session *session, const char *name)
{
    struct view *view = session->views;
    while (view && strcmp(view->name, name) != 0)
        view = view->next;
    return view;
}

struct view *shellview_take_locked(struct session *session, const char *name)
{
    struct view *view = shellview_find_locked(session, name);
    if (view || !(view = calloc(1, sizeof(*view))))
        return view;
    snprintf(view->name, sizeof(view->name), "%s", name);
    view->next = session->views;
    session->views = view;
    return view;
}

static void shown_done(struct shown *shown)
{
    free(shown->ps1);
    free(shown->command);
    free(shown->output);
    *shown = (struct shown){0};
}

void shellviews_done(struct session *session)
{
    struct view *view;
    while ((view = session->views)) {
        session->views = view->next;
        for (size_t i = 0; i < view->count; i++)
            shown_done(&view->history[i]);
        free(view->cwd);
        free(view);
    }
}

/* Length of the escape sequence at text: CSI, OSC, or two bytes. */
static size_t escape_len(const char *text, size_t len)
{
    size_t at = 2;
    if (len < 2)
        return len;
    if (text[1] == '[') {
        while (at < len && (text[at] < '@' || text[at] > '~'))
            at++;
        return at < len ? at + 1 : len;
    }
    if (text[1] == ']' || text[1] == 'P') {
        while (at < len && text[at] != '\a' && !(text[at] == '\033' && at + 1 < len))
            at++;
        return at >= len ? len : text[at] == '\a' ? at + 1 : at + 2;
    }
    if (strchr("()*+#%", text[1]))
        return len < 3 ? len : 3;
    return 2;
}

static void add_plain(struct buf *out, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        if (text[at] == '\033') {
            at += escape_len(text + at, len - at);
            continue;
        }
        if (text[at] != '\r' && text[at] != '\b' && text[at] != '\a')
            buf_addc(out, text[at]);
        at++;
    }
}

/* The output of both streams, one after the other; the caller frees it. */
static char *output_of(const struct exec *command)
{
    AUTO(buf) struct buf raw = BUF_INIT(2 * SHOWN_BYTES_MAX + 1);
    AUTO(buf) struct buf plain = BUF_INIT(2 * SHOWN_BYTES_MAX + 1);
    spool_read(&command->out, 0, SHOWN_BYTES_MAX, &raw);
    spool_read(&command->err, 0, SHOWN_BYTES_MAX, &raw);
    add_plain(&plain, buf_str(&raw), raw.len);
    return strdup(buf_str(&plain));
}

void shellview_add_locked(struct view *view, const struct exec *command)
{
    if (view->count == HISTORY_MAX) {
        shown_done(&view->history[0]);
        memmove(&view->history[0], &view->history[1], sizeof(struct shown) * (HISTORY_MAX - 1));
        view->count--;
    }
    view->history[view->count++] = (struct shown){.ps1 = strdup(command->ps1),
                                                  .command = strdup(command->text),
                                                  .output = output_of(command),
                                                  .pid = command->pid};
}

/* What the background process of the shell's last command has printed, when that is what it has
 * started; NULL when it is not. The caller frees it. */
static char *log_of_last(struct sessions *sessions, struct session *session, const char *name)
{
    struct err ignored;
    pid_t pid = 0;
    AUTO(buf) struct buf raw = BUF_INIT(SHOWN_BYTES_MAX + 1), plain = BUF_INIT(SHOWN_BYTES_MAX + 1);
    lock_take(&sessions->lock);
    const struct view *view = shellview_find_locked(session, name);
    if (view && !view->running && view->count > 0)
        pid = view->history[view->count - 1].pid;
    lock_drop(&sessions->lock);
    AUTO(fd) int log = pid > 0 ? detached_log(sessions, session->id, pid, &ignored) : -1;
    char *room = log >= 0 ? buf_room(&raw, SHOWN_BYTES_MAX) : NULL;
    ssize_t n = room ? fd_pread_full(log, room, SHOWN_BYTES_MAX, 0) : -1;
    if (n < 0)
        return NULL;
    buf_grew(&raw, (size_t)n);
    add_plain(&plain, buf_str(&raw), raw.len);
    return strdup(buf_str(&plain));
}

int shellview_note(struct sessions *sessions, const char *id, const struct shellview_note *note,
                   struct err *err)
{
    struct exec command = {.text = (char *)(uintptr_t)note->text};
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    spool_init(&command.out);
    spool_init(&command.err);
    spool_add(&command.out, session->dir, note->output, strlen(note->output));
    spool_add(&command.err, session->dir, note->errors, strlen(note->errors));
    lock_take(&sessions->lock);
    struct view *view = shellview_take_locked(session, note->shell);
    const char *cwd = view && view->cwd ? view->cwd : "/workspace";
    snprintf(command.ps1, sizeof(command.ps1), "user@%s:%s $", session->id, cwd);
    if (view)
        shellview_add_locked(view, &command);
    if (view && note->cwd)
        str_replace(&view->cwd, note->cwd);
    lock_drop(&sessions->lock);
    spool_done(&command.out);
    spool_done(&command.err);
    return view ? 0 : err_sys(err, "shell");
}

static void print_shown(struct json_writer *w, const char *ps1, const char *command,
                        const char *output)
{
    json_open_object(w, NULL);
    json_add_text(w, "ps1", ps1 ? ps1 : "");
    json_add_text(w, "command", command ? command : "");
    json_add_text(w, "output", output ? output : "");
    json_close(w);
}

/* `log`: what is shown as the last command's output, or NULL. */
static void print_view(const struct session *session, const struct view *view, const char *log,
                       bool console, struct buf *out)
{
    struct json_writer w;
    const struct exec *running = view->running;
    AUTO(str) char *now = running ? output_of(running) : NULL;
    const char *last = log ? log : view->count > 0 ? view->history[view->count - 1].output : NULL;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "session_id", session->id);
    json_add_text(&w, "shell", view->name);
    json_add_text(&w, "cwd", view->cwd ? view->cwd : "/workspace");
    json_add_bool(&w, "running", running != NULL);
    json_add_text(&w, "command", running ? running->text : NULL);
    json_add_text(&w, "output", running ? now : last ? last : "");
    if (console) {
        json_open_array(&w, "console");
        for (size_t i = 0; i < view->count; i++)
            print_shown(&w, view->history[i].ps1, view->history[i].command,
                        log && i + 1 == view->count ? log : view->history[i].output);
        if (running)
            print_shown(&w, running->ps1, running->text, now);
        json_close(&w);
    } else {
        json_add_null(&w, "console");
    }
    json_close(&w);
}

int shellview_print(struct sessions *sessions, const char *id, const char *name, bool console,
                    struct buf *out, struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    AUTO(str) char *log = log_of_last(sessions, session, name);
    lock_take(&sessions->lock);
    const struct view *view = shellview_find_locked(session, name);
    if (view)
        print_view(session, view, log, console, out);
    lock_drop(&sessions->lock);
    return view ? 0 : err_set(err, ERR_NOT_FOUND, "the session has no shell '%.64s'", name);
}

int shellview_current(struct sessions *sessions, const char *id, const char *name,
                      struct shellview_now *ret_now, struct err *err)
{
    struct shellview_now now = {0};
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    lock_take(&sessions->lock);
    const struct view *view = shellview_find_locked(session, name);
    if (view && view->running) {
        now.command = view->running;
        exec_ref_locked(now.command);
    } else if (view) {
        now = (struct shellview_now){
            .pid = view->pid, .ended = view->ended, .exit_code = view->exit_code};
    }
    lock_drop(&sessions->lock);
    *ret_now = now;
    return view ? 0 : err_set(err, ERR_NOT_FOUND, "the session has no shell '%.64s'", name);
}
