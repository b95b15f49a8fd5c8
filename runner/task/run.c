/* The life of one task, straight down on its own thread. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
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
#define RETRY_MS 1000
#define PAUSES_MAX 100

struct task_run {
    struct engine *engine;
    struct active_task *active;
    struct task_record record;
    const struct task_kind *kind; /* NULL: this runner has no kind of that name */
    struct buf sealed;            /* sealed secrets from the store; unused when `open` */
    bool open;                    /* `secrets` came with the task */
    struct buf secrets;
    char *dir;
    bool aside; /* nobody uses `dir` under its name any more */
    char *keep_dir;
    struct events *events;
    struct redact_set *redact;
    int wake_fd;        /* borrowed from active */
    int64_t events_end; /* end that followers were last told */
    struct buf answer;  /* of the ended task; empty when it could not be made */
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
    lock_take(&run->engine->lock);
    enum task_stop stop = run->active->stop;
    lock_drop(&run->engine->lock);
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

/* --- one task ------------------------------------------------------------------------------ */

/* Waits a moment, or until somebody wants the task to stop. The wake-up is used up, because the
 * next pause would end at once; what was wanted is stored elsewhere. */
static void pause_before_retry(struct task_run *run)
{
    uint64_t count;
    struct pollfd wait = {.fd = run->wake_fd, .events = POLLIN};
    if (poll(&wait, 1, RETRY_MS) > 0)
        (void)!read(run->wake_fd, &count, sizeof(count));
}

/* Takes the row that the submitter has handed over; false when it must still be claimed. */
static bool take_claimed(struct task_run *run)
{
    struct claimed_task *claimed = run->active->claimed;
    if (!claimed)
        return false;
    run->active->claimed = NULL; /* Only this thread uses it. */
    run->record = claimed->record;
    memset(&claimed->record, 0, sizeof(claimed->record));
    buf_wipe(&run->secrets);
    run->secrets = claimed->secrets;
    buf_init(&claimed->secrets, 1);
    run->open = true;
    claimed_free(claimed);
    return true;
}

/* Moves the task from pending to running, and gets its record and secrets. While the store cannot
 * write (a full disk) the task stays pending and this tries again. False when the task must not
 * run. */
static bool claim(struct task_run *run)
{
    struct err err;
    const struct active_task *active = run->active;
    if (take_claimed(run))
        return true;
    for (;;) {
        int claimed = active->adopted /* Claimed before. */
                          ? store_get(run->engine->config.store, active->id, &run->record, &err) + 1
                          : store_claim(run->engine->config.store, active->id, active->place,
                                        clock_real_ms(), &run->record, &run->sealed, &err);
        if (active->adopted ? claimed == 1 : claimed >= 0)
            return claimed == 1;
        log_error("task", "cannot start the task: %s", err.msg);
        if (task_run_stop(run) == STOP_INTERRUPT)
            return false;
        pause_before_retry(run);
    }
}

/* Tells followers that the task's events have grown. */
static void tell_followers(int64_t end, void *arg)
{
    struct task_run *run = arg;
    atomic_fetch_add_explicit(&run->engine->numbers.event_bytes, end - run->events_end,
                              memory_order_relaxed);
    run->events_end = end;
    lock_take(&run->engine->lock);
    for (struct engine_watch *watch = run->active->watches; watch; watch = watch->next)
        if (watch->grew)
            watch->grew(watch, end);
    lock_drop(&run->engine->lock);
}

static int make_private_dir(struct task_run *run, struct err *err)
{
    const struct engine_config *config = &run->engine->config;
    const struct task_kind *kind = run->kind;
    const char *name = kind && kind->dir_name ? kind->dir_name(&run->record) : run->record.id;
    run->dir = path_join(run->engine->run_dir, name);
    run->keep_dir = path_join(run->engine->tasks_dir, run->record.id);
    if (!run->dir || !run->keep_dir)
        return err_sys(err, "workspace");
    /* A directory of the runner's own: the task cannot replace what root makes, mounts and renames
     * in it. */
    bool shared = config->uid != geteuid();
    if (path_remove_tree(run->dir, err) || path_make_dirs(run->dir, shared ? 0711 : 0700, err))
        return -1;
    return 0;
}

/* A task that had ended, and whose result has come, runs on. The `done` with which it was given up
 * is no end any more: whoever reads from the beginning finds one `done`, the last. An event says
 * what has happened. */
static int note_late(struct task_run *run, struct err *err)
{
    static const char late[] = "{\"message\":\"the task was given up; its result has come now\"}";
    AUTO(str) char *path = engine_events_path(run->engine, run->record.id);
    if (!path)
        return err_sys(err, "events");
    if (events_rename_last(path, "done", "lost", err))
        return -1;
    if (!events_end_with(path, "lost"))
        return 0;
    return events_add(run->events, "late", late, sizeof(late) - 1, err) ||
                   events_flush(run->events, err)
               ? -1
               : 0;
}

