/*
 * `claude-runner cloud check`: tries everything that a cloud task needs, first from home, then by
 * one execution from the job. Its payload has a kind of its own: no task is run, and Claude is not
 * called.
 */
#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "google/jobs.h"
#include "google/storage.h"
#include "runner/cli/cloud.h"
#include "runner/overflow/payload.h"
#include "runner/overflow/result.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY_MS 1000
#define WAIT_EVERY_MS 3000
#define ANSWER_MS 30000 /* time from the execution's end to its result */

static const char usage[] =
    "usage: claude-runner cloud check [OPTIONS]\n"
    "\n"
    "Tries what cloud tasks need, as the runner does and with its configuration (the environment,\n"
    "then ./.env), and runs one execution of the job that tries its own end.\n"
    "\n"
    "  --env-file FILE    instead of ./.env\n"
    "  --timeout MINUTES  for the execution, 1..60 (10)\n"
    "  --wait SECONDS     for what was granted a moment ago, 0..900: Google needs minutes until\n"
    "                     new rights and keys hold everywhere (300 at a terminal, else 15)\n"
    "  --home-only        no execution\n";

struct check {
    struct config *config;
    struct cloud cloud;
    char id[ID_SIZE];
    int64_t timeout_ms;
    int64_t wait_until; /* mono: until then refusals may pass */
    bool told;          /* it was said that the check waits */
    bool home_only, failed;
    char execution[RUN_NAME_SIZE];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

/* --- home's end ----------------------------------------------------------------------------- */

static int try_credentials(struct check *check, struct buf *detail, struct err *err)
{
    const char *identity = google_identity(check->cloud.google);
    if (!identity)
        return err_set(err, ERR_CONFIG,
                       "there are none: set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud");
    buf_adds(detail, identity);
    return google_login(check->cloud.google, err);
}

static int try_job(struct check *check, struct buf *detail, struct err *err)
{
    buf_adds(detail, check->cloud.job);
    return jobs_job_get(check->cloud.google, check->cloud.job, NULL, err);
}

/* Whoever may not see it hears of billing by what else is refused. */
static int try_billing(struct check *check, struct buf *detail, struct err *err)
{
    bool on = false;
    char path[400];
    AUTO(json) struct json *info = NULL;
    struct google_answer answer = {0};
    snprintf(path, sizeof(path), "/v1/projects/%.300s/billingInfo", check->config->gcp_project_id);
    const struct google_call call = {
        .api = GOOGLE_BILLING, .method = "GET", .path = path, .tries = 2};
    if (google_call(check->cloud.google, &call, &info, &answer, err)) {
        buf_adds(detail, "not for this account to see");
        return answer.status == 403 || answer.status == 404 ? 0 : -1;
    }
    if (json_bool(json_get(info, "billingEnabled"), &on) == 0 && on) {
        buf_addf(detail, "on, %s",
                 json_text(json_get(info, "billingAccountName"))
                     ? json_text(json_get(info, "billingAccountName"))
                     : "");
        return 0;
    }
    return err_set(err, ERR_CONFIG,
                   "the project has no billing account: "
                   "https://console.cloud.google.com/billing/linkedaccount?project=%.100s",
                   check->config->gcp_project_id);
}

static int try_bucket(struct check *check, struct buf *detail, struct err *err)
{
    static const char text[] = "claude-runner cloud check\n";
    char name[FOLDER_NAME_SIZE];
    const struct cloud *cloud = &check->cloud;
    AUTO(buf) struct buf back = BUF_INIT(4096);
    folder_name(check->id, "check.txt", name);
    buf_adds(detail, cloud->bucket);
    if (storage_put(cloud->google,
                    &(const struct storage_at){cloud->bucket, name, "text/plain", STORAGE_ABSENT},
                    text, sizeof(text) - 1, NULL, err))
        return err_wrap(err, "writing");
    if (storage_get(cloud->google, cloud->bucket, name, &back, NULL, err))
        return err_wrap(err, "reading");
    if (strcmp(buf_str(&back), text) != 0)
        return err_set(err, ERR_UPSTREAM, "what was written comes back changed");
    if (storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, err))
        return err_wrap(err, "deleting");
    return 0;
}

