#include "runner/oauth/login_flow.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "runner/oauth/adopt.h"
#include "runner/oauth/login_cli.h"
#include "runner/work/work.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define URL_WAIT_MS 10000
#define CODE_WAIT_MS 8000
#define CANCEL_WAIT_MS 5000
#define WAITERS_MAX                                                                           \
    4                  /* each holds an HTTP worker; further callers get the present state at \
                        * once */
#define CODES_MAX 10   /* codes that one login may try */
#define SETTLE_MS 1000 /* a CLI that still runs this long after a complaint wants another code */

struct login_flow {
    struct login_flow_config config;
    int wake_fd; /* eventfd: there is a command */

    struct lock lock;     /* guards the fields below; never held across I/O */
    pthread_cond_t moved; /* signalled when the state has changed */
    struct login_flow_view view;
    struct thread thread;
    int waiters;
    int codes;
    char code[LOGIN_FLOW_CODE_MAX + 2]; /* a command: the code with its line end; "" for none */
    bool cancel;                        /* a command: end the login */
    _Atomic bool stopping;              /* also read without the lock */
};

static const char *const state_names[] = {
#define LOGIN_FLOW_STATE_WIRE(name, wire) wire,
    LOGIN_FLOW_STATES(LOGIN_FLOW_STATE_WIRE)
#undef LOGIN_FLOW_STATE_WIRE
};

const char *login_flow_state_name(enum login_flow_state state)
{
    return state_names[state];
}

bool login_flow_state_is_active(enum login_flow_state state)
{
    return state == LOGIN_FLOW_STARTING || state == LOGIN_FLOW_AWAITING_CODE ||
           state == LOGIN_FLOW_VERIFYING;
}

/* --- the thread's side --------------------------------------------------------------------- */

/* One running login. */
struct login_run {
    struct login_flow *flow;
    struct login_cli cli;
    struct work_result result;
    bool gave_up;          /* too many codes were refused */
    int64_t complained_ms; /* mono: when it wrote an error line after the code; 0: it has not */
    size_t heeded;         /* error bytes that had been read when the code was sent */
};

static void move(struct login_flow *flow, enum login_flow_state state, const char *reason)
{
    AUTO(buf) struct buf clean = BUF_INIT(sizeof(flow->view.reason) * 4);
    redact_text(flow->config.secrets, reason, strlen(reason), &clean);
    lock_take(&flow->lock);
    flow->view.state = state;
    snprintf(flow->view.reason, sizeof(flow->view.reason), "%s", buf_str(&clean));
    if (!login_flow_state_is_active(state))
        flow->view.url[0] = '\0';
    pthread_cond_broadcast(&flow->moved);
    lock_drop(&flow->lock);
}

/* Carries out callers' commands: a code goes to the CLI, a cancel ends it. */
static enum work_cause take_orders(struct work *work, void *arg)
{
    struct login_run *run = arg;
    struct login_flow *flow = run->flow;
    char code[sizeof(flow->code)];
    uint64_t count;
    (void)!read(flow->wake_fd, &count, sizeof(count));
    lock_take(&flow->lock);
    bool cancel = flow->cancel || flow->stopping;
    memcpy(code, flow->code, sizeof(code));
    explicit_bzero(flow->code, sizeof(flow->code));
    lock_drop(&flow->lock);
    if (code[0] && !cancel) {
        run->heeded = run->cli.errors.len;
        run->complained_ms = 0;
        /* Far less than a pipe's buffer, so it does not block; when the CLI is gone, its own event
         * says so. */
        (void)!work_write(work, code, strlen(code));
    }
    explicit_bzero(code, sizeof(code));
    return cancel ? WORK_CANCEL : WORK_ENDED;
}

static void take_said(struct work *work, const char *data, size_t len, void *arg)
{
    struct login_run *run = arg;
    (void)work;
    login_cli_add(&run->cli.said, data, len);
}

static void take_errors(struct work *work, const char *data, size_t len, void *arg)
{
    struct login_run *run = arg;
    (void)work;
    login_cli_add(&run->cli.errors, data, len);
}

static enum login_flow_state state_of(struct login_flow *flow)
{
    lock_take(&flow->lock);
    enum login_flow_state state = flow->view.state;
    lock_drop(&flow->lock);
    return state;
}

