/* What is reported about Python: capabilities, health, metrics. */
#include "runner/python/core.h"

#include "base/clock.h"
#include "base/lock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const status_names[] = {"success",         "error",    "timeout",
                                           "memory_exceeded", "rejected", "failed"};
static const char *const level_names[] = {"bare", "numpy", "pandas", "all"};

const char *python_status_name(enum python_status status)
{
    return status_names[status];
}

/* True when the library is installed where Debian or pip puts libraries. */
static bool is_installed(const char *library)
{
    static const char *const places[] = {"/usr/lib/python3/dist-packages",
                                         "/usr/local/lib/python" CR_PYTHON_VERSION
                                         "/dist-packages"};
    char path[256];
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        snprintf(path, sizeof(path), "%s/%s/__init__.py", places[i], library);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

static void print_libraries(struct json_writer *w)
{
    static const char *const libraries[] = {"sympy",      "numpy", "pandas",
                                            "matplotlib", "scipy", "sklearn"};
    json_open_array(w, "libraries");
    for (size_t i = 0; i < COUNT_OF(libraries); i++)
        if (is_installed(libraries[i]))
            json_add_text(w, NULL, libraries[i]);
    json_close(w);
}

static void print_limits(struct json_writer *w)
{
    json_open_object(w, "limits");
    json_add_int(w, "timeout_seconds", PYTHON_TIMEOUT_MAX);
    json_add_int(w, "memory_mb", PYTHON_MEMORY_MAX);
    json_add_int(w, "code_characters", PYTHON_CODE_MAX);
    json_add_int(w, "output_bytes", PYTHON_OUTPUT_MAX);
    json_close(w);
}

static void print_zygotes(struct python *python, struct json_writer *w)
{
    json_open_array(w, "zygotes");
    for (int i = 0; i < LEVEL_COUNT; i++) {
        const struct zygote *zygote = &python->zygotes[i];
        if (zygote->state == ZYGOTE_OFF)
            continue;
        json_open_object(w, NULL);
        json_add_text(w, "name", level_names[i]);
        json_add_text(w, "state", zygote->state == ZYGOTE_READY ? "ready" : "loading");
        json_add_int(w, "standby", kids_count(python, (enum python_level)i, KID_STANDBY));
        if (zygote->missing[0])
            json_add_text(w, "missing", zygote->missing);
        json_close(w);
    }
    json_close(w);
}

void python_print_pyrunner(const struct python *python, struct json_writer *w)
{
    json_add_int(w, "max_timeout", PYTHON_TIMEOUT_MAX);
    json_add_int(w, "max_memory_mb", PYTHON_MEMORY_MAX);
    if (python->why[0] == '\0')
        print_libraries(w);
}

void python_print(struct python *python, bool verbose, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_bool(&w, "available", python->why[0] == '\0');
    if (python->why[0])
        json_add_text(&w, "reason", python->why);
    json_add_text(&w, "version", python->why[0] ? NULL : CR_PYTHON_VERSION);
    print_libraries(&w);
    print_limits(&w);
    if (verbose) {
        lock_take(&python->lock);
        json_add_int(&w, "slots", CONFIG_GET(python->config.config, python_slots));
        json_add_int(&w, "running", python->running_count);
        json_add_int(&w, "queued", python->queued_count);
        json_add_int(&w, "sessions", python->session_count);
        print_zygotes(python, &w);
        if (python->failures > 0 || clock_mono_ms() < python->hold_until_ms)
            json_add_text(&w, "error", python->last_failure.msg);
        if (python->last_failure.msg[0])
            json_add_text(&w, "last_failure", python->last_failure.msg);
        lock_drop(&python->lock);
    }
    json_close(&w);
}

void python_metrics(struct metric_page *page, void *arg)
{
    struct python *python = arg;
    lock_take(&python->lock);
    const int running = python->running_count, queued = python->queued_count;
    const int sessions = python->session_count, processes = python->kid_count;
    lock_drop(&python->lock);
    metric_family(page, "claude_runner_python_runs_total", METRIC_COUNTER,
                  "Python runs that ended, by status.");
    for (int i = 0; i < PYTHON_STATUS_COUNT; i++)
        metric_count(page, atomic_load(&python->numbers.ended[i]), "status", status_names[i], NULL);
    metric_family(page, "claude_runner_python_run_seconds", METRIC_HISTOGRAM,
                  "From the code being given to a child to its end.");
    metric_histogram(page, &python->numbers.took, NULL);
    metric_family(page, "claude_runner_python_wait_seconds", METRIC_HISTOGRAM,
                  "How long runs have waited for a slot and a child.");
    metric_histogram(page, &python->numbers.waited, NULL);
    metric_counter(page, "claude_runner_python_cancelled_total",
                   atomic_load(&python->numbers.cancelled),
                   "Runs that nobody waited for any more.");
    metric_counter(page, "claude_runner_python_retried_total", atomic_load(&python->numbers.again),
                   "Runs that were begun again after their process was killed from outside.");
    metric_counter(page, "claude_runner_python_trees_total", atomic_load(&python->numbers.trees),
                   "How often the zygotes were started.");
    metric_gauge(page, "claude_runner_python_running", running, "Python runs that are running.");
    metric_gauge(page, "claude_runner_python_queued", queued, "Python runs that wait.");
    metric_gauge(page, "claude_runner_python_sessions", sessions, "Python sessions that are open.");
    metric_gauge(page, "claude_runner_python_processes", processes,
                 "Children, on standby or in use.");
}
