/* GET /metrics: what the modules count, one after the other. */
#include "base/clock.h"
#include "runner/api/handlers.h"
#include "runner/api/numbers.h"
#include "runner/janitor/disk.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES_MAX (4u << 20)
#define TYPE "text/plain; version=0.0.4; charset=utf-8"
#define CLASSES 6 /* classes of status: 0 for none, 2xx, … */

/* --- requests ------------------------------------------------------------------------------ */

struct route_numbers {
    _Atomic int64_t by_class[CLASSES];
    struct histogram took;
};

struct api_numbers {
    const struct http_route *routes; /* borrowed */
    size_t count;
    struct route_numbers rows[]; /* one for each route, and one for requests that no route served */
};

struct api_numbers *api_numbers_new(const struct http_route *routes, size_t count)
{
    struct api_numbers *numbers =
        calloc(1, sizeof(*numbers) + (count + 1) * sizeof(numbers->rows[0]));
    if (!numbers)
        return NULL;
    numbers->routes = routes;
    numbers->count = count;
    return numbers;
}

void api_numbers_free(struct api_numbers *numbers)
{
    free(numbers);
}

void api_numbers_add(struct api_numbers *numbers, const struct http_route *route, int status,
                     int64_t duration_us)
{
    struct route_numbers *row =
        &numbers->rows[route ? (size_t)(route - numbers->routes) : numbers->count];
    int class = status / 100;
    atomic_fetch_add_explicit(&row->by_class[class > 0 && class < CLASSES ? class : 0], 1,
                              memory_order_relaxed);
    histogram_add(&row->took, duration_us);
}

static bool has_any(const struct route_numbers *row)
{
    bool any = false;
    for (int i = 0; i < CLASSES; i++)
        any |= atomic_load_explicit(&row->by_class[i], memory_order_relaxed) > 0;
    return any;
}

static const char *method_of(const struct api_numbers *numbers, size_t i)
{
    return i < numbers->count ? numbers->routes[i].method : "other";
}

static const char *path_of(const struct api_numbers *numbers, size_t i)
{
    return i < numbers->count ? numbers->routes[i].path : "other";
}

void api_numbers_print(const struct api_numbers *numbers, struct metric_page *page)
{
    static const char *const classes[CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    metric_family(page, "claude_runner_http_requests_total", METRIC_COUNTER,
                  "Requests that have been answered, by method, route and class of status (none: "
                  "the connection ended before).");
    for (size_t i = 0; i <= numbers->count; i++)
        for (int k = 0; k < CLASSES; k++) {
            int64_t count =
                atomic_load_explicit(&numbers->rows[i].by_class[k], memory_order_relaxed);
            if (count > 0)
                metric_count(page, count, "method", method_of(numbers, i), "route",
                             path_of(numbers, i), "code", classes[k], NULL);
        }
    metric_family(page, "claude_runner_http_request_duration_seconds", METRIC_HISTOGRAM,
                  "From a request's head to the end of its answer, by method and route; for a "
                  "stream that is as long as it lasts.");
    for (size_t i = 0; i <= numbers->count; i++)
        if (has_any(&numbers->rows[i]))
            metric_histogram(page, &numbers->rows[i].took, "method", method_of(numbers, i), "route",
                             path_of(numbers, i), NULL);
}

/* --- what nobody else prints --------------------------------------------------------------- */

static void print_service(struct metric_page *page, struct api *api)
{
    metric_family(page, "claude_runner_build_info", METRIC_GAUGE,
                  "1, with the version and how well process trees are held together.");
    metric_count(page, 1, "version", api->version, "walls",
                 jail_tier_name(launcher_tier(api->launcher)), NULL);
    metric_gauge(page, "claude_runner_uptime_seconds", (clock_mono_ms() - api->started_ms) / 1000,
                 "Since the start.");
    metric_gauge(page, "claude_runner_draining", atomic_load(&api->draining),
                 "1 once new tasks are refused, before the end.");
    metric_counter(page, "claude_runner_auth_failures_total", atomic_load(&api->auth_failures),
                   "Requests with a wrong secret.");
}

static void print_http(struct metric_page *page, struct api *api)
{
    struct http_stats http;
    http_stats(atomic_load(&api->server), &http);
    metric_gauge(page, "claude_runner_http_workers", http.workers, "Threads for requests.");
    metric_gauge(page, "claude_runner_http_workers_busy", http.busy,
                 "Those that hold a connection.");
    metric_gauge(page, "claude_runner_http_parked", http.parked,
                 "Callers that wait for a task's end, and answers that are taken slowly.");
    metric_gauge(page, "claude_runner_http_streams", http.streams, "Open event streams.");
    metric_counter(page, "claude_runner_http_malformed_total", (int64_t)http.refused,
                   "Requests whose head could not be read.");
    metric_counter(page, "claude_runner_http_cut_off_total", (int64_t)http.cut_off,
                   "Connections that were cut off for being slow, or to make room.");
    api_numbers_print(api->numbers, page);
}

static void print_spawns(struct metric_page *page, const struct launcher_numbers *numbers)
{
    metric_family(page, "claude_runner_spawn_seconds", METRIC_HISTOGRAM,
                  "From the wish to start a program to its execution: Claude Code, git helpers, "
                  "commands before a run.");
    metric_histogram(page, &numbers->took, NULL);
    metric_counter(page, "claude_runner_spawn_failures_total", atomic_load(&numbers->failed),
                   "Programs that could not be started.");
}

static void print_disk(struct metric_page *page, const char *dir)
{
    struct err ignored;
    int64_t free_bytes = 0, total_bytes = 0;
    bool known = disk_space(dir, &free_bytes, &total_bytes, &ignored) == 0;
    metric_family(page, "claude_runner_disk_free_bytes", METRIC_GAUGE,
                  "What the runner may still write to the disk of RUNNER_STATE_DIR.");
    if (known)
        metric_count(page, free_bytes, NULL);
    metric_family(page, "claude_runner_disk_size_bytes", METRIC_GAUGE, "The size of that disk.");
    if (known)
        metric_count(page, total_bytes, NULL);
}

void metrics_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(PAGE_BYTES_MAX);
    struct metric_page page = {.out = &out};
    print_service(&page, api);
    print_http(&page, api);
    print_spawns(&page, launcher_numbers(api->launcher));
    print_disk(&page, api->state_dir);
    for (const struct metric_source *source = api->metrics; source && source->print; source++)
        source->print(&page, source->arg);
    api_print_process(&page);
    if (buf_check(&out, "the page of metrics", &err)) {
        err.code = ERR_INTERNAL;
        send_err(req, &err);
        return;
    }
    http_send(req, 200, TYPE, buf_str(&out), out.len);
}