static void heed_url(struct login_run *run)
{
    struct login_flow *flow = run->flow;
    char url[sizeof(flow->view.url)];
    if (!login_cli_find_url(&run->cli, url, sizeof(url)))
        return;
    login_cli_hide_state(url, flow->config.secrets);
    lock_take(&flow->lock);
    memcpy(flow->view.url, url, sizeof(url));
    lock_drop(&flow->lock);
    move(flow, LOGIN_FLOW_AWAITING_CODE, "");
}

/* Handles a complaint: the CLI then ends in a moment, or asks for the code again. Returns how long
 * to wait before looking again, or -1. */
static int64_t heed_complaint(struct work *work, struct login_run *run)
{
    char reason[240];
    int64_t now = clock_mono_ms();
    if (!login_cli_complaint(&run->cli, run->heeded, reason, sizeof(reason)))
        return -1;
    if (!run->complained_ms)
        run->complained_ms = now;
    if (now - run->complained_ms < SETTLE_MS)
        return SETTLE_MS - (now - run->complained_ms);
    run->heeded = run->cli.errors.len;
    run->complained_ms = 0;
    lock_take(&run->flow->lock);
    bool again = run->flow->codes < CODES_MAX;
    lock_drop(&run->flow->lock);
    if (again)
        move(run->flow, LOGIN_FLOW_AWAITING_CODE, reason);
    run->gave_up = !again;
    if (!again)
        work_end(work, WORK_CANCEL);
    return -1;
}

/* Handles the CLI's output. Returns how long to wait before looking again, or -1. */
static int64_t heed_output(struct work *work, void *arg)
{
    struct login_run *run = arg;
    enum login_flow_state state = state_of(run->flow);
    if (state == LOGIN_FLOW_STARTING)
        heed_url(run);
    else if (state == LOGIN_FLOW_VERIFYING && !work_is_ending(work))
        return heed_complaint(work, run);
    return -1;
}

/* The CLI has finished: its login becomes the owner's. */
static int take_over(struct login_run *run, struct err *err)
{
    struct keeper_status status;
    struct login_flow *flow = run->flow;
    AUTO(config_ref) const struct config *config = config_ref(flow->config.config);
    AUTO(str) char *from = login_cli_credentials(&run->cli);
    AUTO(str) char *to = path_join(config->claude_config_dir, ".credentials.json");
    if (!from || !to)
        return err_sys(err, "login");
    if (path_make_dirs(config->claude_config_dir, 0700, err) ||
        adopt_login(from, to, &flow->stopping, err))
        return -1;
    keeper_look(flow->config.keeper);
    keeper_status(flow->config.keeper, &status);
    return status.state == LOGIN_OK
               ? 0
               : err_set(err, ERR_LOGIN, "%s", login_state_sentence(status.state));
}

/* Decides the outcome. */
static enum login_flow_state judge(struct login_run *run, char *reason, size_t size)
{
    struct err err;
    reason[0] = '\0';
    static const enum login_flow_state ends[] = {
        [WORK_CANCEL] = LOGIN_FLOW_CANCELLED, [WORK_TIMEOUT] = LOGIN_FLOW_EXPIRED};
    enum work_cause cause = run->result.cause;
    /* However it ended, the code is used up. */
    if (login_cli_succeeded(&run->cli, run->result.status)) {
        if (take_over(run, &err) == 0)
            return LOGIN_FLOW_SUCCEEDED;
        snprintf(reason, size, "%s", err.msg);
        return LOGIN_FLOW_FAILED;
    }
    if (cause != WORK_ENDED && !run->gave_up)
        return ends[cause];
    if (!login_cli_complaint(&run->cli, 0, reason, size))
        snprintf(reason, size, "the Claude CLI ended without a word");
    return LOGIN_FLOW_FAILED;
}

static void end(struct login_flow *flow, enum login_flow_state state, const char *reason)
{
    if (state == LOGIN_FLOW_FAILED)
        log_warn("oauth", "the login failed: %s", reason);
    else
        log_info("oauth", "the login %s",
                 state == LOGIN_FLOW_SUCCEEDED   ? "succeeded"
                 : state == LOGIN_FLOW_CANCELLED ? "was cancelled"
                                                 : "took too long");
    move(flow, state, reason); /* Last, because another login may begin now. */
}

