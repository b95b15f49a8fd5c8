/* Commands of cloud sessions, at home: see cloudbox.h. */
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/cloudbox/cloudbox_private.h"
#include "runner/cloudbox/visit.h"
#include "runner/request/request.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRAVEL_MS 600000 /* for what is fetched and stored around a command */
#define REQUEST_BYTES_MAX (16u << 20)
#define SAID_BYTES_MAX (16u << 20) /* of each stream, for who follows */
#define ANSWER_BYTES_MAX (220u << 20)

/* --- references ---------------------------------------------------------------------------- */

static void exec_free(struct cloudexec *command)
{
    for (size_t i = 0; i < COUNT_OF(command->said); i++)
        buf_done(&command->said[i]);
    fd_close(&command->fd);
    lock_done(&command->reading);
    free(command->text);
    free(command->cwd);
    free(command->caller);
    free(command->end);
    free(command->answer);
    free(command);
}

static void exec_unref_locked(struct cloudexec *command)
{
    REQUIRE(command->refs > 0);
    if (--command->refs > 0)
        return;
    cloudsession_unref_locked(command->session);
    exec_free(command);
}

void cloudexec_unref(struct cloudexec *command)
{
    if (!command)
        return;
    struct cloudbox *cloudbox = command->cloudbox;
    lock_take(&cloudbox->lock);
    exec_unref_locked(command);
    lock_drop(&cloudbox->lock);
}

/* Takes over the session's reference. */
static struct cloudexec *exec_new(struct cloudbox *cloudbox, struct cloudsession *session,
                                  const struct cloudexec_wish *wish,
                                  const struct cloudexec_watch *watch)
{
    struct cloudexec *command = calloc(1, sizeof(*command));
    if (!command)
        return NULL;
    command->cloudbox = cloudbox;
    command->session = session;
    command->refs = 1;
    command->fd = -1;
    command->text = strdup(wish->text);
    command->cwd = wish->cwd ? strdup(wish->cwd) : NULL;
    command->caller = strdup(wish->caller ? wish->caller : "");
    command->timeout_ms = wish->timeout_ms;
    command->told = *watch;
    lock_init(&command->reading);
    buf_init(&command->said[0], SAID_BYTES_MAX);
    buf_init(&command->said[1], SAID_BYTES_MAX);
    snprintf(command->shell, sizeof(command->shell), "%s", wish->shell ? wish->shell : "default");
    snprintf(command->request_id, sizeof(command->request_id), "%s",
             wish->request_id ? wish->request_id : "");
    id_new(command->task);
    if (command->text && command->caller && (!wish->cwd || command->cwd))
        return command;
    exec_free(command);
    return NULL;
}

/* --- the end ------------------------------------------------------------------------------- */

/* It has ended, and somebody is told. The caller holds a reference. */
static void tell(struct cloudexec *command)
{
    if (command->told.changed)
        command->told.changed(command->told.arg);
    if (command->told.done)
        command->told.done(command, command->told.arg);
}

static void fail(struct cloudexec *command, const struct err *why)
{
    command->failure = *why;
    command->exit_code = 1;
}

/* What a task came to that has no command's answer. */
static void explain(struct cloudexec *command, const struct json *result)
{
    struct err err;
    const char *reason = json_text(json_get(result, "reason"));
    const char *error = json_text(json_get(result, "error"));
    enum err_code code = ERR_UPSTREAM;
    if (reason && (strcmp(reason, "conflict") == 0 || strcmp(reason, "cancelled") == 0))
        code = ERR_CONFLICT;
    else if (reason && strcmp(reason, "timeout") == 0)
        code = ERR_TIMEOUT;
    err_set(&err, code, "%.200s", error ? error : "the command did not end in the cloud");
    fail(command, &err);
}