static int prepare(struct task_run *run, struct err *err)
{
    struct store *store = run->engine->config.store;
    run->kind = engine_kind(run->engine, run->record.kind);
    run->redact = redact_new();
    if (!run->redact)
        return err_sys(err, "task");
    if (!run->open && (run->active->adopted
                           ? store_secrets(store, run->record.id, &run->secrets, err)
                           : store_unseal(store, run->record.id, &run->sealed, &run->secrets, err)))
        return -1;
    run->events = run_begin_events(run->engine, &run->record, err);
    if (!run->events)
        return -1;
    if (run->active->adopted && note_late(run, err))
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

/* Removes secrets from an error, which goes to a log and to callers. */
static void clean_error(struct task_run *run, struct task_outcome *outcome)
{
    AUTO(buf) struct buf clean = BUF_INIT(4096);
    redact_text(run->redact, outcome->error, strlen(outcome->error), &clean);
    snprintf(outcome->error, sizeof(outcome->error), "%s", buf_str(&clean));
}

static bool is_kept(const struct task_run *run, const char *const names[])
{
    for (; *names; names++) {
        AUTO(str) char *path = path_join(run->keep_dir, *names);
        if (!path || access(path, F_OK) == 0) /* When it is unknown, assume that it is there. */
            return true;
    }
    return false;
}

/* Notes in the answer which files the task has left, so that callers need not ask for missing
 * ones. */
static void note_kept(const struct task_run *run, struct task_outcome *outcome)
{
    static const char *const transcript[] = {"transcript.jsonl", NULL};
    static const char *const outputs[] = {"outputs", "outputs.cloud", NULL};
    buf_addf(&outcome->members, ",\"has_transcript\":%s,\"has_outputs\":%s",
             is_kept(run, transcript) ? "true" : "false", is_kept(run, outputs) ? "true" : "false");
}

static void execute(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    const struct executor *away = run->engine->config.away;
    if (!run->kind) {
        err_set(&err, ERR_INTERNAL, "this runner has no tasks of kind '%s'", run->record.kind);
        fail_outcome(outcome, &err);
    } else if (run->active->place == PLACE_HERE) {
        run->kind->run(run, outcome, run->kind->arg);
    } else {
        away->run(run, outcome, away->arg);
    }
    if (events_flush(run->events, &err))
        task_run_fail(run, &err);
    if (run->unhealthy)
        fail_outcome(outcome, &run->trouble);
    clean_error(run, outcome);
    outcome->truncated |= events_truncated(run->events);
    outcome->exit_code = outcome_exit_code(outcome->reason, outcome->exit_code);
    note_kept(run, outcome);
}

/* Makes the final record and the answer once, for everybody who wants them. */
static void make_answer(struct task_run *run, const struct task_outcome *outcome,
                        const struct task_end *end)
{
    struct err err;
    struct task_record *record = &run->record;
    record->state = end->state;
    record->ended_ms = end->now_ms;
    record->place = run->active->place;
    snprintf(record->reason, sizeof(record->reason), "%s", end->reason);
    free(record->summary);
    record->summary = strdup(end->summary);
    if (!record->summary || run_print_answer(run->engine, record, &outcome->output,
                                             &outcome->errors, &run->answer, &err))
        buf_clear(&run->answer);
}

/* Stores the outcome, however long that takes: a task's result must not be lost. */
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
                           .errors = outcome->errors.len > 0 ? outcome->errors.data : NULL,
                           .errors_len = outcome->errors.len,
                           .conversation_kept = outcome->resumable,
                           .now_ms = clock_real_ms()};
    struct store *store = run->engine->config.store;
    int ended;
    while ((ended = store_end(store, run->active->id, 1u << TASK_RUNNING, &end, &err)) < 0) {
        struct err ignored;
        log_error("task", "cannot store the outcome: %s", err.msg);
        if (run->dir) /* The task's own files may be what fills the disk. */
            path_remove_tree(run->dir, &ignored);
        if (task_run_stop(run) == STOP_INTERRUPT)
            return;
        pause_before_retry(run);
    }
    if (ended == 1) {
        make_answer(run, outcome, &end);
        if (!outcome->may_change && !run->active->counted)
            numbers_ended(run->engine, run->active->kind, end.state, end.reason);
        if (!outcome->may_change)
            numbers_ran(run->engine, run->active->kind, duration_ms, &summary);
    }
}

/* Gives up the run's directory before the task's end is stored: the next task of its conversation
 * may want it then. */
