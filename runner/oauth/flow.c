#include "runner/oauth/flow.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "runner/oauth/adopt.h"
#include "runner/oauth/cli.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define URL_WAIT_MS 10000
#define CODE_WAIT_MS 8000
#define CANCEL_WAIT_MS 5000
#define WAITERS_MAX 4  /* each holds a thread of the HTTP server; more are told what is known */
#define CODES_MAX 10   /* tries of one login */
#define SETTLE_MS 1000 /* a CLI that complains and then goes on wants another code */
#define LOST_MS 15000  /* a tree that is still there so long after KILL will not be waited for */

struct flow {
    struct flow_config config;
    int wake_fd; /* eventfd: there is an order */

    pthread_mutex_t lock; /* of all that follows; never held across I/O */
    pthread_cond_t moved; /* the state has changed */
    struct flow_view view;
    struct thread thread;
    int waiters;
    int codes;
    char code[FLOW_CODE_MAX + 2]; /* an order: with its line end; "" for none */
    bool cancel;                  /* an order */
    _Atomic bool stopping;        /* also read without the lock */
};

static const char *const state_names[] = {
#define FLOW_STATE_WIRE(name, wire) wire,
    FLOW_STATES(FLOW_STATE_WIRE)
#undef FLOW_STATE_WIRE
};

const char *flow_state_name(enum flow_state state)
{
    return state_names[state];
}

bool flow_state_is_active(enum flow_state state)
{
    return state == FLOW_STARTING || state == FLOW_AWAITING_CODE || state == FLOW_VERIFYING;
}

/* --- the thread's side --------------------------------------------------------------------- */

/* One login under way. */
struct work {
    struct flow *flow;
    struct cli cli;
    int64_t deadline_ms;   /* mono */
    int64_t ending_ms;     /* mono, since the CLI is being ended; 0: it is not */
    enum flow_state cause; /* why we end it */
    int64_t complained_ms; /* mono, since it wrote an error line after the code; 0: it has not */
    size_t heeded;         /* error bytes that were there when the code was sent */
};

static void move(struct flow *flow, enum flow_state state, const char *reason)
{
    AUTO(buf) struct buf clean = BUF_INIT(sizeof(flow->view.reason) * 4);
    redact_text(flow->config.secrets, reason, strlen(reason), &clean);
    pthread_mutex_lock(&flow->lock);
    flow->view.state = state;
    snprintf(flow->view.reason, sizeof(flow->view.reason), "%s", buf_str(&clean));
    if (!flow_state_is_active(state))
        flow->view.url[0] = '\0';
    pthread_cond_broadcast(&flow->moved);
    pthread_mutex_unlock(&flow->lock);
}

static void end_cli(struct work *work, enum flow_state cause)
{
    if (work->ending_ms)
        return;
    work->cause = cause;
    work->ending_ms = clock_mono_ms();
    child_end(work->cli.child, true);
}

/* What callers have asked for. */
static void take_orders(struct work *work)
{
    struct flow *flow = work->flow;
    char code[sizeof(flow->code)];
    uint64_t count;
    (void)!read(flow->wake_fd, &count, sizeof(count));
    pthread_mutex_lock(&flow->lock);
    bool cancel = flow->cancel || flow->stopping;
    memcpy(code, flow->code, sizeof(code));
    explicit_bzero(flow->code, sizeof(flow->code));
    pthread_mutex_unlock(&flow->lock);
    if (cancel)
        end_cli(work, FLOW_CANCELLED);
    if (code[0]) {
        work->heeded = work->cli.errors.len;
        work->complained_ms = 0;
        cli_say(&work->cli, code);
    }
    explicit_bzero(code, sizeof(code));
}

static enum flow_state state_of(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    enum flow_state state = flow->view.state;
    pthread_mutex_unlock(&flow->lock);
    return state;
}

static void heed_url(struct work *work)
{
    struct flow *flow = work->flow;
    char url[sizeof(flow->view.url)];
    if (!cli_find_url(&work->cli, url, sizeof(url)))
        return;
    cli_hide_state(url, flow->config.secrets);
    pthread_mutex_lock(&flow->lock);
    memcpy(flow->view.url, url, sizeof(url));
    pthread_mutex_unlock(&flow->lock);
    move(flow, FLOW_AWAITING_CODE, "");
}

/* A CLI that has complained ends in a moment, or it asks for the code again. Returns how long to
 * wait before looking again, or -1. */
static int64_t heed_complaint(struct work *work)
{
    char reason[240];
    int64_t now = clock_mono_ms();
    if (!cli_complaint(&work->cli, work->heeded, reason, sizeof(reason)))
        return -1;
    if (!work->complained_ms)
        work->complained_ms = now;
    if (now - work->complained_ms < SETTLE_MS)
        return SETTLE_MS - (now - work->complained_ms);
    work->heeded = work->cli.errors.len;
    work->complained_ms = 0;
    pthread_mutex_lock(&work->flow->lock);
    bool again = work->flow->codes < CODES_MAX;
    pthread_mutex_unlock(&work->flow->lock);
    if (again)
        move(work->flow, FLOW_AWAITING_CODE, reason);
    else
        end_cli(work, FLOW_FAILED);
    return -1;
}