/* Uploads a real payload: sealing it is what home does with the key. */
static int put_payload(struct check *check, struct buf *detail, struct err *err)
{
    char name[FOLDER_NAME_SIZE], kind[] = PAYLOAD_CHECK, request[] = "{}", none[] = "";
    const struct cloud *cloud = &check->cloud;
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    const struct payload payload = {.task_id = check->id,
                                    .kind = kind,
                                    .request = request,
                                    .secrets = none,
                                    .request_id = none,
                                    .attempt = 1};
    buf_adds(detail, cloud->key);
    folder_name(check->id, FOLDER_PAYLOAD, name);
    return payload_seal(cloud, &payload, &sealed, err) ||
                   storage_put(cloud->google,
                               &(const struct storage_at){
                                   cloud->bucket, name, "application/octet-stream", STORAGE_ABSENT},
                               sealed.data, sealed.len, NULL, err)
               ? -1
               : 0;
}

static int start(struct check *check, struct buf *detail, struct err *err)
{
    bool unsure;
    char task[ID_SIZE + 16];
    const char *const env[] = {task, FOLDER_ENV_ATTEMPT "=1", NULL};
    const struct jobs_start wish = {.env = env};
    snprintf(task, sizeof(task), FOLDER_ENV_TASK "=%s", check->id);
    if (jobs_start(check->cloud.google, check->cloud.job, &wish, check->execution, &unsure, err))
        return -1;
    const char *slash = strrchr(check->execution, '/');
    buf_adds(detail, slash ? slash + 1 : check->execution);
    return 0;
}

static int note_found(const struct jobs_execution *execution, void *arg)
{
    struct check *check = arg;
    return strcmp(execution->name, check->execution) == 0;
}

static int try_list(struct check *check, struct buf *detail, struct err *err)
{
    (void)detail;
    return jobs_find(check->cloud.google, check->cloud.job, FOLDER_ENV_TASK, check->id, 0,
                     note_found, check, err);
}

/* --- the job's end -------------------------------------------------------------------------- */

/* Returns 1 with *ret_result, 0 when it is not there yet, or -1. */
static int fetch_result(struct check *check, struct folder_result *ret_result, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    folder_name(check->id, FOLDER_RESULT, name);
    if (storage_get(check->cloud.google, check->cloud.bucket, name, &text, NULL, err))
        return err->code == ERR_NOT_FOUND ? 0 : err_wrap(err, "reading the result");
    return folder_result_parse(buf_str(&text), text.len, ret_result, err) ? -1 : 1;
}

/* True for the messages of Google and the kernel about an image for another processor. */
static bool is_foreign_image(const struct jobs_execution *execution)
{
    static const char *const words[] = {"exec format error", "amd64", "manifest type",
                                        "architecture"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcasestr(execution->message, words[i]))
            return true;
    return false;
}

static int explain_end(struct check *check, const struct jobs_execution *execution, struct err *err)
{
    struct err ignored;
    int code = -1;
    if (is_foreign_image(execution))
        return err_set(err, ERR_UPSTREAM,
                       "the image is not for Cloud Run's processors: build it with --platform "
                       "linux/amd64. %.100s",
                       execution->message);
    jobs_exit_code(check->cloud.google, check->execution, &code, &ignored);
    if (code >= 0)
        return err_set(
            err, ERR_UPSTREAM,
            "the execution ended with exit code %d and left no result: see its log. %.100s", code,
            execution->message);
    return err_set(err, ERR_UPSTREAM, "the execution ended (%s) and left no result: %.140s",
                   *execution->reason ? execution->reason : "no reason given", execution->message);
}

static int await_result(struct check *check, struct folder_result *ret_result, struct err *err)
{
    int64_t end = clock_mono_ms() + check->timeout_ms, ended_ms = 0;
    struct jobs_execution execution = {.state = RUN_PENDING};
    while (!interrupted) {
        int got = fetch_result(check, ret_result, err);
        if (got)
            return got > 0 ? 0 : -1;
        if (ended_ms && clock_mono_ms() >= ended_ms)
            return explain_end(check, &execution, err);
        if (jobs_get(check->cloud.google, check->execution, &execution, err))
            return err_wrap(err, "following the execution");
        if (!ended_ms && execution.state >= RUN_SUCCEEDED)
            ended_ms = clock_mono_ms() + (execution.state == RUN_SUCCEEDED ? ANSWER_MS : 0);
        else if (clock_mono_ms() > end)
            return err_set(err, ERR_TIMEOUT, "no result within %lld minutes; the execution is %s",
                           (long long)(check->timeout_ms / 60000),
                           execution.state == RUN_PENDING ? "pending" : "running");
        if (!ended_ms || execution.state == RUN_SUCCEEDED)
            site_pause(LOOK_EVERY_MS);
    }
    return err_set(err, ERR_TIMEOUT, "interrupted");
}

