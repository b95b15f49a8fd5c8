/* The proxy's numbers, and the account's as the API tells them in the heads of its answers. */
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
    {"claude_runner_account_utilization_ratio",
     "How much of a subscription's window is used, as the API last said (1: all).", "window"},
    {"claude_runner_account_reset_timestamp_seconds",
     "When a subscription's window ends, as the API last said.", "window"},
    {"claude_runner_api_limit", "An API key's limit a minute, as the API last said.", "resource"},
    {"claude_runner_api_limit_remaining", "What is left of it, as the API last said.", "resource"},
};

/* Headers, in the order of their families. */
static const struct {
    const char *header;
    size_t family;
    const char *label;
} rows[FIGURES] = {
    {"anthropic-ratelimit-unified-5h-utilization", 0, "5h"},
    {"anthropic-ratelimit-unified-7d-utilization", 0, "7d"},
    {"anthropic-ratelimit-unified-5h-reset", 1, "5h"},
    {"anthropic-ratelimit-unified-7d-reset", 1, "7d"},
    {"anthropic-ratelimit-requests-limit", 2, "requests"},
    {"anthropic-ratelimit-input-tokens-limit", 2, "input_tokens"},
    {"anthropic-ratelimit-output-tokens-limit", 2, "output_tokens"},
    {"anthropic-ratelimit-requests-remaining", 3, "requests"},
    {"anthropic-ratelimit-input-tokens-remaining", 3, "input_tokens"},
    {"anthropic-ratelimit-output-tokens-remaining", 3, "output_tokens"},
};

void figures_read(struct proxy *proxy, const struct buf *head)
{
    char text[64], *end;
    for (size_t i = 0; i < FIGURES; i++) {
        if (!net_header(head, rows[i].header, text, sizeof(text)))
            continue;
        double value = strtod(text, &end);
        if (end == text || *end || !isfinite(value) || value < 0)
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
