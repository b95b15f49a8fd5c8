#include "runner/worker/worker.h"

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "runner/parts/process.h"
#include "runner/version.h"
#include "runner/worker/again.h"
#include "runner/worker/claim.h"
#include "runner/worker/fixed.h"
#include "runner/worker/job.h"
#include "runner/worker/steps.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_NOT_OURS 3
#define KILL_GRACE_S 2 /* Cloud Run gives ten seconds for everything. */

static const char usage[] =
    "usage: claude-runner job\n"
    "\n"
    "Runs one task inside a Cloud Run execution: takes the request from the bucket, puts events,\n"
    "outputs and result there. Its environment says which:\n"
    "\n"
    "  TASK_ID, TASK_ATTEMPT\n"
    "\n"
    "and how to reach Google Cloud (`claude-runner serve --help` has all variables):\n"
    "\n"
    "  GCP_PROJECT_ID, GCS_LOGS_BUCKET, KMS_LOCATION, KMS_KEY_RING, KMS_KEY_NAME,\n"
    "  CLOUDRUN_JOB_NAME (else CLOUD_RUN_JOB), CLOUD_API_KEY_SECRET\n"
    "\n"
    "Exit status: 0 the result is in the bucket, 1 a failure, 2 a wrong call or configuration,\n"
    "3 the attempt is somebody else's.\n";

/* --- configuration -------------------------------------------------------------------------- */

static int read_task(struct job *job, struct err *err)
{
    int64_t attempt;
    const char *id = getenv(FOLDER_ENV_TASK), *number = getenv(FOLDER_ENV_ATTEMPT);
    const char *execution = getenv("CLOUD_RUN_EXECUTION");
    if (!id || !id_is_valid(id))
        return err_set(err, ERR_CONFIG, FOLDER_ENV_TASK " must be the id of a task, got '%.80s'",
                       id ? id : "");
    if (!number || str_to_int(number, 0, INT_MAX, &attempt))
        return err_set(err, ERR_CONFIG, FOLDER_ENV_ATTEMPT " must be 0..%d, got '%.80s'", INT_MAX,
                       number ? number : "");
    const char *conversation = getenv(FOLDER_ENV_CONVERSATION);
    if (conversation && (strlen(conversation) != ID_UUID_SIZE - 1 || !id_is_valid(conversation)))
        return err_set(err, ERR_CONFIG, FOLDER_ENV_CONVERSATION " must be a UUID, got '%.80s'",
                       conversation);
    snprintf(job->conversation, sizeof(job->conversation), "%s", conversation ? conversation : "");
    snprintf(job->id, sizeof(job->id), "%s", id);
    job->attempt = (int)attempt;
    job->execution = execution ? execution : "";
    again_read(job);
    return 0;
}

/* Makes a directory for this attempt. Everything that must last is in the bucket. */
static int make_state_dir(struct job *job, struct err *err)
{
    const char *base = getenv("RUNNER_STATE_DIR");
    if (!base)
        base = getenv("TMPDIR");
    if (!base)
        base = "/tmp";
    if (path_make_dirs(base, 0711, err))
        return -1;
    char *dir = path_join(base, "claude-runner-job-XXXXXX");
    if (!dir || !mkdtemp(dir) || chmod(dir, 0711)) {
        err_sys(err, "cannot make a directory in '%s'", base);
        free(dir);
        return -1;
    }
    job->state_dir = dir;
    return 0;
}

/* Changes settings that differ from home: one task, a private directory, and no login, whatever
 * files exist. */
static int adapt_config(struct job *job, struct err *err)
{
    struct config *config = job->config;
    const char *name = getenv("CLOUD_RUN_JOB");
    AUTO(str) char *no_login = path_join(job->state_dir, "no-login");
    if (!no_login || str_replace(&config->state_dir, job->state_dir) ||
        str_replace(&config->claude_config_dir, no_login) ||
        (!config->cloudrun_job_name && name && str_replace(&config->cloudrun_job_name, name)))
        return err_sys(err, "configuration");
    config->max_concurrent_tasks = 1;
    if (config->kill_grace_seconds > KILL_GRACE_S)
        config->kill_grace_seconds = KILL_GRACE_S;
    return 0;
}

/* Takes the environment. The place of a login does not matter, and must not keep a container
 * without HOME from starting: adapt_config() says that there is none. */
static void take_environment(struct strlist *env)
{
    static const char login[] = "CLAUDE_CONFIG_DIR=";
    for (char *const *at = environ; *at; at++)
        if (!str_starts(*at, login))
            strlist_add(env, *at);
    strlist_addf(env, "%s/", login);
}

