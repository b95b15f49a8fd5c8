/* What the engine counts, by kind of task. */
#include "base/metric.h"
#include "runner/task/engine_private.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

#define NANO 1e9

/* As the answer's `usage` names them, and as the label does. */
static const struct {
    const char *member;
    const char *label;
} token_types[TOKEN_TYPES] = {
    {"input_tokens", "input"},
    {"output_tokens", "output"},
    {"cache_read_input_tokens", "cache_read"},
    {"cache_creation_input_tokens", "cache_creation"},
};

int numbers_init(struct numbers *numbers, const struct task_kind *kinds, struct err *err)
{
    while (kinds && kinds[numbers->count].name)
        numbers->count++;
    /* one more: tasks of a kind that this runner no longer has */
    numbers->kinds = calloc(numbers->count + 1, sizeof(*numbers->kinds));
    if (!numbers->kinds)
        return err_sys(err, "engine");
    for (size_t i = 0; i <= numbers->count; i++) {
        numbers->kinds[i].name = i < numbers->count ? kinds[i].name : "other";
        numbers->kinds[i].waited.scale = HISTOGRAM_LONG;
        numbers->kinds[i].ran.scale = HISTOGRAM_LONG;
    }
    return 0;
}

void numbers_done(struct numbers *numbers)
{
    free(numbers->kinds);
}

static struct kind_numbers *find_kind(struct engine *engine, const char *kind)
{
    struct numbers *numbers = &engine->numbers;
    size_t i = 0;
    while (i < numbers->count && strcmp(numbers->kinds[i].name, kind) != 0)
        i++;
    return &numbers->kinds[i];
}

void numbers_began(struct engine *engine, const char *kind, int64_t waited_ms)
{
    histogram_add(&find_kind(engine, kind)->waited, waited_ms * 1000);
}

void numbers_ended(struct engine *engine, const char *kind, enum task_state state,
                   const char *reason)
{
    tally_add(&find_kind(engine, kind)->ended, task_state_name(state), reason);
}

void numbers_ran(struct engine *engine, const char *kind, int64_t ran_ms, const struct buf *summary)
{
    struct err ignored;
    struct kind_numbers *numbers = find_kind(engine, kind);
    AUTO(json) struct json *root = json_parse(buf_str(summary), summary->len, &ignored);
    const struct json *usage = json_get(root, "usage");
    double usd = 0;
    histogram_add(&numbers->ran, ran_ms * 1000);
    for (size_t i = 0; i < TOKEN_TYPES; i++) {
        int64_t tokens = 0;
        if (json_int(json_get(usage, token_types[i].member), &tokens) == 0 && tokens > 0)
            atomic_fetch_add_explicit(&numbers->tokens[i], tokens, memory_order_relaxed);
    }
    if (json_number(json_get(root, "total_cost_usd"), &usd) == 0 && usd > 0 && usd < 1e6)
        atomic_fetch_add_explicit(&numbers->nano_usd, (int64_t)(usd * NANO), memory_order_relaxed);
}

/* --- printing ------------------------------------------------------------------------------ */

static void print_times(struct metric_page *page, const struct numbers *numbers)
{
    metric_family(page, "claude_runner_task_wait_seconds", METRIC_HISTOGRAM,
                  "From a task's submission to its first start, by kind.");
    for (size_t i = 0; i < numbers->count; i++)
        metric_histogram(page, &numbers->kinds[i].waited, "kind", numbers->kinds[i].name, NULL);
    metric_family(page, "claude_runner_task_run_seconds", METRIC_HISTOGRAM,
                  "The last run of a task that has ended, by kind.");
    for (size_t i = 0; i < numbers->count; i++)
        metric_histogram(page, &numbers->kinds[i].ran, "kind", numbers->kinds[i].name, NULL);
}

static void print_usage(struct metric_page *page, const struct numbers *numbers)
{
    metric_family(page, "claude_runner_tokens_total", METRIC_COUNTER,
                  "Tokens in the results of ended tasks, by kind and type.");
    for (size_t i = 0; i < numbers->count; i++)
        for (size_t k = 0; k < TOKEN_TYPES; k++)
            metric_count(page, atomic_load(&numbers->kinds[i].tokens[k]), "kind",
                         numbers->kinds[i].name, "type", token_types[k].label, NULL);
    metric_family(page, "claude_runner_cost_usd_total", METRIC_COUNTER,
                  "Cost in the results of ended tasks, as Claude Code reckons it, by kind.");
    for (size_t i = 0; i < numbers->count; i++)
        metric_value(page, (double)atomic_load(&numbers->kinds[i].nano_usd) / NANO, "kind",
                     numbers->kinds[i].name, NULL);
}

void engine_metrics(struct metric_page *page, void *arg)
{
    struct engine *engine = arg;
    const struct numbers *numbers = &engine->numbers;
    struct engine_load load;
    engine_load(engine, &load);
    metric_family(page, "claude_runner_tasks_running", METRIC_GAUGE,
                  "Tasks that run, by where (executor).");
    metric_count(page, load.running, "executor", "local", NULL);
    metric_count(page, load.cloud, "executor", "cloud", NULL);
    metric_gauge(page, "claude_runner_tasks_queued", load.queued,
                 "Tasks that wait for a slot, or for the end of a pause.");
    metric_gauge(page, "claude_runner_task_slots", load.slots, "Tasks that may run here at once.");
    metric_family(page, "claude_runner_tasks_ended_total", METRIC_COUNTER,
                  "Tasks that have ended, by kind, status and reason (empty for a success).");
    for (size_t i = 0; i <= numbers->count; i++)
        metric_tally(page, &numbers->kinds[i].ended, "status", "reason", "kind",
                     numbers->kinds[i].name, NULL);
    print_times(page, numbers);
    print_usage(page, numbers);
    metric_counter(page, "claude_runner_event_bytes_total", atomic_load(&numbers->event_bytes),
                   "Bytes that running tasks have added to their events.");
}