/* What the CLI has printed. Returns how long to wait before looking again, or -1. */
static int64_t heed_output(struct work *work)
{
    enum flow_state state = state_of(work->flow);
    if (state == FLOW_STARTING)
        heed_url(work);
    else if (state == FLOW_VERIFYING && !work->ending_ms)
        return heed_complaint(work);
    return -1;
}

static void follow(struct work *work)
{
    for (;;) {
        enum child_event event = child_read(work->cli.child);
        bool more = cli_read(&work->cli);
        int64_t now = clock_mono_ms();
        if (event == CHILD_ENDED || (work->ending_ms && now - work->ending_ms > LOST_MS))
            return;
        take_orders(work);
        int64_t wait = heed_output(work);
        if (now >= work->deadline_ms)
            end_cli(work, FLOW_EXPIRED);
        int64_t left = work->ending_ms ? LOST_MS : work->deadline_ms - now;
        if (!more)
            cli_wait(&work->cli, work->flow->wake_fd,
                     wait >= 0 && wait < left ? (int)wait + 1 : (int)left + 1);
    }
}

/* The CLI is done: its login becomes the owner's. */
static int take_over(struct work *work, struct err *err)
{
    struct keeper_status status;
    struct flow *flow = work->flow;
    const struct config *config = atomic_load(flow->config.config);
    AUTO(str) char *from = cli_credentials(&work->cli);
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

/* What came of it. */
static enum flow_state judge(struct work *work, char *reason, size_t size)
{
    struct err err;
    reason[0] = '\0';
    if (cli_succeeded(&work->cli)) { /* whatever made us end it: the code is used up */
        if (take_over(work, &err) == 0)
            return FLOW_SUCCEEDED;
        snprintf(reason, size, "%s", err.msg);
        return FLOW_FAILED;
    }
    if (work->ending_ms && work->cause != FLOW_FAILED)
        return work->cause;
    if (!cli_complaint(&work->cli, 0, reason, size))
        snprintf(reason, size, "the Claude CLI ended without a word");
    return FLOW_FAILED;
}

static void end(struct flow *flow, enum flow_state state, const char *reason)
{
    if (state == FLOW_FAILED)
        log_warn("oauth", "the login failed: %s", reason);
    else
        log_info("oauth", "the login %s",
                 state == FLOW_SUCCEEDED   ? "succeeded"
                 : state == FLOW_CANCELLED ? "was cancelled"
                                           : "took too long");
    move(flow, state, reason); /* last: another login may begin */
}

static void *run(void *arg)
{
    struct err err;
    char reason[240];
    struct flow *flow = arg;
    const struct config *config = atomic_load(flow->config.config);
    struct work work = {.flow = flow,
                        .deadline_ms =
                            clock_mono_ms() + (int64_t)config->login_deadline_seconds * 1000};
    log_info("oauth", "a login has begun");
    cli_init(&work.cli);
    if (cli_start(&work.cli, config, flow->config.launcher, flow->config.marker, &err) == 0) {
        follow(&work);
        while (cli_read(&work.cli))
            continue;
        enum flow_state state = judge(&work, reason, sizeof(reason));
        cli_done(&work.cli); /* before anybody hears of the end: nothing is left behind */
        end(flow, state, reason);
    } else {
        cli_done(&work.cli);
        end(flow, FLOW_FAILED, err.msg);
    }
    return NULL;
}

/* --- the callers' side --------------------------------------------------------------------- */

/* Waits while the state is this one. */
static void wait_locked(struct flow *flow, bool (*is_waiting)(enum flow_state state), int64_t ms)
{
    int64_t deadline = clock_mono_ms() + ms, left;
    if (flow->waiters >= WAITERS_MAX)
        return;
    flow->waiters++;
    while (is_waiting(flow->view.state) && !flow->stopping &&
           (left = deadline - clock_mono_ms()) > 0)
        cond_wait(&flow->moved, &flow->lock, left);
    flow->waiters--;
}

static bool is_starting(enum flow_state state)
{
    return state == FLOW_STARTING;
}

static bool is_verifying(enum flow_state state)
{
    return state == FLOW_VERIFYING;
}

static void wake(struct flow *flow)
{
    const uint64_t one = 1;
    (void)!write(flow->wake_fd, &one, sizeof(one));
}

/* Claims the place of the last login, which has ended. */
static void claim_locked(struct flow *flow)
{
    const struct config *config = atomic_load(flow->config.config);
    flow->view = (struct flow_view){.state = FLOW_STARTING,
                                    .expires_ms = clock_real_ms() +
                                                  (int64_t)config->login_deadline_seconds * 1000};
    id_new(flow->view.id);
    flow->cancel = false;
    flow->codes = 0;
    explicit_bzero(flow->code, sizeof(flow->code));
}

/* Nobody else comes here before the state has moved on. */
static int start_locked(struct flow *flow, struct err *err)
{
    claim_locked(flow);
    pthread_mutex_unlock(&flow->lock);
    thread_join(&flow->thread); /* the last login's; it has nothing more to do */
    int rc = thread_start(&flow->thread, "login", THREAD_STACK_DEFAULT, run, flow, err);
    pthread_mutex_lock(&flow->lock);
    if (rc)
        flow->view.state = FLOW_FAILED;
    return rc;
}

int flow_begin(struct flow *flow, struct flow_view *ret_view, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&flow->lock);
    if (flow->stopping)
        rc = err_set(err, ERR_BUSY, "the runner is shutting down");
    else if (!flow->view.id[0] || !flow_state_is_active(flow->view.state))
        rc = start_locked(flow, err);
    if (rc == 0) {
        wait_locked(flow, is_starting, URL_WAIT_MS);
        *ret_view = flow->view;
    }
    pthread_mutex_unlock(&flow->lock);
    return rc;
}

