/* The life of one task: straight down, on its own thread. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/task/engine_private.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRETS_BYTES_MAX (4u << 20)
#define OUTPUT_BYTES_MAX (64u << 20)
#define MEMBERS_BYTES_MAX (4u << 20)
#define RETRY_MS 1000
#define PAUSES_MAX 100

struct task_run {
    struct engine *engine;
    struct active_task *active;
    struct task_record record;
    struct buf secrets;
    char *dir;
    char *keep_dir;
    struct events *events;
    struct redact_set *redact;
    int wake_fd;        /* borrowed from active */
    int64_t events_end; /* as last told */
    bool unhealthy;
    struct err trouble; /* why */
};

const struct task_record *task_run_record(const struct task_run *run)
{
    return &run->record;
}

const char *task_run_secrets(const struct task_run *run)
{
    return buf_str(&run->secrets);
}

const char *task_run_dir(const struct task_run *run)
{
    return run->dir;
}

const char *task_run_keep_dir(const struct task_run *run)
{
    return run->keep_dir;
}

struct events *task_run_events(const struct task_run *run)
{
    return run->events;
}

struct redact_set *task_run_redact(const struct task_run *run)
{
    return run->redact;
}

bool task_run_adopted(const struct task_run *run)
{
    return run->active->adopted;
}

int task_run_wake_fd(const struct task_run *run)
{
    return run->wake_fd;
}

enum task_stop task_run_stop(struct task_run *run)
{
    pthread_mutex_lock(&run->engine->lock);
    enum task_stop stop = run->active->stop;
    pthread_mutex_unlock(&run->engine->lock);
    return stop;
}

void task_run_fail(struct task_run *run, const struct err *err)
{
    if (!run->unhealthy)
        run->trouble = *err;
    run->unhealthy = true;
}

void task_run_event(struct task_run *run, const char *name, const char *json, size_t len)
{
    struct err err;
    if (run->unhealthy)
        return;
    if (events_add(run->events, name, json, len, &err) || (name && events_flush(run->events, &err)))
        task_run_fail(run, &err);
}

bool task_run_healthy(const struct task_run *run)
{
    return !run->unhealthy;
}

/* --- events that the engine itself adds ---------------------------------------------------- */