static int follow(struct check *check, struct buf *detail, struct err *err)
{
    struct folder_result result;
    int64_t asked_ms = clock_real_ms();
    folder_result_init(&result);
    if (await_result(check, &result, err)) {
        folder_result_done(&result);
        return -1;
    }
    bool good = result.outcome.state == TASK_COMPLETED;
    if (good) {
        for (const char *line = buf_str(&result.outcome.output); *line;) {
            size_t len = strcspn(line, "\n");
            if (len > 0)
                buf_addf(detail, "%s%.*s", detail->len > 0 ? "; " : "", (int)len, line);
            line += len + (line[len] == '\n');
        }
        buf_addf(detail, "; began after %lld ms, took %lld ms",
                 (long long)(result.started_ms > asked_ms ? result.started_ms - asked_ms : 0),
                 (long long)(result.ended_ms - result.started_ms));
    } else {
        err_set(err, ERR_UPSTREAM, "%s", result.outcome.error);
    }
    folder_result_done(&result);
    return good ? 0 : -1;
}

/* Cancels the execution, whether or not it has ended: only the permission is tested. */
static int try_cancel(struct check *check, struct buf *detail, struct err *err)
{
    (void)detail;
    return jobs_cancel(check->cloud.google, check->execution, err);
}

/* --- the command ---------------------------------------------------------------------------- */

static const struct probe {
    const char *end, *what;
    int (*run)(struct check *check, struct buf *detail, struct err *err);
    bool execution; /* belongs to the execution */
    bool always;    /* runs whenever there is an execution */
} probes[] = {
    {"home", "credentials", try_credentials, false, false},
    {"home", "billing", try_billing, false, false},
    {"home", "bucket: write, read, delete", try_bucket, false, false},
    {"home", "key: encrypt, and store a payload", put_payload, false, false},
    {"home", "job: look at it", try_job, false, false},
    {"home", "job: run it", start, true, false},
    {"home", "job: list its executions", try_list, true, true},
    {"job", "a payload, to its result", follow, true, true},
    {"home", "job: cancel it", try_cancel, true, true},
};

static void tidy(struct check *check)
{
    struct err err;
    char prefix[FOLDER_NAME_SIZE];
    folder_name(check->id, "", prefix);
    if (storage_sweep(check->cloud.google, check->cloud.bucket, prefix, NULL, NULL, &err))
        fprintf(stderr, "claude-runner cloud check: what it left in the bucket stays there: %s\n",
                err.msg);
}

/* True when somebody lacks rights, at home or in the job's message. */
static bool is_refusal(const struct err *err)
{
    static const char *const words[] = {"PERMISSION_DENIED", "UNAUTHENTICATED", "forbidden",
                                        "invalid_grant", "does not have permission"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcasestr(err->msg, words[i]))
            return true;
    return err->code == ERR_FORBIDDEN;
}

/* True, after a pause, when a refusal may mean that a grant is not effective yet. */
static bool waits(struct check *check, const struct probe *probe, const struct err *err)
{
    int64_t left = check->wait_until - clock_mono_ms();
    if (!is_refusal(err) || left <= 0 || interrupted || (probe->always && probe->run != follow))
        return false;
    if (!check->told)
        printf("waiting up to %lld s: %s: %s: what was granted, or made, a moment ago holds at "
               "Google's within minutes\n",
               (long long)(left + 999) / 1000, probe->end, probe->what);
    check->told = true;
    fflush(stdout);
    site_pause(left < WAIT_EVERY_MS ? left : WAIT_EVERY_MS);
    return !interrupted;
}

