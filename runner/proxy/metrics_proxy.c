/* The proxy's metrics, and the account's figures from the heads of the API's answers. */
#include "base/metric.h"
#include "runner/proxy/lease.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    const char *help;
    const char *label;
} families[] = {
    {"claude_runner_api_limit", "An API key's limit a minute, as the API last said.", "resource"},
    {"claude_runner_api_limit_remaining", "What is left of it, as the API last said.", "resource"},
};

/* Headers, in the order of their families. */
static const struct {
    const char *header;
    size_t family;
    const char *label;
} rows[FIGURES] = {
    {"anthropic-ratelimit-requests-limit", 0, "requests"},
    {"anthropic-ratelimit-input-tokens-limit", 0, "input_tokens"},
    {"anthropic-ratelimit-output-tokens-limit", 0, "output_tokens"},
    {"anthropic-ratelimit-requests-remaining", 1, "requests"},
    {"anthropic-ratelimit-input-tokens-remaining", 1, "input_tokens"},
    {"anthropic-ratelimit-output-tokens-remaining", 1, "output_tokens"},
};

/* Reads a header's number, finite and at least 0; false when there is none. */
static bool read_number(const struct buf *head, const char *header, double *ret_value)
{
    char text[64], *end;
    if (!net_header(head, header, text, sizeof(text)))
        return false;
    *ret_value = strtod(text, &end);
    return end != text && !*end && isfinite(*ret_value) && *ret_value >= 0;
}

void windows_read(struct proxy *proxy, const struct buf *head)
{
    static const char *const names[USAGE_WINDOWS] = {
        [USAGE_FIVE_HOUR] = "5h", [USAGE_SEVEN_DAY] = "7d"};
    struct usage_reading readings[USAGE_WINDOWS] = {0};
    for (int i = 0; i < USAGE_WINDOWS; i++) {
        char used[64], reset[64];
        double reset_s;
        snprintf(used, sizeof(used), "anthropic-ratelimit-unified-%s-utilization", names[i]);
        snprintf(reset, sizeof(reset), "anthropic-ratelimit-unified-%s-reset", names[i]);
        if (!read_number(head, used, &readings[i].ratio) || !read_number(head, reset, &reset_s) ||
            reset_s > 1e12)
            continue;
        readings[i].resets_ms = (int64_t)(reset_s * 1000.0);
        readings[i].known = true;
    }
    if (proxy->config.usage)
        usage_note(proxy->config.usage, readings);
}

void figures_read(struct proxy *proxy, const struct buf *head)
{
    for (size_t i = 0; i < FIGURES; i++) {
        double value;
        if (!read_number(head, rows[i].header, &value))
            continue;
        atomic_store(&proxy->figures[i].value, value);
        atomic_store(&proxy->figures[i].known, true);
    }
}

static void print_figures(struct metric_page *page, struct proxy *proxy)
{
    for (size_t family = 0, i = 0; family < COUNT_OF(families); family++) {
        metric_family(page, families[family].name, METRIC_GAUGE, families[family].help);
        for (; i < FIGURES && rows[i].family == family; i++)
            if (atomic_load(&proxy->figures[i].known))
                metric_value(page, atomic_load(&proxy->figures[i].value), families[family].label,
                             rows[i].label, NULL);
    }
}

void proxy_metrics(struct metric_page *page, void *arg)
{
    struct proxy_stats stats;
    char code[8];
    proxy_stats(arg, &stats);
    metric_counter(page, "claude_runner_proxy_requests_total", stats.requests,
                   "Requests of tasks that were passed on to the API.");
    metric_counter(page, "claude_runner_proxy_failures_total", stats.failed,
                   "Those whose exchange broke off.");
    metric_gauge(page, "claude_runner_proxy_in_flight", stats.in_flight,
                 "Those that are under way.");
    metric_family(page, "claude_runner_proxy_answers_total", METRIC_COUNTER,
                  "The API's answers, by class of status.");
    for (int i = 2; i < 6; i++) {
        snprintf(code, sizeof(code), "%dxx", i);
        metric_count(page, stats.answers_by_class[i], "code", code, NULL);
    }
    metric_family(page, "claude_runner_proxy_tokens_total", METRIC_COUNTER,
                  "Tokens as the API counted them, also of tasks that gave no result, by type.");
    metric_count(page, stats.input_tokens, "type", "input", NULL);
    metric_count(page, stats.output_tokens, "type", "output", NULL);
    print_figures(page, arg);
}