static struct events *open_events(struct engine *engine, const char *id, struct err *err)
{
    AUTO(str) char *path = engine_events_path(engine, id);
    if (!path) {
        err_sys(err, "events");
        return NULL;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int rc = mkdir(path, 0700) && errno != EEXIST ? err_sys(err, "cannot make '%s'", path) : 0;
    *slash = '/';
    return rc ? NULL : events_open(path, err);
}

/* Where it is to run, as far as that is known when it comes. */
static enum task_place likely_place(struct engine *engine, const struct task_record *record)
{
    pthread_mutex_lock(&engine->lock);
    bool always = engine->config.limits.overflow == OVERFLOW_ALWAYS;
    pthread_mutex_unlock(&engine->lock);
    if (record->executor == EXECUTOR_CLOUD)
        return PLACE_AWAY;
    return always && !record->stays && record->executor == EXECUTOR_AUTO ? PLACE_AWAY
                                                                         : record->place;
}

static int add_task_event(struct engine *engine, struct events *events, const char *id,
                          struct err *err)
{
    AUTO(buf) struct buf json = BUF_INIT(1024);
    AUTO(task_record) struct task_record record = {0};
    if (store_get(engine->config.store, id, &record, err))
        return -1;
    buf_addf(&json, "{\"taskId\":\"%s\",\"status\":\"pending\",\"executor\":\"%s\"}", id,
             task_place_name(likely_place(engine, &record)));
    return events_add(events, "task", buf_str(&json), json.len, err);
}

/* The events of a task, begun. */
static struct events *begin_events(struct engine *engine, const char *id, struct err *err)
{
    AUTO(events) struct events *events = open_events(engine, id, err);
    if (!events || (events_size(events) == 0 && add_task_event(engine, events, id, err)) ||
        events_flush(events, err))
        return NULL;
    return STEAL_PTR(events);
}

static pthread_mutex_t *mend_lock(struct engine *engine, const char *id)
{
    size_t sum = 0;
    for (; *id; id++)
        sum = sum * 31 + (unsigned char)*id;
    return &engine->mend[sum % MEND_LOCKS];
}

int run_announce(struct engine *engine, const char *id, struct err *err)
{
    pthread_mutex_t *lock = mend_lock(engine, id);
    pthread_mutex_lock(lock);
    AUTO(events) struct events *events = begin_events(engine, id, err);
    pthread_mutex_unlock(lock);
    return events ? 0 : -1;
}

void run_print_summary(const struct task_outcome *outcome, int64_t duration_ms, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_int(&w, "exit_code", outcome->exit_code);
    json_add_int(&w, "duration_ms", duration_ms);
    json_add_bool(&w, "truncated", outcome->truncated);
    if (outcome->reason[0])
        json_add_text(&w, "reason", outcome->reason);
    if (outcome->error[0])
        json_add_text(&w, "error", outcome->error);
    buf_add(out, buf_str(&outcome->members), outcome->members.len);
    json_close(&w);
}

static void print_result_parts(const struct task_record *record, const struct buf *output,
                               struct buf *out)
{
    size_t len;
    size_t request_len = strlen(record->request);
    const char *metadata = json_raw_member(record->request, request_len, "metadata", &len);
    buf_addf(out, "{\"success\":%s,\"taskId\":\"%s\",\"status\":\"%s\",\"output\":\"",
             record->state == TASK_COMPLETED ? "true" : "false", record->id,
             task_state_name(record->state));
    str_add_json(out, buf_str(output), output->len);
    buf_addf(out, "\",\"executor\":\"%s\"", task_place_name(record->place));
    if (metadata) {
        buf_adds(out, ",\"metadata\":");
        buf_add(out, metadata, len);
    }
    if (record->summary && record->summary[0] == '{' && record->summary[1] != '}') {
        buf_addc(out, ',');
        buf_adds(out, record->summary + 1); /* its closing brace is ours */
    } else {
        buf_addc(out, '}');
    }
}

int engine_print_result(struct engine *engine, const struct task_record *record, struct buf *out,
                        struct err *err)
{
    AUTO(buf) struct buf output = BUF_INIT(OUTPUT_BYTES_MAX);
    if (store_output(engine->config.store, record->id, &output, err))
        return -1;
    print_result_parts(record, &output, out);
    return buf_check(out, "the result", err);
}

static int add_final_events(struct engine *engine, struct events *events,
                            const struct task_record *record, struct err *err)
{
    AUTO(buf) struct buf json = BUF_INIT(2 * OUTPUT_BYTES_MAX);
    if (engine_print_result(engine, record, &json, err))
        return -1;
    if (record->state == TASK_CANCELLED && events_add(events, "cancelled", "{}", 2, err))
        return -1;
    if (events_add(events, "done", json.data, json.len, err))
        return -1;
    return events_flush(events, err);
}

static int conclude_events(struct engine *engine, const struct task_record *record, struct err *err)
{
    AUTO(events) struct events *events = begin_events(engine, record->id, err);
    return events ? add_final_events(engine, events, record, err) : -1;
}

/* Adds what is missing at the end; the task's lock is held. */
static int mend_locked(struct engine *engine, const char *path, const char *id, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    if (events_end_with(path, "done"))
        return 0;
    if (store_get(engine->config.store, id, &record, err))
        return -1;
    return task_state_is_active(record.state) ? 0 : conclude_events(engine, &record, err);
}

int engine_mend_events(struct engine *engine, const char *id, struct err *err)
{
    pthread_mutex_t *lock = mend_lock(engine, id);
    AUTO(str) char *path = engine_events_path(engine, id);
    if (!path)
        return err_sys(err, "events");
    pthread_mutex_lock(lock);
    int rc = mend_locked(engine, path, id, err);
    pthread_mutex_unlock(lock);
    return rc;
}

/* --- one task ------------------------------------------------------------------------------ */

/* Waits a moment, or until somebody wants the task to stop. What he wants is kept elsewhere: the
 * wake-up is used up, or the next pause would be none. */
static void pause_before_retry(struct task_run *run)
{
    uint64_t count;
    struct pollfd wait = {.fd = run->wake_fd, .events = POLLIN};
    if (poll(&wait, 1, RETRY_MS) > 0)
        (void)!read(run->wake_fd, &count, sizeof(count));
}

/* Pending -> running. A store that cannot write (a full disk) is asked again until it can: the
 * task stays pending meanwhile. False when the task is not to run. */
static bool claim(struct task_run *run)
{
    struct err err;
    while (!run->active->adopted) {
        int64_t now = clock_real_ms();
        int claimed =
            store_claim(run->engine->config.store, run->active->id, run->active->place, now, &err);
        if (claimed >= 0)
            return claimed == 1;
        log_error("task", "cannot start the task: %s", err.msg);
        if (task_run_stop(run) == STOP_INTERRUPT)
            return false;
        pause_before_retry(run);
    }
    return true;
}

/* Tells who follows the task that its events have grown. */
static void tell_followers(int64_t end, void *arg)
{
    struct task_run *run = arg;
    atomic_fetch_add_explicit(&run->engine->numbers.event_bytes, end - run->events_end,
                              memory_order_relaxed);
    run->events_end = end;
    pthread_mutex_lock(&run->engine->lock);
    for (struct engine_watch *watch = run->active->watches; watch; watch = watch->next)
        if (watch->grew)
            watch->grew(watch, end);
    pthread_mutex_unlock(&run->engine->lock);
}

static int make_private_dir(struct task_run *run, struct err *err)
{
    const struct engine_config *config = &run->engine->config;
    const char *name = run->record.conversation[0] ? run->record.conversation : run->record.id;
    run->dir = path_join(run->engine->run_dir, name);
    run->keep_dir = path_join(run->engine->tasks_dir, run->record.id);
    if (!run->dir || !run->keep_dir)
        return err_sys(err, "workspace");
    /* a directory of the runner's own: what it makes, mounts and renames in there as root the task
     * cannot swap for something else */
    bool shared = config->uid != geteuid();
    if (path_remove_tree(run->dir, err) || path_make_dirs(run->dir, shared ? 0711 : 0700, err))
        return -1;
    return 0;
}

static int prepare(struct task_run *run, struct err *err)
{
    struct store *store = run->engine->config.store;
    buf_init(&run->secrets, SECRETS_BYTES_MAX);
    run->redact = redact_new();
    if (!run->redact)
        return err_sys(err, "task");
    if (store_get(store, run->active->id, &run->record, err) ||
        store_secrets(store, run->active->id, &run->secrets, err))
        return -1;
    run->events = begin_events(run->engine, run->record.id, err);
    if (!run->events)
        return -1;
    run->events_end = events_size(run->events);
    events_tell(run->events, tell_followers, run);
    return make_private_dir(run, err);
}

static void fail_outcome(struct task_outcome *outcome, const struct err *err)
{
    outcome->state = TASK_FAILED;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s",
             err->code == ERR_NO_SPACE ? "disk_full" : "internal");
    snprintf(outcome->error, sizeof(outcome->error), "%s", err->msg);
    if (outcome->exit_code == 0)
        outcome->exit_code = 1;
}