/* The command's answer, with the two outputs and without. */
static int compose(struct cloudexec *command, const struct buf *result, const struct json *end,
                   struct err *err)
{
    size_t len;
    struct json_writer w;
    static const char *const outputs[] = {"stdout", "stderr"};
    AUTO(buf) struct buf whole = BUF_INIT(ANSWER_BYTES_MAX), rest = BUF_INIT(1u << 20);
    struct buf *const texts[] = {&whole, &rest};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        json_write(&w, texts[i]);
        json_open_object(&w, NULL);
        for (const struct json *at = json_first(end); at; at = json_next(at)) {
            AUTO(buf) struct buf value = BUF_INIT(65536);
            json_print(at, &value);
            json_add_raw(&w, json_name(at), buf_str(&value), value.len);
            for (size_t k = 0;
                 i == 0 && k < COUNT_OF(outputs) && strcmp(json_name(at), "exit_code") == 0; k++) {
                const char *raw = json_raw_member(buf_str(result), result->len, outputs[k], &len);
                json_add_raw(&w, outputs[k], raw ? raw : "\"\"", raw ? len : 2);
            }
        }
        json_add_text(&w, "taskId", command->task);
        json_close(&w);
        if (buf_check(texts[i], "the answer", err))
            return -1;
    }
    command->answer = buf_steal(&whole);
    command->end = buf_steal(&rest);
    return command->answer && command->end ? 0 : err_sys(err, "the answer");
}

/* The history of its shell; what state.json says now is read when somebody asks. */
static void note(struct cloudexec *command, const struct json *result, const struct json *end)
{
    struct err err;
    const char *out = json_text(json_get(result, "stdout"));
    const char *errors = json_text(json_get(result, "stderr"));
    const struct shellview_note note = {.shell = command->shell,
                                        .text = command->text,
                                        .cwd = json_text(json_get(end, "cwd")),
                                        .output = out ? out : "",
                                        .errors = errors ? errors : ""};
    if (shellview_note(command->cloudbox->config.sessions, command->session->id, &note, &err))
        log_info("cloudbox", "%s", err.msg);
}

/* Reads how its task has ended. */
static void take_result(struct cloudexec *command)
{
    struct err err;
    int64_t exit_code = 0;
    struct cloudbox *cloudbox = command->cloudbox;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf text = BUF_INIT(ANSWER_BYTES_MAX);
    if (store_get(cloudbox->config.store, command->task, &record, &err)) {
        fail(command, &err);
        return;
    }
    if (task_state_is_active(record.state)) {
        err_set(&err, ERR_BUSY, "the runner is shutting down; the command goes on in the cloud");
        fail(command, &err);
        return;
    }
    if (engine_print_result(cloudbox->config.engine, &record, &text, &err)) {
        fail(command, &err);
        return;
    }
    AUTO(json) struct json *result = json_parse(buf_str(&text), text.len, &err);
    const struct json *end = json_get(result, "session");
    if (!end) {
        explain(command, result);
        return;
    }
    json_int(json_get(end, "exit_code"), &exit_code);
    command->exit_code = (int)exit_code;
    note(command, result, end);
    if (compose(command, &text, end, &err))
        fail(command, &err);
}

static void leave_session(struct cloudexec *command)
{
    lock_take(&command->cloudbox->lock);
    struct session_guest *guest = command->guest;
    command->guest = NULL;
    lock_drop(&command->cloudbox->lock);
    session_leave(guest);
}

/* The session is free for the next. `noted`: the record names the task. */
static void settle(struct cloudexec *command, bool noted)
{
    struct err err;
    struct cloudbox *cloudbox = command->cloudbox;
    struct cloudsession *session = command->session;
    bool goes_on = command->failure.code == ERR_BUSY; /* the next process takes it up */
    leave_session(command);
    lock_take(&cloudbox->lock);
    command->ended = true;
    session->used_ms = clock_mono_ms();
    bool mine = session->running == command;
    if (mine)
        session->running = NULL;
    if (mine && !goes_on)
        session->task[0] = '\0';
    session->stale = true;
    cloudbox->commands += noted;
    cloudbox->conflicts += command->failure.code == ERR_CONFLICT && noted;
    bool gone = session->gone;
    cloudbox->restless |= gone;
    pthread_cond_broadcast(&cloudbox->changed);
    lock_drop(&cloudbox->lock);
    if (mine && !goes_on && cloudsession_save(cloudbox, session, &err))
        log_warn("cloudbox", "%s", err.msg);
    tell(command);
    turns_next(cloudbox, session);
    if (mine)
        cloudexec_unref(command); /* the session's */
}