static void leave_dir(struct task_run *run)
{
    AUTO(str) char *aside = NULL;
    if (!run->dir || asprintf(&aside, "%s/.%s", run->engine->run_dir, run->active->id) < 0)
        return;
    if (rename(run->dir, aside) == 0) {
        free(run->dir);
        run->dir = STEAL_PTR(aside);
        run->aside = true;
    } else if (errno != ENOENT) {
        log_warn("task", "cannot move '%s' aside: errno %d", run->dir, errno);
    }
}

/* Writes the last events. What cannot be written now is added when somebody reads. */
static void conclude(struct task_run *run)
{
    struct err err = run->trouble;
    struct engine *engine = run->engine;
    bool at_hand = run->events && run->answer.len > 0;
    if (run->events)
        events_tell(run->events, NULL, NULL); /* Watchers are told of the end itself. */
    if (run->unhealthy ||
        (at_hand ? run_add_last(engine, run->events, &run->record, &run->answer, &err)
                 : engine_mend_events(engine, run->active->id, &err)))
        log_warn("task", "the last event is missing for now: %s", err.msg);
}

static void log_end(const struct task_run *run, const struct task_outcome *outcome,
                    int64_t duration_ms)
{
    log_info("task", "%s%s%s after %lld ms%s%s", task_state_name(outcome->state),
             outcome->reason[0] ? ", " : "", outcome->reason, (long long)duration_ms,
             outcome->error[0] ? ": " : "", outcome->error);
    (void)run;
}

/* Leaves the directory, once it is aside, and the events' file to the engine's leavings. */
static void leave(struct task_run *run)
{
    struct err err;
    if (run->events)
        events_tell(run->events, NULL, NULL); /* The active task may be freed. */
    int events = events_release(run->events);
    char *aside = run->aside ? STEAL_PTR(run->dir) : NULL;
    if (aside || events >= 0)
        leavings_take(&run->engine->leavings, aside, events);
    if (run->dir && path_remove_tree(run->dir, &err))
        log_warn("task", "%s", err.msg);
}

static void clean_up(struct task_run *run)
{
    leave(run);
    redact_free(run->redact);
    buf_wipe(&run->secrets);
    buf_done(&run->sealed);
    buf_done(&run->answer);
    task_record_done(&run->record);
    free(run->dir);
    free(run->keep_dir);
}

/* Adds an event that tells followers why nothing will come for a while. */
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

/* Puts the task back to waiting, unless somebody wants it to end or that has happened too often. */
static bool pause_task(struct task_run *run, struct task_outcome *outcome)
{
    struct err err;
    struct store *store = run->engine->config.store;
    if (task_run_stop(run) == STOP_NO && run->record.attempts < PAUSES_MAX &&
        (outcome->refused ? store_refuse(store, run->active->id, &err)
                          : store_requeue(store, run->active->id, outcome->state, &err)) == 1) {
        log_info("task", "%s: %s", task_state_name(outcome->state), outcome->error);
        add_pause_event(run, outcome);
        return true;
    }
    outcome->state = TASK_FAILED;
    return false;
}

/* Keeps an interrupted task that may run again for the next start. */
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
        execute(run, outcome);
    else
        fail_outcome(outcome, &err);
    int64_t duration =
        run->active->adopted ? clock_real_ms() - run->record.started_ms : clock_mono_ms() - start;
    if (outcome->duration_ms > 0)
        duration = outcome->duration_ms;
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
    buf_init(&run.sealed, SECRETS_BYTES_MAX);
    buf_init(&run.secrets, SECRETS_BYTES_MAX);
    buf_init(&run.answer, ANSWER_BYTES_MAX);
    buf_init(&outcome.output, OUTPUT_BYTES_MAX);
    buf_init(&outcome.errors, OUTPUT_BYTES_MAX);
    buf_init(&outcome.members, MEMBERS_BYTES_MAX);
    log_set_task(active->id);
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lock_take(&engine->lock);
    active->wake_fd = run.wake_fd = wake_fd;
    active->started_ms = clock_real_ms();
    if (active->stop != STOP_NO) /* It was asked for when there was nothing to wake yet. */
        (void)!write(wake_fd, &(const uint64_t){1}, sizeof(uint64_t));
    lock_drop(&engine->lock);
    if (claim(&run))
        run_claimed(&run, &outcome);
    else /* It was cancelled before, or stays for the next start. */
        outcome.state = task_run_stop(&run) == STOP_INTERRUPT ? TASK_RUNNING : TASK_CANCELLED;
    if (task_state_is_active(outcome.state) && outcome.state != TASK_RUNNING) {
        clean_up(&run); /* First, because the task may be taken again at once. */
        engine_put_back(engine, active);
    } else {
        engine_retire(engine, active, outcome.state, run.answer.len > 0 ? &run.answer : NULL);
        clean_up(&run);
    }
    buf_done(&outcome.output);
    buf_done(&outcome.errors);
    buf_done(&outcome.members);
}