/* Whatever an error quotes, it goes to a log and to callers. */
static void clean_error(struct task_run *run, struct task_outcome *outcome)
{
    AUTO(buf) struct buf clean = BUF_INIT(4096);
    redact_text(run->redact, outcome->error, strlen(outcome->error), &clean);
    snprintf(outcome->error, sizeof(outcome->error), "%s", buf_str(&clean));
}

static void run_kind(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    bool away = run->active->place == PLACE_AWAY;
    const struct task_kind *kind = away ? run->engine->config.cloud : run->engine->config.kinds;
    while (!away && kind->name && strcmp(kind->name, run->record.kind) != 0)
        kind++;
    if (kind->name) {
        kind->run(run, outcome, kind->arg);
    } else {
        err_set(&err, ERR_INTERNAL, "this runner has no tasks of kind '%s'", run->record.kind);
        fail_outcome(outcome, &err);
    }
    if (events_flush(run->events, &err))
        task_run_fail(run, &err);
    if (run->unhealthy)
        fail_outcome(outcome, &run->trouble);
    clean_error(run, outcome);
    outcome->truncated |= events_truncated(run->events);
}

/* Stores the outcome, for as long as that takes: what a task has done must not be lost. */
static void store_outcome(struct task_run *run, const struct task_outcome *outcome,
                          int64_t duration_ms)
{
    struct err err;
    AUTO(buf) struct buf summary = BUF_INIT(MEMBERS_BYTES_MAX + 8192);
    run_print_summary(outcome, duration_ms, &summary);
    struct task_end end = {.state = outcome->state,
                           .reason = outcome->reason,
                           .summary = buf_ok(&summary) ? buf_str(&summary) : "{}",
                           .output = buf_str(&outcome->output),
                           .output_len = outcome->output.len,
                           .conversation_kept = outcome->conversation_kept,
                           .now_ms = clock_real_ms()};
    struct store *store = run->engine->config.store;
    int ended;
    while ((ended = store_end(store, run->active->id, 1u << TASK_RUNNING, &end, &err)) < 0) {
        struct err ignored;
        log_error("task", "cannot store the outcome: %s", err.msg);
        if (run->dir) /* what the task has left may be what fills the disk */
            path_remove_tree(run->dir, &ignored);
        if (task_run_stop(run) == STOP_INTERRUPT)
            return;
        pause_before_retry(run);
    }
    if (ended == 1) {
        numbers_ended(run->engine, run->active->kind, end.state, end.reason);
        numbers_ran(run->engine, run->active->kind, duration_ms, &summary);
    }
}