static void on_ended(struct engine_watch *watch)
{
    struct cloudexec *command = (struct cloudexec *)(void *)watch;
    take_result(command);
    settle(command, true);
    cloudexec_unref(command); /* the watch's */
}

/* Under the engine's lock. */
static void on_grew(struct engine_watch *watch, int64_t end)
{
    const struct cloudexec *command = (struct cloudexec *)(void *)watch;
    (void)end;
    if (command->told.changed)
        command->told.changed(command->told.arg);
}

/* With the sessions' lock held: it only wakes the keeper. */
static void on_gone(void *arg)
{
    struct cloudexec *command = arg;
    struct cloudbox *cloudbox = command->cloudbox;
    lock_take(&cloudbox->lock);
    command->cancel = true;
    cloudbox->restless = true;
    pthread_cond_broadcast(&cloudbox->changed);
    lock_drop(&cloudbox->lock);
}

/* --- the task ------------------------------------------------------------------------------ */

static void print_wish(const struct cloudexec *command, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "session", command->session->id);
    json_add_text(&w, "shell", command->shell);
    json_add_text(&w, "cwd", command->cwd);
    json_add_int(&w, "timeoutMs", command->timeout_ms);
    json_close(&w);
}

/* As a request of its kind would be stored. */
static int print_request(const struct cloudexec *command, struct buf *request, struct buf *secrets,
                         struct err *err)
{
    const struct cloudsession *session = command->session;
    AUTO(buf) struct buf wish = BUF_INIT(65536);
    print_wish(command, &wish);
    if (buf_check(&wish, "the command", err))
        return -1;
    const struct task_request asked = {.command = command->text,
                                       .in_session = (char *)(uintptr_t)session->id,
                                       .metadata = wish.data,
                                       .env = strcmp(session->env, "{}") == 0 ? NULL : session->env,
                                       .executor = EXECUTOR_CLOUD,
                                       .priority = 5,
                                       .timeout_ms = (int)(command->timeout_ms + TRAVEL_MS),
                                       .limits_cpu = session->cpu,
                                       .limits_memory_mb = session->memory_mb,
                                       .limits_pids = session->pids_max,
                                       .limits_disk_mb = session->disk_mb};
    task_request_save(&asked, request);
    task_request_save_secrets(&asked, secrets);
    return buf_check(request, "the command", err) || buf_check(secrets, "the environment", err);
}

static int submit(struct cloudexec *command, struct err *err)
{
    bool created;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf_wipe) struct buf request = BUF_INIT(REQUEST_BYTES_MAX), secrets = BUF_INIT(4u << 20);
    if (print_request(command, &request, &secrets, err))
        return -1;
    const struct task_new task = {.id = command->task,
                                  .kind = VISIT_KIND,
                                  .priority = 5,
                                  .executor = EXECUTOR_CLOUD,
                                  .request = buf_str(&request),
                                  .secrets = secrets.len > 0 ? secrets.data : NULL,
                                  .caller = command->caller,
                                  .request_id = command->request_id};
    return engine_submit(command->cloudbox->config.engine, &task, &record, &created, err);
}

/* From now on its end is told. The watch has a reference. */
static void watch(struct cloudexec *command)
{
    struct cloudbox *cloudbox = command->cloudbox;
    command->watch = (struct engine_watch){.ended = on_ended, .grew = on_grew, .patient = true};
    lock_take(&cloudbox->lock);
    command->refs++;
    command->watched = true;
    if (command->cancel) { /* it was wanted before there was a task */
        cloudbox->restless = true;
        pthread_cond_broadcast(&cloudbox->changed);
    }
    lock_drop(&cloudbox->lock);
    if (engine_watch(cloudbox->config.engine, command->task, &command->watch) == 0)
        on_ended(&command->watch);
}

