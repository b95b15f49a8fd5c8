/* Runs: the queues of their callers, slots, and the calls of done(). */
#include "runner/python/core.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

/* --- one run ------------------------------------------------------------------------------- */

void python_request_done(struct python_request *request)
{
    free(request->code);
    free(request->input);
    strlist_done(&request->files);
    *request = (struct python_request){0};
}

void python_run_free(struct run *run)
{
    python_request_done(&run->request);
    python_outcome_done(&run->outcome);
    free(run->caller);
    free(run);
}

/* True when the text has the word, not as a part of a longer one. */
static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += len) {
        char before = at == text ? ' ' : at[-1], after = at[len];
        if (!strchr("_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", before) &&
            (after == '\0' || strchr(" .,;\n\r\t\\)", after)))
            return true;
    }
    return false;
}

/* Guesses the level from the imports. It is only a hint: the child imports a library that is not
 * loaded. */
enum python_level python_run_level(const char *code)
{
    static const struct {
        const char *word;
        enum python_level level;
    } hints[] = {{"sklearn", LEVEL_ALL}, {"matplotlib", LEVEL_ALL}, {"scipy", LEVEL_ALL},
                 {"sympy", LEVEL_ALL},   {"pandas", LEVEL_PANDAS},  {"numpy", LEVEL_NUMPY}};
    for (size_t i = 0; i < COUNT_OF(hints); i++)
        if (has_word(code, hints[i].word))
            return hints[i].level;
    return LEVEL_BARE;
}

static void add_modules(struct json_writer *w, const struct config *config)
{
    if (config->python_modules.count == 0) {
        json_add_null(w, "modules");
        return;
    }
    json_add_texts(w, "modules", &config->python_modules);
}

/* Prints the request that run.py's one() reads. */
void python_run_print_request(const struct run *run, const struct config *config, struct buf *out)
{
    struct json_writer w;
    const struct python_request *request = &run->request;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "code", request->code);
    json_add_int(&w, "memory_mb", request->memory_mb);
    json_add_bool(&w, "auto_print", request->auto_print);
    json_add_bool(&w, "result", request->result);
    json_add_bool(&w, "images", request->extras);
    json_add_bool(&w, "files_out", request->extras);
    json_add_bool(&w, "session", run->session != NULL);
    json_add_text(&w, "stdin", request->input);
    add_modules(&w, config);
    json_open_array(&w, "permitted"); /* A caller that sends files may have the code read them. */
    if (request->input)
        json_add_text(&w, NULL, "input");
    if (request->has_files)
        json_add_text(&w, NULL, "open");
    json_close(&w);
    json_open_array(&w, "files");
    for (size_t i = 0; i + 1 < request->files.count; i += 2) {
        json_open_array(&w, NULL);
        json_add_text(&w, NULL, request->files.items[i]);
        json_add_text(&w, NULL, request->files.items[i + 1]);
        json_close(&w);
    }
    json_close(&w);
    json_close(&w);
}

/* --- callers ------------------------------------------------------------------------------- */

/* The entry of a caller; callers beyond CALLERS_MAX share the last. */
static struct caller *find_caller(struct python *python, const char *name)
{
    for (int i = 0; i < CALLERS_MAX; i++) {
        struct caller *caller = &python->callers[i];
        if (!caller->name && !(caller->name = strdup(name)))
            return caller;
        if (strcmp(caller->name, name) == 0 || i == CALLERS_MAX - 1)
            return caller;
    }
    return NULL;
}

static void push(struct python *python, struct run *run)
{
    struct caller *caller = find_caller(python, run->caller);
    run->next = NULL;
    *caller->last = run;
    caller->last = &run->next;
    python->queued_count++;
}

/* Takes the run at *at out of the queue. */
static void take_out(struct python *python, struct caller *caller, struct run **at)
{
    struct run *run = *at;
    *at = run->next;
    if (!*at)
        caller->last = at;
    python->queued_count--;
}

/* True when a slot is free, or when the caller has none: such callers get slots up to twice the
 * number. */
static bool may_start(const struct python *python, const struct caller *caller)
{
    int slots = CONFIG_GET(python->config.config, python_slots);
    return python->running_count < slots ||
           (caller->running == 0 && python->running_count < 2 * slots);
}

/* --- ends ---------------------------------------------------------------------------------- */

