#include "google/execution.h"

#include "google/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- quantities ----------------------------------------------------------------------------- */

int jobs_quantity(const char *text, double *ret_value)
{
    static const struct {
        const char *suffix;
        double factor;
    } rows[] = {
        {"", 1},     {"m", 1e-3},  {"k", 1e3},      {"M", 1e6},         {"G", 1e9},
        {"T", 1e12}, {"Ki", 1024}, {"Mi", 1048576}, {"Gi", 1073741824}, {"Ti", 1099511627776.0},
    };
    size_t digits = strspn(text, "0123456789");
    char *end;
    if (digits == 0 || digits > 15 || strpbrk(text, "xX")) /* strtod() accepts much more. */
        return -1;
    double value = strtod(text, &end);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(end, rows[i].suffix) == 0) {
            *ret_value = value * rows[i].factor;
            return 0;
        }
    return -1;
}

static void read_limits(const struct json *json, struct jobs_execution *execution)
{
    const struct json *container = json_first(json_get(json_get(json, "template"), "containers"));
    const struct json *limits = json_get(json_get(container, "resources"), "limits");
    const char *cpu = json_text(json_get(limits, "cpu"));
    const char *memory = json_text(json_get(limits, "memory"));
    double value;
    if (cpu && jobs_quantity(cpu, &value) == 0)
        execution->cpu = value;
    if (memory && jobs_quantity(memory, &value) == 0 && value < 1e18)
        execution->memory_bytes = (int64_t)value;
}

/* --- states --------------------------------------------------------------------------------- */

static const struct json *find_condition(const struct json *json, const char *type)
{
    const struct json *all = json_get(json, "conditions");
    for (const struct json *one = json_first(all); one; one = json_next(one)) {
        const char *is = json_text(json_get(one, "type"));
        if (is && strcmp(is, type) == 0)
            return one;
    }
    return NULL;
}

static bool is_text(const struct json *object, const char *name, const char *value)
{
    const char *text = json_text(json_get(object, name));
    return text && strcmp(text, value) == 0;
}

static int64_t count(const struct json *json, const char *name)
{
    int64_t value = 0;
    answer_int(json, name, &value);
    return value;
}

/* The Completed condition decides; a completed execution without one is judged by its counts. */
static enum jobs_state state_of(const struct json *json, const struct json *completed,
                                const struct jobs_execution *execution)
{
    bool cancelled = count(json, "cancelledCount") > 0;
    if (is_text(completed, "state", "CONDITION_SUCCEEDED"))
        return RUN_SUCCEEDED;
    if (is_text(completed, "state", "CONDITION_FAILED"))
        return cancelled || is_text(completed, "executionReason", "CANCELLED") ? RUN_CANCELLED
                                                                               : RUN_FAILED;
    if (execution->ended_ms) {
        int64_t wanted = count(json, "taskCount");
        if (count(json, "failedCount") > 0)
            return RUN_FAILED;
        if (cancelled)
            return RUN_CANCELLED;
        return count(json, "succeededCount") >= (wanted > 0 ? wanted : 1) ? RUN_SUCCEEDED
                                                                          : RUN_FAILED;
    }
    bool started = count(json, "runningCount") > 0 ||
                   is_text(find_condition(json, "Started"), "state", "CONDITION_SUCCEEDED");
    return started ? RUN_RUNNING : RUN_PENDING;
}

static void read_reason(const struct json *completed, struct jobs_execution *execution)
{
    static const char *const names[] = {"executionReason", "reason", "revisionReason"};
    for (size_t i = 0; i < COUNT_OF(names) && !*execution->reason; i++) {
        const char *text = json_text(json_get(completed, names[i]));
        if (text && !strstr(text, "_UNDEFINED"))
            answer_copy_words(execution->reason, sizeof(execution->reason), text);
    }
    answer_copy_words(execution->message, sizeof(execution->message),
                      json_text(json_get(completed, "message")));
}

int execution_read(const struct json *json, struct jobs_execution *ret_execution, struct err *err)
{
    struct jobs_execution execution = {.created_ms = answer_time(json, "createTime"),
                                       .started_ms = answer_time(json, "startTime"),
                                       .ended_ms = answer_time(json, "completionTime")};
    const struct json *completed = find_condition(json, "Completed");
    const char *name = json_text(json_get(json, "name"));
    if (!name || strlen(name) >= sizeof(execution.name))
        return err_set(err, ERR_UPSTREAM, "Cloud Run: an execution without a name");
    snprintf(execution.name, sizeof(execution.name), "%s", name);
    execution.state = state_of(json, completed, &execution);
    read_reason(completed, &execution);
    read_limits(json, &execution);
    *ret_execution = execution;
    return 0;
}

bool execution_has_env(const struct json *json, const char *name, const char *value)
{
    const struct json *containers = json_get(json_get(json, "template"), "containers");
    for (const struct json *one = json_first(containers); one; one = json_next(one))
        for (const struct json *env = json_first(json_get(one, "env")); env; env = json_next(env))
            if (is_text(env, "name", name) && is_text(env, "value", value))
                return true;
    return false;
}
