/* The metrics of the account. */
#include "base/auto.h"
#include "base/metric.h"
#include "runner/oauth/breaker.h"
#include "runner/oauth/keeper.h"

void keeper_metrics(struct metric_page *page, void *arg)
{
    struct keeper_status status;
    keeper_status(arg, &status);
    int64_t left_ms = status.remaining_ms > 0 ? status.remaining_ms : 0;
    metric_gauge(page, "claude_runner_login_usable", status.state == LOGIN_OK,
                 "1 while there is a login that works or can be refreshed.");
    metric_family(page, "claude_runner_login_remaining_seconds", METRIC_GAUGE,
                  "Until the access token expires; without a sample when that is not known.");
    if (status.configured && status.expires_ms > 0)
        metric_value(page, (double)left_ms / 1000.0, NULL);
    metric_family(page, "claude_runner_oauth_refreshes_total", METRIC_COUNTER,
                  "Refreshes of the login, by outcome (refused: a new login is needed).");
    metric_count(page, status.refreshes_done, "outcome", "done", NULL);
    metric_count(page, status.refreshes_refused, "outcome", "refused", NULL);
    metric_count(page, status.refreshes_failed, "outcome", "failed", NULL);
}

void breaker_metrics(struct metric_page *page, void *arg)
{
    static const char *const states[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_LOGIN] = "login", [BREAKER_LIMIT] = "limit"};
    struct breaker_status status;
    breaker_status(arg, &status);
    metric_family(page, "claude_runner_breaker_state", METRIC_GAUGE,
                  "1 for the state it is in: closed (tasks start), login or limit (they wait).");
    for (size_t i = 0; i < COUNT_OF(states); i++)
        metric_count(page, i == (size_t)status.state, "state", states[i], NULL);
    metric_family(page, "claude_runner_breaker_until_timestamp_seconds", METRIC_GAUGE,
                  "When tasks may start again; without a sample when that is not known.");
    if (status.until_ms > 0)
        metric_value(page, (double)status.until_ms / 1000.0, NULL);
    metric_counter(page, "claude_runner_usage_limits_total", status.limits,
                   "How often the API said that the account's limit was hit.");
    metric_counter(page, "claude_runner_credential_refusals_total", status.auth_refusals,
                   "How often the API refused the runner's credential, also after a refresh.");
}