static void unlink_running(struct python *python, struct run *run)
{
    struct run **at = &python->running;
    while (*at && *at != run)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = run->next;
    python->running_count--;
    struct caller *caller = find_caller(python, run->caller);
    if (caller)
        caller->running--;
}

static void log_end(const struct run *run)
{
    const struct python_outcome *outcome = &run->outcome;
    log_info("python", "run %llu of %s: %s in %lld us, %lld KiB", (unsigned long long)run->ticket,
             run->caller, python_status_name(outcome->status), (long long)outcome->took_us,
             (long long)outcome->peak_kib);
}

void python_run_finish(struct run *run)
{
    struct python *python = run->python;
    unlink_running(python, run);
    python->busy_ms = clock_mono_ms();
    atomic_fetch_add(&python->numbers.ended[run->outcome.status], 1);
    histogram_add(&python->numbers.took, run->outcome.took_us);
    log_end(run);
    if (run->session) {
        struct session *session = run->session;
        run->session = NULL;
        session->run = NULL;
        python_session_ran(session);
    }
    struct run **last = &python->finished; /* In the order of their ends. */
    while (*last)
        last = &(*last)->next;
    run->next = NULL;
    *last = run;
    python_wake(python);
}

void python_run_fail(struct run *run, const struct err *err)
{
    run->outcome.status = PYTHON_FAILED;
    run->outcome.err = *err;
    run->outcome.exit_code = -1;
    python_run_finish(run);
}

void python_run_lost(struct run *run)
{
    struct err err;
    struct python *python = run->python;
    err_set(&err, ERR_BUSY, "the process that ran the code was killed from outside");
    bool again = run->begun ? run->losses == 0 : run->losses < LOSSES_MAX;
    if (!again || run->cancelled || run->timed_out || (run->session && !run->fresh) ||
        python->stopping) {
        python_run_fail(run, &err);
        return;
    }
    atomic_fetch_add(&python->numbers.again, 1);
    unlink_running(python, run);
    python_outcome_done(&run->outcome);
    run->losses++;
    run->begun = run->told_end = run->told_memory = false;
    run->frame_bytes = 0;
    push(python, run);
    python_wake(python);
}

void runs_fail_all(struct python *python, const struct err *err, bool running_too)
{
    for (int i = 0; i < CALLERS_MAX; i++) {
        struct caller *caller = &python->callers[i];
        while (caller->first) {
            struct run *run = caller->first;
            take_out(python, caller, &caller->first);
            python_run_fail(run, err);
        }
    }
    while (running_too && python->running) {
        struct run *run = python->running;
        if (run->kid)
            run->kid->run = NULL;
        python_run_fail(run, err);
    }
}

/* --- dispatch ------------------------------------------------------------------------------ */

static struct kid *find_kid(struct python *python, const struct run *run)
{
    if (run->session && run->session->kid)
        return run->session->kid->state == KID_IDLE ? run->session->kid : NULL;
    return kid_standby(python, run->level);
}

static void start(struct python *python, struct caller *caller, struct run **at, struct kid *kid)
{
    struct run *run = *at;
    enum python_level level = kid->level;
    take_out(python, caller, at);
    run->next = python->running;
    python->running = run;
    python->running_count++;
    caller->running++;
    python->busy_ms = python->zygotes[level].used_ms = python->zygotes[level].ran_ms =
        clock_mono_ms();
    histogram_add(&python->numbers.waited, clock_mono_us() - run->started_us);
    kid_begin(kid, run);
    if (!kid_standby(python, level))
        kids_fill(python, level);
}

/* Starts the first run of a caller that can begin now. */
static bool start_for(struct python *python, struct caller *caller)
{
    for (struct run **at = &caller->first; *at && may_start(python, caller); at = &(*at)->next) {
        struct run *run = *at;
        struct kid *kid = find_kid(python, run);
        if (kid) {
            start(python, caller, at, kid);
            return true;
        }
        if (python->zygotes[run->level].state == ZYGOTE_READY)
            kids_fill(python, run->level);
        else
            zygote_want(python, run->level);
    }
    return false;
}

void runs_dispatch(struct python *python)
{
    bool progress = python->queued_count > 0 && !python->stopping;
    while (progress) {
        progress = false;
        for (int i = 0; i < CALLERS_MAX && !progress; i++) {
            int turn = (python->turn + i) % CALLERS_MAX;
            if (python->callers[turn].first && start_for(python, &python->callers[turn])) {
                python->turn = turn + 1;
                progress = true;
            }
        }
    }
}