static int find_locked(const struct flow *flow, const char *id, struct err *err)
{
    if (flow->view.id[0] && (!id || strcmp(id, flow->view.id) == 0))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "there is no such login");
}

int flow_get(struct flow *flow, const char *id, struct flow_view *ret_view, struct err *err)
{
    pthread_mutex_lock(&flow->lock);
    int rc = find_locked(flow, id, err);
    if (rc == 0)
        *ret_view = flow->view;
    pthread_mutex_unlock(&flow->lock);
    return rc;
}

/* The code without white space around it; NULL when it cannot be one. */
static char *trim_code(const char *code)
{
    code += strspn(code, " \t\r\n");
    size_t len = strlen(code);
    while (len > 0 && strchr(" \t\r\n", code[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)code[i] <= ' ' || (unsigned char)code[i] > '~')
            return NULL;
    return len > 0 && len <= FLOW_CODE_MAX ? strndup(code, len) : NULL;
}

static int give_code_locked(struct flow *flow, const char *id, const char *code, struct err *err)
{
    if (find_locked(flow, id, err))
        return -1;
    if (!flow_state_is_active(flow->view.state))
        return err_set(err, ERR_CONFLICT, "the login has ended (%s); begin another",
                       flow_state_name(flow->view.state));
    if (flow->view.state != FLOW_AWAITING_CODE)
        return err_set(err, ERR_CONFLICT, "the login does not wait for a code (%s)",
                       flow_state_name(flow->view.state));
    cli_hide_code(code, flow->config.secrets);
    flow->codes++;
    snprintf(flow->code, sizeof(flow->code), "%s\n", code);
    flow->view.state = FLOW_VERIFYING;
    flow->view.reason[0] = '\0';
    wake(flow);
    return 0;
}

int flow_code(struct flow *flow, const char *id, const char *code, struct flow_view *ret_view,
              struct err *err)
{
    AUTO(str) char *trimmed = trim_code(code);
    if (!trimmed)
        return err_set(err, ERR_INVALID, "code must be 1..%d printable characters without spaces",
                       FLOW_CODE_MAX);
    pthread_mutex_lock(&flow->lock);
    int rc = give_code_locked(flow, id, trimmed, err);
    if (rc == 0) {
        wait_locked(flow, is_verifying, CODE_WAIT_MS);
        *ret_view = flow->view;
    }
    pthread_mutex_unlock(&flow->lock);
    explicit_bzero(trimmed, strlen(trimmed));
    return rc;
}

int flow_cancel(struct flow *flow, const char *id, struct flow_view *ret_view, struct err *err)
{
    pthread_mutex_lock(&flow->lock);
    int rc = find_locked(flow, id, err);
    if (rc == 0 && flow_state_is_active(flow->view.state)) {
        flow->cancel = true;
        wake(flow);
        wait_locked(flow, flow_state_is_active, CANCEL_WAIT_MS);
    }
    if (rc == 0)
        *ret_view = flow->view;
    pthread_mutex_unlock(&flow->lock);
    return rc;
}

/* --- life ---------------------------------------------------------------------------------- */

struct flow *flow_new(const struct flow_config *config, struct err *err)
{
    struct flow *flow = calloc(1, sizeof(*flow));
    if (!flow) {
        err_sys(err, "login");
        return NULL;
    }
    flow->config = *config;
    pthread_mutex_init(&flow->lock, NULL);
    cond_init(&flow->moved);
    flow->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (flow->wake_fd < 0) {
        err_sys(err, "login");
        flow_free(flow);
        return NULL;
    }
    return flow;
}

void flow_stop(struct flow *flow)
{
    if (!flow)
        return;
    pthread_mutex_lock(&flow->lock);
    flow->stopping = true;
    wake(flow);
    pthread_cond_broadcast(&flow->moved);
    pthread_mutex_unlock(&flow->lock);
}

void flow_free(struct flow *flow)
{
    if (!flow)
        return;
    flow_stop(flow);
    thread_join(&flow->thread);
    fd_close(&flow->wake_fd);
    explicit_bzero(&flow->view, sizeof(flow->view));
    pthread_cond_destroy(&flow->moved);
    pthread_mutex_destroy(&flow->lock);
    free(flow);
}