/* Once the task has ended the next of its conversation may want the directory. */
static void leave_dir(struct task_run *run)
{
    AUTO(str) char *aside = NULL;
    if (!run->dir || asprintf(&aside, "%s/.%s", run->engine->run_dir, run->active->id) < 0)
        return;
    if (rename(run->dir, aside) == 0) {
        free(run->dir);
        run->dir = STEAL_PTR(aside);
    } else if (errno != ENOENT) {
        log_warn("task", "cannot move '%s' aside: errno %d", run->dir, errno);
    }
}

/* What cannot be written now is made up for when somebody reads. */
static void conclude(struct task_run *run)
{
    struct err err = run->trouble;
    if (run->unhealthy || engine_mend_events(run->engine, run->active->id, &err))
        log_warn("task", "the last event is missing for now: %s", err.msg);
}

/* The answer is in the store; the lines that led to it reach the disk while nobody waits. */
static void keep_events(const struct task_run *run)
{
    struct err err;
    if (run->events && events_sync(run->events, &err))
        log_warn("task", "%s", err.msg);
}

static void log_end(const struct task_run *run, const struct task_outcome *outcome,
                    int64_t duration_ms)
{
    log_info("task", "%s%s%s after %lld ms%s%s", task_state_name(outcome->state),
             outcome->reason[0] ? ", " : "", outcome->reason, (long long)duration_ms,
             outcome->error[0] ? ": " : "", outcome->error);
    (void)run;
}