/* --- clocks -------------------------------------------------------------------------------- */

void runs_tick(struct python *python, int64_t now_ms)
{
    for (struct run *run = python->running; run; run = run->next) {
        if (!run->kid || run->kid->state == KID_ENDING)
            continue;
        if (run->kill_ms && now_ms > run->kill_ms) {
            kid_kill(run->kid);
        } else if (now_ms > run->deadline_ms && !run->timed_out) {
            run->timed_out = true;
            if (run->session) { /* Try to save its namespace. */
                kid_interrupt(run->kid);
                run->kill_ms = now_ms + INTERRUPT_MS;
            } else {
                kid_stop(run->kid);
                run->kill_ms = now_ms + STOP_MS;
            }
        }
    }
}

/* --- asking -------------------------------------------------------------------------------- */

static int check_room(struct python *python, const char *caller, const char *session,
                      struct run *run, struct err *err)
{
    if (python->why[0])
        return err_set(err, ERR_BUSY, "Python can't be run here: %s", python->why);
    if (python->stopping)
        return err_set(err, ERR_BUSY, "the runner is shutting down");
    if (clock_mono_ms() < python->hold_until_ms) {
        *err = python->last_failure;
        return -1;
    }
    if (python->queued_count >= PYTHON_QUEUE_MAX)
        return err_set(err, ERR_RATE, "%d Python runs wait already", PYTHON_QUEUE_MAX);
    if (!session)
        return 0;
    run->session = python_session_find(python, caller, session);
    if (!run->session)
        return err_set(err, ERR_NOT_FOUND, "there is no Python session '%.70s'", session);
    if (run->session->run) {
        run->session = NULL;
        return err_set(err, ERR_CONFLICT, "the session runs something already");
    }
    return 0;
}

static struct run *run_new(struct python *python, struct python_request *request,
                           const char *caller)
{
    struct run *run = calloc(1, sizeof(*run));
    char *name = strdup(caller);
    if (!run || !name) {
        free(run);
        free(name);
        return NULL;
    }
    run->python = python;
    run->caller = name;
    run->request = *request;
    *request = (struct python_request){0};
    run->level = python_run_level(run->request.code);
    run->started_us = clock_mono_us();
    buf_init(&run->outcome.out, PYTHON_OUTPUT_MAX + 1);
    buf_init(&run->outcome.errors, PYTHON_OUTPUT_MAX + 1);
    return run;
}

uint64_t python_run(struct python *python, struct python_request *request, const char *caller,
                    const char *session, python_done_fn *done, void *arg, struct err *err)
{
    REQUIRE(caller && done);
    struct run *run = run_new(python, request, caller);
    if (!run) {
        python_request_done(request);
        err_sys(err, "a Python run");
        return 0;
    }
    run->done = done;
    run->arg = arg;
    lock_take(&python->lock);
    if (check_room(python, caller, session, run, err)) {
        lock_drop(&python->lock);
        python_run_free(run);
        return 0;
    }
    uint64_t ticket = run->ticket = ++python->last_ticket;
    if (run->session) {
        run->session->run = run;
        run->session->shown.runs++;
        run->request.memory_mb = run->session->shown.memory_mb;
    }
    bool first = python->running_count + python->queued_count == 0;
    push(python, run);
    runs_dispatch(python);
    lock_drop(&python->lock);
    if (first)
        python_wake(python); /* The thread may be waiting without a time limit. */
    return ticket;
}

void python_cancel(struct python *python, uint64_t ticket)
{
    struct err err;
    err_set(&err, ERR_CONFLICT, "cancelled");
    lock_take(&python->lock);
    for (struct run *run = python->running; run; run = run->next)
        if (run->ticket == ticket) {
            run->cancelled = true;
            atomic_fetch_add(&python->numbers.cancelled, 1);
            if (run->kid)
                kid_kill(run->kid);
            break;
        }
    for (int i = 0; i < CALLERS_MAX; i++)
        for (struct run **at = &python->callers[i].first; *at; at = &(*at)->next)
            if ((*at)->ticket == ticket) {
                struct run *run = *at;
                atomic_fetch_add(&python->numbers.cancelled, 1);
                take_out(python, &python->callers[i], at);
                python_run_fail(run, &err);
                i = CALLERS_MAX;
                break;
            }
    lock_drop(&python->lock);
}
