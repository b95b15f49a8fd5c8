#include "runner/cloudbox/visit.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/cloudbox/carry.h"
#include "runner/cloudbox/visit_box.h"
#include "runner/request/request.h"
#include "runner/session/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIECE_BYTES 16384u
#define TEXT_MAX (16u << 20) /* of each stream, in the answer: as at home */
#define ENV_BYTES_MAX (2u << 20)
#define LOOK_MS 1000

/* One of the command's two outputs on its way. */
struct flow {
    const char *event;
    bool of_err;
    int64_t at;
    struct buf held; /* may end within a character */
    struct buf *text;
};

struct visit {
    const struct visit_config *config;
    struct task_run *run;
    struct task_outcome *outcome;
    struct task_request *request;
    struct json *wish;
    struct visit_box box;
    struct box_state state; /* owned once `pulled` */
    bool pulled;
    struct manifest before;
    struct sessions *sessions;
    struct exec *command;
    struct flow flows[2];
    int bell; /* rings when the command has said something */
    char marker[128];
};

/* --- the outcome --------------------------------------------------------------------------- */

static void settle(struct task_outcome *outcome, enum task_state state, int exit_code,
                   const char *reason, const char *error)
{
    outcome->state = state;
    outcome->exit_code = exit_code;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

static void settle_failure(struct visit *visit, const struct err *err)
{
    enum task_stop stop = task_run_stop(visit->run);
    if (stop == STOP_CANCEL)
        settle(visit->outcome, TASK_CANCELLED, 130, "cancelled", "the command was cancelled");
    else if (stop == STOP_INTERRUPT)
        settle(visit->outcome, TASK_FAILED, 1, "interrupted",
               "the execution was stopped; the session is as it was before");
    else
        settle(visit->outcome, TASK_FAILED, 1,
               err->code == ERR_MISMATCH   ? "conflict"
               : err->code == ERR_NO_SPACE ? "disk_full"
                                           : "session_error",
               err->msg);
}

static void settle_end(struct visit *visit, const struct buf *end)
{
    int64_t exit_code = 0;
    bool timed_out = false;
    struct err ignored;
    char error[80];
    AUTO(json) struct json *said = json_parse(buf_str(end), end->len, &ignored);
    json_int(json_get(said, "exit_code"), &exit_code);
    json_bool(json_get(said, "timed_out"), &timed_out);
    json_bool(json_get(said, "truncated"), &visit->outcome->truncated);
    buf_addf(&visit->outcome->members, ",\"session\":%s", buf_str(end));
    snprintf(error, sizeof(error), "the command ended with exit status %lld", (long long)exit_code);
    if (timed_out)
        settle(visit->outcome, TASK_FAILED, 124, "timeout",
               "the command did not end within its time limit");
    else if (exit_code == 0)
        settle(visit->outcome, TASK_COMPLETED, 0, "", "");
    else
        settle(visit->outcome, TASK_FAILED, exit_code > 0 && exit_code < 256 ? (int)exit_code : 1,
               "exit_status", error);
}

/* --- output -------------------------------------------------------------------------------- */

/* Bytes at the beginning that end with a whole character. */
static size_t whole_characters(const struct buf *held)
{
    for (size_t back = 1; back <= 3 && back <= held->len; back++) {
        unsigned char c = (unsigned char)held->data[held->len - back];
        size_t needs = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if ((c & 0xc0) == 0x80)
            continue;
        return needs > back ? held->len - back : held->len;
    }
    return held->len;
}

static void pass_on(struct visit *visit, struct flow *flow, size_t len)
{
    AUTO(buf) struct buf json = BUF_INIT(12 * PIECE_BYTES + 64);
    size_t room = flow->text->len < TEXT_MAX ? TEXT_MAX - flow->text->len : 0;
    if (len == 0)
        return;
    buf_add(flow->text, flow->held.data, len < room ? len : room);
    buf_adds(&json, "{\"text\":\"");
    str_add_json(&json, flow->held.data, len);
    buf_adds(&json, "\"}");
    if (buf_ok(&json))
        task_run_event(visit->run, flow->event, json.data, json.len);
    buf_drop(&flow->held, len);
}

/* What there is by now; at the end (`last`) all of it. */
static void drain(struct visit *visit, bool last)
{
    for (size_t i = 0; i < COUNT_OF(visit->flows); i++) {
        struct flow *flow = &visit->flows[i];
        size_t n;
        while ((n = exec_read(visit->command, flow->of_err, flow->at, PIECE_BYTES, &flow->held)) >
               0) {
            flow->at += (int64_t)n;
            pass_on(visit, flow, whole_characters(&flow->held));
        }
        if (last)
            pass_on(visit, flow, flow->held.len);
    }
}

/* --- the command --------------------------------------------------------------------------- */

static void ring(void *arg)
{
    const struct visit *visit = arg;
    uint64_t one = 1;
    (void)!write(visit->bell, &one, sizeof(one));
}

static void on_done(struct exec *command, void *arg)
{
    (void)command;
    ring(arg);
}

static int start(struct visit *visit, struct err *err)
{
    const char *shell = json_text(json_get(visit->wish, "shell"));
    int64_t timeout_ms = visit->request->timeout_ms;
    json_int(json_get(visit->wish, "timeoutMs"), &timeout_ms);
    const struct exec_watch watch = {.changed = ring, .done = on_done, .arg = visit};
    const struct exec_wish wish = {.text = visit->request->command,
                                   .shell = shell,
                                   .cwd = visit->box.cwd,
                                   .timeout_ms = timeout_ms};
    visit->command = exec_start(visit->sessions, visit->box.place.id, &wish, &watch, err);
    return visit->command ? 0 : -1;
}

/* Until it has ended. -1 when somebody wants it to stop: what it did is not kept. */
static int follow(struct visit *visit, struct err *err)
{
    int exit;
    uint64_t count;
    struct pollfd waits[] = {{.fd = visit->bell, .events = POLLIN},
                             {.fd = task_run_wake_fd(visit->run), .events = POLLIN}};
    for (;;) {
        bool ended = exec_exit(visit->command, &exit); /* first: the output is whole then */
        if (task_run_stop(visit->run) != STOP_NO || !task_run_healthy(visit->run)) {
            exec_kill(visit->command);
            return err_set(err, ERR_BUSY, "the command was stopped");
        }
        drain(visit, ended);
        if (ended)
            return exec_failed(visit->command, err) ? -1 : 0;
        if (poll(waits, COUNT_OF(waits), LOOK_MS) > 0 && waits[0].revents)
            (void)!read(visit->bell, &count, sizeof(count));
    }
}

/* What the default shell exports now; as it was when that cannot be said. */
static void learn_env(struct visit *visit)
{
    struct err err;
    AUTO(buf) struct buf ask = BUF_INIT(64), env = BUF_INIT(ENV_BYTES_MAX);
    if (session_work(visit->sessions, visit->box.place.id, "env", &ask, &env, &err)) {
        log_warn("session", "the environment is not known: %s", err.msg);
        return;
    }
    AUTO(json) struct json *read = json_parse(buf_str(&env), env.len, &err);
    if (read && json_type(read) == JSON_OBJECT)
        str_replace(&visit->state.env, buf_str(&env));
}

static int run_command(struct visit *visit, struct buf *end, struct err *err)
{
    const struct visit_config *config = visit->config;
    const struct sessions_config sessions = {.config = config->config,
                                             .launcher = config->launcher,
                                             .walls = config->walls,
                                             .repos = config->repos,
                                             .state_dir = config->state_dir,
                                             .marker = visit->marker,
                                             .uid = config->uid,
                                             .gid = config->gid};
    snprintf(visit->marker, sizeof(visit->marker), TASK_MARKER "=%s", config->instance);
    visit->sessions = sessions_new(&sessions, err);
    if (!visit->sessions || start(visit, err) || follow(visit, err))
        return -1;
    exec_print_end(visit->command, end);
    learn_env(visit);
    return visit_box_note(&visit->box, &visit->state, buf_str(end), end->len, err);
}

/* --- all of it ----------------------------------------------------------------------------- */

static bool is_stopped(void *run)
{
    return task_run_stop(run) != STOP_NO;
}

static int load(struct visit *visit, struct err *err)
{
    const struct task_record *record = task_run_record(visit->run);
    const char *secrets = task_run_secrets(visit->run);
    visit->request = task_request_load(record->request, strlen(record->request),
                                       *secrets ? secrets : NULL, strlen(secrets), err);
    if (!visit->request)
        return -1;
    const struct task_request *request = visit->request;
    if (!*visit->config->cloud)
        return err_set(err, ERR_CONFIG, "commands of cloud sessions run in the cloud only");
    if (!request->command || !request->in_session || !request->metadata)
        return err_set(err, ERR_INTERNAL, "the task is no command of a session");
    visit->wish = json_parse(request->metadata, strlen(request->metadata), err);
    return visit->wish ? 0 : -1;
}

static int prepare(struct visit *visit, struct err *err)
{
    struct carry_count count;
    const struct visit_config *config = visit->config;
    const struct carry_place place = {.cloud = *config->cloud,
                                      .id = visit->request->in_session,
                                      .uid = config->uid,
                                      .gid = config->gid,
                                      .stopped = is_stopped,
                                      .arg = visit->run};
    if (visit_box_open(&visit->box, &place, config->state_dir, err) ||
        carry_pull(&visit->box.place, &visit->state, &count, err))
        return -1;
    visit->pulled = true;
    log_info("session", "%d layers of %lld bytes were fetched", count.layers,
             (long long)count.bytes);
    return carry_begin(&visit->box.place, &visit->before, err) ||
                   visit_box_describe(&visit->box, visit->request, &visit->state, visit->wish, err)
               ? -1
               : 0;
}

/* Nobody is in the box any more. */
static void end_session(struct visit *visit)
{
    exec_unref(visit->command);
    sessions_free(visit->sessions);
    visit->command = NULL;
    visit->sessions = NULL;
}

static int store(struct visit *visit, struct err *err)
{
    struct carry_count count = {0};
    const struct task_record *record = task_run_record(visit->run);
    snprintf(visit->state.last_task, sizeof(visit->state.last_task), "%s", record->id);
    visit_box_leave(visit->box.place.dir);
    if (carry_push(&visit->box.place, &visit->before, &visit->state, &count, err))
        return err->code == ERR_MISMATCH
                   ? err_set(err, ERR_MISMATCH,
                             "the session was changed or removed while the command ran: what it "
                             "did is not kept")
                   : err_wrap(err, "what the command did is not kept");
    log_info("session", "%lld bytes were stored", (long long)count.bytes);
    return 0;
}

static void visit_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    AUTO(buf) struct buf end = BUF_INIT(65536);
    struct visit visit = {.config = arg, .run = run, .outcome = outcome};
    visit.flows[0] = (struct flow){"stdout", false, 0, BUF_INIT(2 * PIECE_BYTES), &outcome->output};
    visit.flows[1] = (struct flow){"stderr", true, 0, BUF_INIT(2 * PIECE_BYTES), &outcome->errors};
    visit.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = visit.bell < 0
                 ? err_sys(&err, "session")
                 : load(&visit, &err) || prepare(&visit, &err) || run_command(&visit, &end, &err);
    end_session(&visit);
    if (rc == 0)
        rc = store(&visit, &err);
    if (rc == 0)
        settle_end(&visit, &end);
    else
        settle_failure(&visit, &err);
    if (visit.pulled)
        box_state_done(&visit.state);
    visit_box_close(&visit.box);
    manifest_done(&visit.before);
    buf_done(&visit.flows[0].held);
    buf_done(&visit.flows[1].held);
    json_free(visit.wish);
    task_request_free(visit.request);
    fd_close(&visit.bell);
}

/* --- the kind ------------------------------------------------------------------------------ */

static void print_said(const struct buf *output, const struct buf *errors, struct buf *out)
{
    buf_adds(out, "\"stdout\":\"");
    str_add_json(out, buf_str(output), output->len);
    buf_adds(out, "\",\"stderr\":\"");
    str_add_json(out, buf_str(errors), errors->len);
    buf_addc(out, '"');
}

const struct task_kind visit_kind = {
    .name = VISIT_KIND, .fields = REQUEST_COMMAND, .run = visit_run, .print_said = print_said};
