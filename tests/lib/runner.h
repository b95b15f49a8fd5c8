/*
 * The runner under test and the doubles beside it: real processes, started with a clean
 * environment, ended when the test is over, and checked for leftovers.
 */
#ifndef TESTLIB_RUNNER_H
#define TESTLIB_RUNNER_H

#include "http.h"

#include <stdbool.h>
#include <sys/types.h>

#define RUNNER_SECRET "test-secret-0123456789"
#define RUNNER_AUTH "X-Runner-Secret: " RUNNER_SECRET "\r\n"

/* The credentials that the doubles accept and the runner is given. */
#define API_TOKEN "sk-ant-oat01-test-token"
#define API_KEY "sk-ant-api03-test-key"
#define REFRESH_TOKEN "sk-ant-ort01-test-refresh"

enum { RUNNER_ENV_MAX = 64 };

/* ---- the scripted Messages API ---- */

struct api {
    pid_t pid;
    char *dir;
    char *base; /* http://127.0.0.1:PORT */
};

/* Starts any double and waits until it listens. */
struct api *double_new(char *const argv[]);

/* Starts one that accepts API_TOKEN and API_KEY. */
struct api *api_new(void);
/* An OAuth token server that accepts REFRESH_TOKEN once. */
struct api *token_server_new(void);
/* The same with all that a login needs, over TLS on port 443 as well. */
struct api *token_server_tls_new(const char *cert, const char *key);
/* Ends the double; fails the test when a sanitizer has complained in it. */
void api_free(struct api *api);

/* The requests that hold the text (it goes into a URL: letters and digits). */
cJSON *api_log(const struct api *api, const char *contains);

/* Posts to /_control. */
void api_control(const struct api *api, const char *json);

/* ---- the runner ---- */

struct runner {
    char *dir;    /* everything below is in it; removed at the end */
    char *state;  /* RUNNER_STATE_DIR */
    char *config; /* CLAUDE_CONFIG_DIR */
    char *shared; /* a directory that every user may write to, for what tasks leave behind */
    char *cli;    /* CLAUDE_BIN */
    char *log;    /* its stderr */
    char *base;   /* http://127.0.0.1:PORT while it runs */
    pid_t pid;    /* 0 when it doesn't run */
    char *env[RUNNER_ENV_MAX + 1];
};

/* Makes a runner that is not started yet: port 0, one secret, the stand-in CLI, an API key, four
 * slots, short time limits. Never returns NULL: without a daemon to test the test is skipped. */
struct runner *runner_new(void);

/* The same with these variables: name, value, …, NULL. */
struct runner *runner_new_with(const char *const settings[]);

/* Sets a variable of its environment; value NULL removes it. Takes effect at the next start. */
void runner_set(struct runner *runner, const char *name, const char *value);

/* The real CLI that the tests drive: CR_CLAUDE, else tests/cli/claude, by its own path. NULL when
 * it is not installed. Static storage. */
const char *runner_real_cli(void);

/* Uses the real CLI with this API, through a script that sets what the runner does not: the API's
 * address, and CLAUDE_CODE_MAX_RETRIES=1, so that errors take seconds. Skips the test when the CLI
 * is not installed. */
void runner_use_real_cli(struct runner *runner, const struct api *api);

/* Makes a runner that is not started yet and uses the real CLI with *api, which is made when
 * NULL. */
struct runner *runner_new_real(struct api **api);

/* Starts it and waits until it listens; fails the test when it doesn't. */
void runner_start(struct runner *runner);

/* The runner that the tests of a program share, made with these settings and started at the first
 * call. One for each program; shared_stop() ends it. */
struct runner *runner_shared(struct runner **runner, const char *const settings[]);
/* The same with the real CLI against *api, and GIT_ALLOW for its `shared` directory. */
struct runner *runner_shared_real(struct runner **runner, struct api **api,
                                  const char *const settings[]);
/* Teardown of the group: ends them. */
int shared_stop(void **state);

/* Starts it, and expects it to refuse: returns its exit status; its message is in the log. */
int runner_start_refused(struct runner *runner);

/* Sends SIGTERM, and waits. Returns the exit status. */
int runner_stop(struct runner *runner, int ms);
/* Sends SIGKILL. */
void runner_crash(struct runner *runner);

/* Everything it has logged. The caller frees it. */
char *runner_log(const struct runner *runner);

/* The number of live processes of tasks. */
size_t runner_task_processes(const struct runner *runner);

/* Stops it. Fails the test when it does not stop, when a sanitizer has complained, when its log
 * holds a secret, or when a process of a task is still alive. */
void runner_free(struct runner *runner);

/* ---- calls, with the secret ---- */

struct reply *runner_get(const struct runner *runner, const char *path);
struct reply *runner_post(const struct runner *runner, const char *path, const char *json);
struct reply *runner_delete(const struct runner *runner, const char *path);

/* {"prompt":"…"} plus more fields ("" or `"a":1,"b":2`). The caller frees it. */
char *prompt_json(const char *prompt, const char *more);

/* POST /execute with that prompt and fields. */
struct reply *runner_execute(const struct runner *runner, const char *prompt, const char *more);

/* The same; fails the test unless it has run (200), and has succeeded. */
struct reply *runner_ran(const struct runner *runner, const char *prompt, const char *more);
struct reply *runner_succeeded(const struct runner *runner, const char *prompt, const char *more);

/* Submits a task that runs without a waiting caller (POST /execute, detached, Prefer: wait=0).
 * Returns its id, which the caller frees. */
char *runner_submit(const struct runner *runner, const char *prompt, const char *more);

/* A text member of GET /tasks/{id}; "" when there is none. The caller frees it. */
char *runner_task_text(const struct runner *runner, const char *id, const char *member);

/* The task's current state; "" when there is no such task. The caller frees it. */
char *runner_task_state(const struct runner *runner, const char *id);

/* Whether the task neither waits nor runs. */
bool runner_has_ended(const struct runner *runner, const char *id);

/* Waits for a state; fails the test when it does not come in time. */
void runner_await(const struct runner *runner, const char *id, const char *state, int ms);

/* GET /tasks/{id}/result once the task has ended. */
struct reply *runner_result(const struct runner *runner, const char *id);

#endif
