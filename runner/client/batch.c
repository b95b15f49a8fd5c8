/* batch: its options, and the message at its end. */
#include "runner/client/batch.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/client/cloud_home.h"
#include "runner/client/commands.h"
#include "runner/client/fields.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARALLEL 50
#define PARALLEL_MAX 1000
#define INTERRUPTED 130

/* --- options ------------------------------------------------------------------------------- */

static int take_int(const struct call *call, const char *name, int64_t min, int64_t max,
                    int64_t *value, struct err *err)
{
    const char *text = options_value(&call->given, name);
    if (text && str_to_int(text, min, max, value))
        return err_set(err, ERR_INVALID, "--%s must be %lld..%lld, got '%.40s'", name,
                       (long long)min, (long long)max, text);
    return 0;
}

static int take_number(const struct call *call, const char *name, double *value, char **ret_rest,
                       struct err *err)
{
    const char *text = options_value(&call->given, name);
    if (!text)
        return 0;
    *value = strtod(text, ret_rest);
    if (*ret_rest == text || *value < 0 || (**ret_rest && strcmp(*ret_rest, "%") != 0))
        return err_set(err, ERR_INVALID, "--%s must be a number, got '%.40s'", name, text);
    return 0;
}

static int take_limits(const struct call *call, struct batch_options *o, struct err *err)
{
    char *rest = NULL;
    o->fail_at = -1;
    if (take_number(call, "max-cost", &o->max_cost, &rest, err))
        return -1;
    if (rest && *rest)
        return err_set(err, ERR_INVALID, "--max-cost is in USD");
    return take_number(call, "fail-on-error", &o->fail_at, &rest, err);
}

static int take_options(const struct call *call, struct batch_options *o,
                        struct batch_defaults *defaults, struct err *err)
{
    int64_t parallel = PARALLEL, retries = 0;
    const char *timeout = options_value(&call->given, "timeout");
    *defaults =
        (struct batch_defaults){.prompt = options_value(&call->given, "prompt"),
                                .command = options_value(&call->given, "command"),
                                .model = options_value(&call->given, "model"),
                                .executor = options_value(&call->given, "cloud") ? "cloud" : NULL,
                                .runs = 1};
    if (take_int(call, "parallel", 1, PARALLEL_MAX, &parallel, err) ||
        take_int(call, "retries", 0, 100, &retries, err) ||
        take_int(call, "runs", 1, 10000, &defaults->runs, err) || take_limits(call, o, err))
        return -1;
    if (timeout && fields_duration(timeout, &defaults->timeout_ms, err))
        return err_wrap(err, "--timeout");
    o->parallel = (int)parallel;
    o->retries = (int)retries;
    o->out = options_value(&call->given, "out");
    o->title = options_value(&call->given, "title");
    o->resume = options_value(&call->given, "resume") != NULL;
    o->retry_failed = options_value(&call->given, "retry-failed") != NULL;
    o->quiet = options_value(&call->given, "quiet") != NULL;
    o->gitignore = options_value(&call->given, "gitignore") != NULL;
    if ((o->resume || o->retry_failed) && !o->out)
        return err_set(err, ERR_INVALID, "--resume needs --out: the folder of the batch");
    o->resume |= o->retry_failed;
    return 0;
}

/* Computes --fail-on-error 5% as a part of all runs. */
static void resolve_share(const struct call *call, struct batch *b)
{
    const char *text = options_value(&call->given, "fail-on-error");
    if (text && strchr(text, '%'))
        b->options.fail_at = b->options.fail_at * (double)b->tasks.run_count / 100;
}

/* --- the command --------------------------------------------------------------------------- */

static int status_of(const struct batch *b)
{
    bool too_many =
        b->options.fail_at >= 0 ? (double)b->sums.failed > b->options.fail_at : b->sums.failed > 0;
    if (client_signals > 0)
        return INTERRUPTED;
    return too_many || b->sums.skipped > 0 ? 1 : 0;
}

static int run_batch(struct call *call, struct batch *b, const char *runner, struct err *err)
{
    struct err later = ERR_INIT;
    if (batch_results_open(&b->results, &b->options, runner, &b->tasks, &b->sums, err))
        return -1;
    client_catch_signals();
    b->display = batch_display_new(b);
    int rc = batch_loop(b, err);
    b->sums.seconds = (double)(clock_mono_ms() - b->begun_ms) / 1000;
    batch_display_clear(b->display);
    batch_display_free(b->display);
    if (batch_report(b, call->json ? stdout : stderr, call->json, rc ? &later : err) && rc == 0)
        return -1;
    if (rc)
        fprintf(stderr, "what has ended is kept; --out %s --resume goes on\n", b->options.out);
    return rc ? -1 : status_of(b);
}

int client_batch(struct call *call, struct err *err)
{
    struct batch b = {.to = &call->to, .results = {.lock = -1, .file = -1}, .tasks = {.spool = -1}};
    struct batch_defaults defaults;
    char dir[64];
    time_t now = (time_t)(clock_real_ms() / 1000);
    struct tm tm;
    struct cloud_home home = {.pid = 0};
    bool cloud = options_value(&call->given, "cloud") != NULL;
    if (take_options(call, &b.options, &defaults, err) ||
        (!cloud && settings_find(&call->to, &call->given, err)))
        return -1;
    gmtime_r(&now, &tm);
    strftime(dir, sizeof(dir), "batch-%Y%m%d-%H%M%S", &tm);
    b.options.out = b.options.out ? b.options.out : dir;
    int rc = batch_tasks_read(&b.tasks, call->args.items[0], &defaults, err);
    if (rc == 0 && cloud)
        rc = cloud_home_check(err);
    if (rc == 0)
        rc = batch_results_lock(&b.results, b.options.out, err);
    if (rc == 0 && cloud)
        rc = cloud_home_open(&home, b.options.out, &call->to, err);
    if (rc == 0) {
        resolve_share(call, &b);
        rc = run_batch(call, &b, cloud ? home.name : b.to->url, err);
    }
    cloud_home_close(&home, rc >= 0 && b.sums.skipped == 0);
    batch_results_close(&b.results);
    batch_tasks_done(&b.tasks);
    return rc;
}