static int run_cli(struct login_run *run, const struct config *config, struct err *err)
{
    struct login_flow *flow = run->flow;
    int64_t deadline = clock_mono_ms() + (int64_t)config->login_deadline_seconds * 1000;
    if (login_cli_prepare(&run->cli, config, flow->config.marker, err))
        return -1;
    const struct work_order order = {
        .launcher = flow->config.launcher,
        .plan = run->cli.plan,
        .in = {.via = WORK_PIPE},
        .out = {.via = WORK_PIPE, .take = take_said},
        .errors = {.via = WORK_PIPE, .take = take_errors},
        .limits = {.until_ms = deadline},
        .stop = {.wake_fd = flow->wake_fd, .asked = take_orders, .arg = run},
        .at_once = true,
        .look = heed_output,
        .arg = run};
    return work_run(&order, &run->result, err);
}

static void *run_login(void *arg)
{
    struct err err;
    char reason[240];
    struct login_flow *flow = arg;
    struct login_run run = {.flow = flow};
    AUTO(config_ref) const struct config *config = config_ref(flow->config.config);
    log_info("oauth", "a login has begun");
    login_cli_init(&run.cli);
    enum login_flow_state state = LOGIN_FLOW_FAILED;
    if (run_cli(&run, config, &err) == 0)
        state = judge(&run, reason, sizeof(reason));
    else
        snprintf(reason, sizeof(reason), "%s", err.msg);
    login_cli_done(&run.cli); /* Cleaned up before anybody learns of the end. */
    end(flow, state, reason);
    return NULL;
}

/* --- the callers' side --------------------------------------------------------------------- */

/* Waits while the state is `state`. */
static void wait_locked(struct login_flow *flow, bool (*is_waiting)(enum login_flow_state state),
                        int64_t ms) HOLDS(flow->lock);
static void wait_locked(struct login_flow *flow, bool (*is_waiting)(enum login_flow_state state),
                        int64_t ms)
{
    int64_t deadline = clock_mono_ms() + ms, left;
    if (flow->waiters >= WAITERS_MAX)
        return;
    flow->waiters++;
    while (is_waiting(flow->view.state) && !flow->stopping &&
           (left = deadline - clock_mono_ms()) > 0)
        lock_wait(&flow->moved, &flow->lock, left);
    flow->waiters--;
}

static bool is_starting(enum login_flow_state state)
{
    return state == LOGIN_FLOW_STARTING;
}

static bool is_verifying(enum login_flow_state state)
{
    return state == LOGIN_FLOW_VERIFYING;
}

static void wake(struct login_flow *flow)
{
    const uint64_t one = 1;
    (void)!write(flow->wake_fd, &one, sizeof(one));
}

/* Takes over the record of the last login, which has ended. */
static void claim_locked(struct login_flow *flow) HOLDS(flow->lock);
static void claim_locked(struct login_flow *flow)
{
    AUTO(config_ref) const struct config *config = config_ref(flow->config.config);
    flow->view = (struct login_flow_view){
        .state = LOGIN_FLOW_STARTING,
        .expires_ms = clock_real_ms() + (int64_t)config->login_deadline_seconds * 1000};
    id_new(flow->view.id);
    flow->cancel = false;
    flow->codes = 0;
    explicit_bzero(flow->code, sizeof(flow->code));
}

/* Starts the login's thread. The state is STARTING, so no other caller gets here meanwhile. */
static int start_locked(struct login_flow *flow, struct err *err) HOLDS(flow->lock);
static int start_locked(struct login_flow *flow, struct err *err)
{
    claim_locked(flow);
    lock_drop(&flow->lock);
    thread_join(&flow->thread); /* The last login's thread, which has nothing more to do. */
    int rc = thread_start(&flow->thread, "login", THREAD_STACK_DEFAULT, run_login, flow, err);
    lock_take(&flow->lock);
    if (rc)
        flow->view.state = LOGIN_FLOW_FAILED;
    return rc;
}

int login_flow_begin(struct login_flow *flow, struct login_flow_view *ret_view, struct err *err)
{
    int rc = 0;
    lock_take(&flow->lock);
    if (flow->stopping)
        rc = err_set(err, ERR_BUSY, "the runner is shutting down");
    else if (!flow->view.id[0] || !login_flow_state_is_active(flow->view.state))
        rc = start_locked(flow, err);
    if (rc == 0) {
        wait_locked(flow, is_starting, URL_WAIT_MS);
        *ret_view = flow->view;
    }
    lock_drop(&flow->lock);
    return rc;
}

static int find_locked(const struct login_flow *flow, const char *id, struct err *err)
    HOLDS(flow->lock);