static void clean_up(struct task_run *run)
{
    struct err err;
    if (run->dir && path_remove_tree(run->dir, &err))
        log_warn("task", "%s", err.msg);
    if (run->events)
        events_tell(run->events, NULL, NULL); /* the active task may be gone */
    events_close(run->events);
    redact_free(run->redact);
    if (run->secrets.data)
        explicit_bzero(run->secrets.data, run->secrets.cap);
    buf_done(&run->secrets);
    task_record_done(&run->record);
    free(run->dir);
    free(run->keep_dir);
}

/* Tells followers why nothing comes for a while; a reader of the log sees where it was. */
static void add_pause_event(struct task_run *run, const struct task_outcome *outcome)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(8192);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "status", task_state_name(outcome->state));
    json_add_text(&w, "reason", outcome->reason);
    json_add_text(&w, "error", outcome->error);
    json_close(&w);
    if (run->events && buf_ok(&json))
        task_run_event(run, "error", json.data, json.len);
}

/* Back to waiting, as long as nobody wants it to end and it has not been so too often. */
static bool pause_task(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    if (task_run_stop(run) == STOP_NO && run->record.attempts < PAUSES_MAX &&
        store_requeue(run->engine->config.store, run->active->id, outcome->state, &err) == 1) {
        log_info("task", "%s: %s", task_state_name(outcome->state), outcome->error);
        add_pause_event(run, outcome);
        return true;
    }
    outcome->state = TASK_FAILED;
    return false;
}

/* An interrupted task that may be run again waits for the next start. */
static bool keep_for_next_start(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    if (task_run_stop(run) != STOP_INTERRUPT || outcome->state == TASK_COMPLETED ||
        outcome->state == TASK_RUNNING || !run->record.retry_interrupted ||
        run->record.attempts >= RUN_ATTEMPTS_MAX ||
        store_requeue(run->engine->config.store, run->active->id, TASK_PENDING, &err) != 1)
        return false;
    log_info("task", "interrupted; it will be run again");
    outcome->state = TASK_RUNNING;
    return true;
}

static void run_claimed(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    int64_t start = clock_mono_ms(), began_ms = clock_real_ms();
    log_info("task", "running");
    bool prepared = prepare(run, &err) == 0;
    if (run->record.attempts == 1 && !run->active->adopted)
        numbers_began(run->engine, run->active->kind, began_ms - run->active->created_ms);
    if (prepared)
        run_kind(run, outcome);
    else
        fail_outcome(outcome, &err);
    int64_t duration =
        run->active->adopted ? clock_real_ms() - run->record.started_ms : clock_mono_ms() - start;
    if (keep_for_next_start(run, outcome) || outcome->state == TASK_RUNNING)
        return;
    if (task_state_is_active(outcome->state) && pause_task(run, outcome))
        return;
    leave_dir(run);
    store_outcome(run, outcome, duration);
    conclude(run);
    log_end(run, outcome, duration);
}

void run_live(struct engine *engine, struct active_task *active)
{
    struct task_run run = {.engine = engine, .active = active};
    struct task_outcome outcome = {.state = TASK_FAILED, .exit_code = 1};
    buf_init(&outcome.output, OUTPUT_BYTES_MAX);
    buf_init(&outcome.members, MEMBERS_BYTES_MAX);
    log_set_task(active->id);
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_lock(&engine->lock);
    active->wake_fd = run.wake_fd = wake_fd;
    active->started_ms = clock_real_ms();
    pthread_mutex_unlock(&engine->lock);
    if (claim(&run))
        run_claimed(&run, &outcome);
    else /* it was cancelled before, or stays for the next start */
        outcome.state = task_run_stop(&run) == STOP_INTERRUPT ? TASK_RUNNING : TASK_CANCELLED;
    if (task_state_is_active(outcome.state) && outcome.state != TASK_RUNNING) {
        clean_up(&run); /* first: it may be taken again at once */
        engine_put_back(engine, active);
    } else {
        engine_retire(engine, active, outcome.state);
        keep_events(&run);
        clean_up(&run);
    }
    buf_done(&outcome.output);
    buf_done(&outcome.members);
}