/* Tries the job's end again, by another execution with a payload of its own. */
static int run_again(struct check *check, const struct probe *probe, struct buf *detail,
                     struct err *err)
{
    buf_clear(detail);
    if (probe->run != follow)
        return probe->run(check, detail, err);
    tidy(check);
    id_new(check->id);
    if (put_payload(check, detail, err) || start(check, detail, err))
        return -1;
    buf_clear(detail);
    return follow(check, detail, err);
}

static void run_probe(struct check *check, const struct probe *probe)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf detail = BUF_INIT(4096);
    int64_t begin = clock_mono_ms();
    int rc = probe->run(check, &detail, &err);
    while (rc && waits(check, probe, &err))
        rc = run_again(check, probe, &detail, &err);
    long long ms = (long long)(clock_mono_ms() - begin);
    if (rc) {
        check->failed = true;
        printf("%s: %s: FAILED after %lld ms: %s\n", probe->end, probe->what, ms, err.msg);
    } else {
        printf("%s: %s: ok, %lld ms%s%s\n", probe->end, probe->what, ms, detail.len ? ": " : "",
               buf_str(&detail));
    }
    fflush(stdout);
}

static int run_check(struct check *check)
{
    REQUIRE(check->config);
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        bool skip = probes[i].execution &&
                    (probes[i].always ? !check->execution[0] : check->failed || check->home_only);
        if (!skip && !(interrupted && probes[i].run != try_cancel))
            run_probe(check, &probes[i]);
    }
    tidy(check);
    if (interrupted)
        return 1;
    puts(check->failed      ? "\nIt does not work yet."
         : check->home_only ? "\nHome's end works."
                            : "\nBoth ends work.");
    return check->failed || fflush(stdout) ? 1 : 0;
}

static int read_options(struct check *check, const char **ret_env_file, int argc, char **argv,
                        struct err *err)
{
    static const struct option known[] = {
        {"env-file", required_argument, NULL, 'e'}, {"timeout", required_argument, NULL, 't'},
        {"home-only", no_argument, NULL, 'o'},      {"wait", required_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    int64_t minutes = 10, wait_s = isatty(STDOUT_FILENO) ? 300 : 15;
    int got;
    while ((got = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (got == 'h')
            return fputs(usage, stdout) < 0 ? -1 : 1;
        if (got == 'e')
            *ret_env_file = optarg;
        else if (got == 'o')
            check->home_only = true;
        else if (got == 'w' && str_to_int(optarg, 0, 900, &wait_s))
            return err_set(err, ERR_INVALID, "--wait: '%.40s' is not 0..900 seconds", optarg);
        else if (got == 'w')
            continue;
        else if (got != 't')
            return err_set(err, ERR_INVALID, "see claude-runner cloud check --help");
        else if (str_to_int(optarg, 1, 60, &minutes))
            return err_set(err, ERR_INVALID, "--timeout: '%.40s' is not 1..60 minutes", optarg);
    }
    check->timeout_ms = minutes * 60000;
    check->wait_until = clock_mono_ms() + wait_s * 1000;
    return optind < argc ? err_set(err, ERR_INVALID, "unexpected '%.80s'", argv[optind]) : 0;
}

static int open_check(struct check *check, const char *env_file, struct err *err)
{
    AUTO(config_report) struct config_report report = {0};
    if (!env_file && access(".env", R_OK) == 0)
        env_file = ".env";
    const struct config_source source = {
        .env = environ, .env_files = {env_file}, .no_callers = true};
    check->config = config_load(&source, &report, err);
    if (!check->config)
        return report.errors.count > 0 ? err_set(err, ERR_CONFIG, "%s", report.errors.items[0])
                                       : -1;
    id_new(check->id);
    return cloud_open(check->config, &check->cloud, err);
}

int setup_check(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct check check = {0};
    const char *env_file = NULL;
    const struct sigaction action = {.sa_handler = on_signal};
    int rc = read_options(&check, &env_file, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (rc || open_check(&check, env_file, &err)) {
        fprintf(stderr, "claude-runner cloud check: %s\n", err.msg);
        rc = err_exit(err.code);
    } else {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        rc = run_check(&check);
    }
    cloud_close(&check.cloud);
    config_free(check.config);
    return rc;
}