/* The session is this command's. It is noted which task that is before there is one. */
static int launch(struct cloudexec *command, struct err *err)
{
    struct cloudbox *cloudbox = command->cloudbox;
    struct cloudsession *session = command->session;
    command->guest = session_enter(cloudbox->config.sessions, session->id, on_gone, command, err);
    if (!command->guest)
        return -1;
    lock_take(&cloudbox->lock);
    snprintf(session->task, sizeof(session->task), "%s", command->task);
    str_replace(&session->command, command->text);
    lock_drop(&cloudbox->lock);
    if (cloudsession_save(cloudbox, session, err) || submit(command, err))
        return -1;
    log_info("cloudbox", "session '%s': task %s", session->id, command->task);
    watch(command);
    return 0;
}

/* --- turns --------------------------------------------------------------------------------- */

static bool is_free_locked(const struct cloudsession *session)
{
    return !session->running && !session->edited && !session->gone;
}

void turns_next(struct cloudbox *cloudbox, struct cloudsession *session)
{
    struct err err;
    lock_take(&cloudbox->lock);
    struct cloudexec *command =
        session->queue && is_free_locked(session) && !cloudbox->stopping ? session->queue : NULL;
    if (command) { /* its reference goes from the queue to the session */
        session->queue = command->next;
        session->queued--;
        session->running = command;
        command->refs++;
    }
    lock_drop(&cloudbox->lock);
    if (!command)
        return;
    if (launch(command, &err)) {
        fail(command, &err);
        settle(command, false);
    }
    cloudexec_unref(command);
}

/* Takes one off the queue; false when it is not there. */
static bool unqueue_locked(struct cloudexec *command) NOT_CHECKED;
static bool unqueue_locked(struct cloudexec *command)
{
    struct cloudexec **at = &command->session->queue;
    while (*at && *at != command)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = command->next;
    command->session->queued--;
    return true;
}

/* The queue's reference is the caller's. */
static void give_up(struct cloudexec *command, const struct err *why)
{
    struct cloudbox *cloudbox = command->cloudbox;
    fail(command, why);
    lock_take(&cloudbox->lock);
    command->ended = true;
    lock_drop(&cloudbox->lock);
    tell(command);
    cloudexec_unref(command);
}

void turns_fail_queue(struct cloudbox *cloudbox, struct cloudsession *session,
                      const struct err *why)
{
    for (;;) {
        lock_take(&cloudbox->lock);
        struct cloudexec *command = session->queue;
        if (command)
            unqueue_locked(command);
        lock_drop(&cloudbox->lock);
        if (!command)
            return;
        give_up(command, why);
    }
}

static void say_busy_locked(const struct cloudsession *session, struct err *err)
{
    if (session->running)
        err_set(err, ERR_CONFLICT, "session '%s' is busy: it runs '%.100s' (task %s)", session->id,
                session->running->text, session->running->task);
    else
        err_set(err, ERR_CONFLICT, "session '%s' is busy: its files are being changed",
                session->id);
}

/* Whether it may begin now (1), waits (0), or neither (-1). */
static int take_place(struct cloudexec *command, int64_t wait_ms, struct err *err)
{
    int rc = 0;
    struct cloudbox *cloudbox = command->cloudbox;
    struct cloudsession *session = command->session;
    struct cloudexec **at = &session->queue;
    lock_take(&cloudbox->lock);
    if (cloudbox->stopping) {
        rc = err_set(err, ERR_BUSY, "the service is shutting down");
    } else if (is_free_locked(session) && !session->queue) {
        session->running = command;
        command->refs++;
        rc = 1;
    } else if (session->gone) {
        rc = err_set(err, ERR_NOT_FOUND, "there is no session '%s'", session->id);
    } else if (wait_ms == 0) {
        say_busy_locked(session, err);
        rc = -1;
    } else if (session->queued >= QUEUE_MAX) {
        rc = err_set(err, ERR_RATE, "%d commands wait for session '%s'", QUEUE_MAX, session->id);
    } else {
        while (*at)
            at = &(*at)->next;
        *at = command;
        session->queued++;
        command->refs++;
        command->wait_until_ms = clock_mono_ms() + wait_ms;
        cloudbox->restless = true;
        pthread_cond_broadcast(&cloudbox->changed);
    }
    lock_drop(&cloudbox->lock);
    return rc;
}