static struct config *load_config(void)
{
    struct err err;
    AUTO(config_report) struct config_report report = {0};
    AUTO(strlist) struct strlist env = STRLIST_INIT;
    take_environment(&env);
    if (fixed_settle(&env, &err)) {
        fprintf(stderr, "claude-runner: error: %s\n", err.msg);
        return NULL;
    }
    const struct config_source source = {.env = env.items, .no_callers = true};
    struct config *config = config_load(&source, &report, &err);
    for (size_t i = 0; i < report.errors.count; i++)
        fprintf(stderr, "claude-runner: error: %s\n", report.errors.items[i]);
    if (!config && report.errors.count == 0)
        fprintf(stderr, "claude-runner: error: %s\n", err.msg);
    return config;
}

/* --- signals -------------------------------------------------------------------------------- */

struct listener {
    struct job *job;
    struct thread thread;
    _Atomic bool stop;
};

static void *listen_for_signals(void *arg)
{
    struct listener *listener = arg;
    log_set_task(listener->job->id);
    while (!atomic_load(&listener->stop)) {
        int got = process_signal(-1);
        if (got != SIGTERM && got != SIGINT)
            continue;
        log_warn("job", "told to stop (signal %d): the task ends as interrupted", got);
        job_hurry(listener->job);
    }
    return NULL;
}

static int start_listening(struct listener *listener, struct err *err)
{
    return thread_start(&listener->thread, "signals", THREAD_STACK_DEFAULT, listen_for_signals,
                        listener, err);
}

static void stop_listening(struct listener *listener)
{
    atomic_store(&listener->stop, true);
    pthread_kill(listener->thread.id, SIGHUP); /* The signal wakes it to end, too. */
    thread_join(&listener->thread);
}

/* --- the job -------------------------------------------------------------------------------- */

static int fail(const char *what, const struct err *err)
{
    log_error("job", "%s: %s", what, err->msg);
    return err_exit(err->code);
}

/* Does everything from the claim to the result. *ret_quiet: none of our threads runs any more. */
static int work(struct job *job, bool *ret_quiet)
{
    struct err err;
    int taken = claim_take(job, &err);
    if (taken < 0)
        return fail("cannot claim the task", &err);
    if (taken == 0) {
        log_error("job", "attempt %d has been claimed by somebody else", job->attempt);
        return EXIT_NOT_OURS;
    }
    log_info("job", "attempt %d, execution '%s', version " RUNNER_VERSION, job->attempt,
             job->execution);
    struct pulse *pulse = pulse_start(job, &err);
    if (!pulse)
        return fail("cannot begin", &err);
    *ret_quiet = steps_run(job);
    int rc = job_is_lost(job) ? -1 : steps_hand_in_outputs(job, &err);
    if (rc == 0 && !job_is_lost(job)) /* Home waits as long as heartbeats are written. */
        rc = steps_hand_in_result(job, &err);
    *ret_quiet &= pulse_stop(pulse);
    if (rc || job_is_lost(job))
        return job_is_lost(job) ? EXIT_NOT_OURS : fail("the result is not stored", &err);
    steps_hand_in_webhook(job);
    log_info("job", "the result is stored: %s%s%s", task_state_name(job->result.outcome.state),
             job->result.outcome.reason[0] ? ", " : "", job->result.outcome.reason);
    return 0;
}

static int run_job(struct job *job, bool *ret_quiet)
{
    struct err err;
    if (make_state_dir(job, &err) || adapt_config(job, &err) ||
        cloud_open(job->config, &job->cloud, &err))
        return fail("cannot begin", &err);
    const char *identity = google_identity(job->cloud.google);
    log_info("job", "as %s", identity ? identity : "nobody: no Google credentials were found");
    struct listener listener = {.job = job};
    if (start_listening(&listener, &err))
        return fail("cannot begin", &err);
    int status = work(job, ret_quiet);
    while (status == 0 && *ret_quiet && again_await(job))
        status = work(job, ret_quiet);
    stop_listening(&listener);
    return status;
}

static void take_apart(struct job *job)
{
    struct err err;
    if (job->state_dir && path_remove_tree(job->state_dir, &err))
        log_warn("job", "%s", err.msg);
    free(job->state_dir);
    free(job->callback_url);
    buf_done(&job->webhook);
    folder_result_done(&job->result);
    payload_done(&job->payload);
    cloud_close(&job->cloud);
    config_unref(job->config);
    redact_free(job->secrets);
}

int worker_job(int argc, char **argv)
{
    static struct job job; /* Static, because it is large and there is only one. */
    struct err err;
    bool quiet = true;
    if (argc > 1) {
        bool help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
        fputs(usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    job_init(&job);
    job.config = load_config();
    if (!job.config)
        return 2;
    process_settle();
    job.secrets = job.runner.secrets = redact_new();
    if (!job.secrets || config_redact(job.config, job.secrets))
        return 1;
    process_open_log(job.config, job.secrets);
    if (read_task(&job, &err))
        return fail("cannot begin", &err);
    log_set_task(job.id);
    int status = run_job(&job, &quiet);
    if (!quiet) /* A thread that cannot be ended needs what would be freed. */
        _exit(status);
    take_apart(&job);
    return status;
}
