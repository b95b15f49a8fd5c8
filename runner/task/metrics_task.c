/* The engine's counters, by kind of task. */
#include "base/metric.h"
#include "runner/task/engine_private.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

int numbers_init(struct numbers *numbers, const struct task_kind *kinds, struct err *err)
{
    while (kinds && kinds[numbers->count].name)
        numbers->count++;
    /* One more, for tasks of kinds that this runner no longer has. */
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
    const struct task_kind *row = engine_kind(engine, kind);
    histogram_add(&find_kind(engine, kind)->ran, ran_ms * 1000);
    if (row && row->count)
        row->count(summary, row->arg);
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

void engine_metrics(struct metric_page *page, void *arg)
{
    struct engine *engine = arg;
    const struct numbers *numbers = &engine->numbers;
    struct engine_load load;
    engine_load(engine, &load);
    metric_family(page, "claude_runner_tasks_running", METRIC_GAUGE,
                  "Tasks that run, by where (executor).");
    metric_count(page, load.running, "executor", task_place_name(PLACE_HERE), NULL);
    metric_count(page, load.away, "executor", task_place_name(PLACE_AWAY), NULL);
    metric_gauge(page, "claude_runner_tasks_queued", load.queued,
                 "Tasks that wait for a slot, or for the end of a pause.");
    metric_gauge(page, "claude_runner_task_slots", load.slots, "Tasks that may run here at once.");
    metric_family(page, "claude_runner_tasks_ended_total", METRIC_COUNTER,
                  "Tasks that have ended, by kind, status and reason (empty for a success).");
    for (size_t i = 0; i <= numbers->count; i++)
        metric_tally(page, &numbers->kinds[i].ended, "status", "reason", "kind",
                     numbers->kinds[i].name, NULL);
    print_times(page, numbers);
    for (const struct task_kind *kind = engine->config.kinds; kind && kind->name; kind++)
        if (kind->metrics)
            kind->metrics(page, kind->arg);
    metric_counter(page, "claude_runner_event_bytes_total", atomic_load(&numbers->event_bytes),
                   "Bytes that running tasks have added to their events.");
}