struct cloudexec *cloudexec_start(struct cloudbox *cloudbox, const char *id,
                                  const struct cloudexec_wish *wish,
                                  const struct cloudexec_watch *watch_it, struct err *err)
{
    struct cloudsession *session = cloudsession_take(cloudbox, id, err);
    struct cloudexec *command = session ? exec_new(cloudbox, session, wish, watch_it) : NULL;
    if (!command) {
        if (session) {
            err_sys(err, "command");
            cloudsession_unref(cloudbox, session);
        }
        return NULL;
    }
    int place = take_place(command, wish->wait_ms, err);
    if (place == 1 && launch(command, err)) {
        place = -1;
        command->told = (struct cloudexec_watch){0}; /* the caller is told by what this returns */
        fail(command, err);
        settle(command, false);
    }
    if (place >= 0)
        return command;
    cloudexec_unref(command);
    return NULL;
}

/* --- the keeper's -------------------------------------------------------------------------- */

/* The next whose time to wait is over, taken off the queue; *ret_due: when there will be one. */
static struct cloudexec *next_late(struct cloudbox *cloudbox, int64_t now_ms, int64_t *ret_due)
{
    struct cloudexec *late = NULL;
    lock_take(&cloudbox->lock);
    for (struct cloudsession *session = cloudbox->list; session && !late; session = session->next)
        for (struct cloudexec *at = session->queue; at && !late; at = at->next) {
            if (at->cancel || at->wait_until_ms <= now_ms)
                late = at;
            else if (at->wait_until_ms < *ret_due)
                *ret_due = at->wait_until_ms;
        }
    if (late)
        unqueue_locked(late);
    lock_drop(&cloudbox->lock);
    return late;
}

/* One that is to end and does not know yet; with a reference. */
static struct cloudexec *next_cancelled(struct cloudbox *cloudbox)
{
    struct cloudexec *found = NULL;
    lock_take(&cloudbox->lock);
    for (struct cloudsession *session = cloudbox->list; session && !found; session = session->next)
        if (session->running && session->running->cancel && !session->running->asked &&
            session->running->watched)
            found = session->running;
    if (found) {
        found->asked = true;
        found->refs++;
    }
    lock_drop(&cloudbox->lock);
    return found;
}

int64_t turns_look(struct cloudbox *cloudbox, int64_t now_ms)
{
    struct err err;
    int64_t due = INT64_MAX;
    enum task_state state;
    struct cloudexec *command;
    while ((command = next_late(cloudbox, now_ms, &due))) {
        lock_take(&cloudbox->lock);
        say_busy_locked(command->session, &err);
        lock_drop(&cloudbox->lock);
        give_up(command, &err);
    }
    while ((command = next_cancelled(cloudbox))) {
        leave_session(command); /* the session need not wait for the cloud */
        if (engine_cancel(cloudbox->config.engine, command->task, &state, &err))
            log_info("cloudbox", "%s", err.msg);
        cloudexec_unref(command);
    }
    return due;
}