static int find_locked(const struct login_flow *flow, const char *id, struct err *err)
{
    if (flow->view.id[0] && (!id || strcmp(id, flow->view.id) == 0))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "there is no such login");
}

int login_flow_get(struct login_flow *flow, const char *id, struct login_flow_view *ret_view,
                   struct err *err)
{
    lock_take(&flow->lock);
    int rc = find_locked(flow, id, err);
    if (rc == 0)
        *ret_view = flow->view;
    lock_drop(&flow->lock);
    return rc;
}

/* The code without surrounding white space, which the caller frees; NULL when it cannot be a
 * code. */
static char *trim_code(const char *code)
{
    code += strspn(code, " \t\r\n");
    size_t len = strlen(code);
    while (len > 0 && strchr(" \t\r\n", code[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)code[i] <= ' ' || (unsigned char)code[i] > '~')
            return NULL;
    return len > 0 && len <= LOGIN_FLOW_CODE_MAX ? strndup(code, len) : NULL;
}

static int give_code_locked(struct login_flow *flow, const char *id, const char *code,
                            struct err *err) HOLDS(flow->lock);
static int give_code_locked(struct login_flow *flow, const char *id, const char *code,
                            struct err *err)
{
    if (find_locked(flow, id, err))
        return -1;
    if (!login_flow_state_is_active(flow->view.state))
        return err_set(err, ERR_CONFLICT, "the login has ended (%s); begin another",
                       login_flow_state_name(flow->view.state));
    if (flow->view.state != LOGIN_FLOW_AWAITING_CODE)
        return err_set(err, ERR_CONFLICT, "the login does not wait for a code (%s)",
                       login_flow_state_name(flow->view.state));
    login_cli_hide_code(code, flow->config.secrets);
    flow->codes++;
    snprintf(flow->code, sizeof(flow->code), "%s\n", code);
    flow->view.state = LOGIN_FLOW_VERIFYING;
    flow->view.reason[0] = '\0';
    wake(flow);
    return 0;
}

int login_flow_code(struct login_flow *flow, const char *id, const char *code,
                    struct login_flow_view *ret_view, struct err *err)
{
    AUTO(str) char *trimmed = trim_code(code);
    if (!trimmed)
        return err_set(err, ERR_INVALID, "code must be 1..%d printable characters without spaces",
                       LOGIN_FLOW_CODE_MAX);
    lock_take(&flow->lock);
    int rc = give_code_locked(flow, id, trimmed, err);
    if (rc == 0) {
        wait_locked(flow, is_verifying, CODE_WAIT_MS);
        *ret_view = flow->view;
    }
    lock_drop(&flow->lock);
    explicit_bzero(trimmed, strlen(trimmed));
    return rc;
}

int login_flow_cancel(struct login_flow *flow, const char *id, struct login_flow_view *ret_view,
                      struct err *err)
{
    lock_take(&flow->lock);
    int rc = find_locked(flow, id, err);
    if (rc == 0 && login_flow_state_is_active(flow->view.state)) {
        flow->cancel = true;
        wake(flow);
        wait_locked(flow, login_flow_state_is_active, CANCEL_WAIT_MS);
    }
    if (rc == 0)
        *ret_view = flow->view;
    lock_drop(&flow->lock);
    return rc;
}

/* --- life ---------------------------------------------------------------------------------- */

struct login_flow *login_flow_new(const struct login_flow_config *config, struct err *err)
{
    struct login_flow *flow = calloc(1, sizeof(*flow));
    if (!flow) {
        err_sys(err, "login");
        return NULL;
    }
    flow->config = *config;
    lock_init(&flow->lock);
    cond_init(&flow->moved);
    flow->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (flow->wake_fd < 0) {
        err_sys(err, "login");
        login_flow_free(flow);
        return NULL;
    }
    return flow;
}

void login_flow_stop(struct login_flow *flow)
{
    if (!flow)
        return;
    lock_take(&flow->lock);
    flow->stopping = true;
    wake(flow);
    pthread_cond_broadcast(&flow->moved);
    lock_drop(&flow->lock);
}

void login_flow_free(struct login_flow *flow)
{
    if (!flow)
        return;
    login_flow_stop(flow);
    thread_join(&flow->thread);
    fd_close(&flow->wake_fd);
    explicit_bzero(&flow->view, sizeof(flow->view));
    pthread_cond_destroy(&flow->moved);
    lock_done(&flow->lock);
    free(flow);
}