void turns_adopt(struct cloudbox *cloudbox, struct cloudsession *session)
{
    struct err err;
    static const struct cloudexec_watch nobody;
    const struct cloudexec_wish wish = {.text = session->command ? session->command : ""};
    if (!session->task[0])
        return;
    lock_take(&cloudbox->lock);
    session->refs++;
    lock_drop(&cloudbox->lock);
    struct cloudexec *command = exec_new(cloudbox, session, &wish, &nobody);
    if (!command) {
        cloudsession_unref(cloudbox, session);
        return;
    }
    snprintf(command->task, sizeof(command->task), "%s", session->task);
    command->guest = session_enter(cloudbox->config.sessions, session->id, on_gone, command, &err);
    lock_take(&cloudbox->lock);
    session->running = command;
    command->cancel = session->gone || !command->guest;
    lock_drop(&cloudbox->lock);
    watch(command);
}

/* --- what callers ask ---------------------------------------------------------------------- */

static void cancel_locked(struct cloudexec *command) NOT_CHECKED;
static void cancel_locked(struct cloudexec *command)
{
    command->cancel = true;
    command->cloudbox->restless = true;
    pthread_cond_broadcast(&command->cloudbox->changed);
}

void cloudexec_kill(struct cloudexec *command)
{
    struct cloudbox *cloudbox = command->cloudbox;
    lock_take(&cloudbox->lock);
    if (!command->ended)
        cancel_locked(command);
    lock_drop(&cloudbox->lock);
}

int cloudbox_kill(struct cloudbox *cloudbox, const char *id, const char *shell, struct err *err)
{
    struct cloudsession *session = cloudsession_take(cloudbox, id, err);
    if (!session)
        return -1;
    lock_take(&cloudbox->lock);
    struct cloudexec *command = session->running;
    if (command && strcmp(command->shell, shell) != 0)
        command = NULL;
    if (command)
        cancel_locked(command);
    cloudsession_unref_locked(session);
    lock_drop(&cloudbox->lock);
    return command ? 0 : err_set(err, ERR_NOT_FOUND, "shell '%.64s' has no process", shell);
}

bool cloudexec_exit(struct cloudexec *command, int *ret_exit)
{
    lock_take(&command->cloudbox->lock);
    bool ended = command->ended;
    *ret_exit = command->exit_code;
    lock_drop(&command->cloudbox->lock);
    return ended;
}

bool cloudexec_failed(struct cloudexec *command, struct err *err)
{
    if (command->failure.code == ERR_NONE)
        return false;
    *err = command->failure;
    return true;
}

void cloudexec_print(struct cloudexec *command, struct buf *out)
{
    buf_adds(out, command->answer ? command->answer : "{}");
}

void cloudexec_print_end(struct cloudexec *command, struct buf *out)
{
    buf_adds(out, command->end ? command->end : "{}");
}

/* --- its output, for who follows ------------------------------------------------------------ */

static void take_event(struct cloudexec *command, const struct event *event)
{
    struct err ignored;
    int which = strcmp(event->name, "stderr") == 0;
    if (!which && strcmp(event->name, "stdout") != 0)
        return;
    AUTO(json) struct json *data = json_parse(event->data, event->data_len, &ignored);
    const char *text = json_text(json_get(data, "text"));
    struct buf *said = &command->said[which];
    if (text && said->len + strlen(text) <= SAID_BYTES_MAX)
        buf_adds(said, text);
}

static void read_events(struct cloudexec *command)
{
    struct err ignored;
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    if (command->fd < 0) {
        AUTO(str)
        char *path = engine_events_path(command->cloudbox->config.engine, command->task);
        command->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
    while (command->fd >= 0 &&
           events_read(command->fd, command->at, &scratch, &event, &ignored) == 1) {
        take_event(command, &event);
        command->at = event.next;
    }
}

size_t cloudexec_read(struct cloudexec *command, bool of_err, int64_t from, size_t max,
                      struct buf *out)
{
    lock_take(&command->reading);
    read_events(command);
    const struct buf *said = &command->said[of_err];
    size_t n = from < (int64_t)said->len ? said->len - (size_t)from : 0;
    if (n > max)
        n = max;
    if (n > 0)
        buf_add(out, said->data + from, n);
    lock_drop(&command->reading);
    return n;
}
