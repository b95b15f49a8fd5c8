/* Tasks of kind "claude" as a row for the engine, and the counts of them. */
#include "runner/claude/claude.h"
#include "runner/request/request.h"
#include "json/json.h"

#define NANO 1e9

/* The names in the answer's `usage`, and the label's values. */
static const struct {
    const char *member;
    const char *label;
} token_types[CLAUDE_TOKEN_TYPES] = {
    {"input_tokens", "input"},
    {"output_tokens", "output"},
    {"cache_read_input_tokens", "cache_read"},
    {"cache_creation_input_tokens", "cache_creation"},
};

void claude_count(const struct buf *summary, void *arg)
{
    struct err ignored;
    struct claude_numbers *numbers = &((struct claude *)arg)->numbers;
    AUTO(json) struct json *root = json_parse(buf_str(summary), summary->len, &ignored);
    const struct json *usage = json_get(root, "usage");
    double usd = 0;
    for (size_t i = 0; i < CLAUDE_TOKEN_TYPES; i++) {
        int64_t tokens = 0;
        if (json_int(json_get(usage, token_types[i].member), &tokens) == 0 && tokens > 0)
            atomic_fetch_add_explicit(&numbers->tokens[i], tokens, memory_order_relaxed);
    }
    if (json_number(json_get(root, "total_cost_usd"), &usd) == 0 && usd > 0 && usd < 1e6)
        atomic_fetch_add_explicit(&numbers->nano_usd, (int64_t)(usd * NANO), memory_order_relaxed);
}

void claude_metrics(struct metric_page *page, void *arg)
{
    const struct claude_numbers *numbers = &((struct claude *)arg)->numbers;
    metric_family(page, "claude_runner_tokens_total", METRIC_COUNTER,
                  "Tokens in the results of ended tasks, by kind and type.");
    for (size_t i = 0; i < CLAUDE_TOKEN_TYPES; i++)
        metric_count(page, atomic_load(&numbers->tokens[i]), "kind", CLAUDE_KIND, "type",
                     token_types[i].label, NULL);
    metric_family(page, "claude_runner_cost_usd_total", METRIC_COUNTER,
                  "Cost in the results of ended tasks, as Claude Code reckons it, by kind.");
    metric_value(page, (double)atomic_load(&numbers->nano_usd) / NANO, "kind", CLAUDE_KIND, NULL);
}

static bool shares_account(const struct task_request *request)
{
    return !request->anthropic_api_key && !request->anthropic_oauth_token;
}

static const char *stays(const struct task_request *request, bool key_waits)
{
    if (request->in_session)
        return "its session is on this machine";
    if (shares_account(request) && !key_waits)
        return "the login stays at home: set CLOUD_API_KEY_SECRET, or send anthropicApiKey";
    return NULL;
}

/* The name of the directory. It is the same for all tasks of a conversation, so that paths that
 * Claude remembers stay valid. A conversation belongs to one task at a time (store_add). */
static const char *dir_name(const struct task_record *record)
{
    return record->conversation[0] ? record->conversation : record->id;
}

const struct task_kind claude_kind = {.name = CLAUDE_KIND,
                                      .fields = REQUEST_CLAUDE,
                                      .run = claude_run,
                                      .shares_account = shares_account,
                                      .stays = stays,
                                      .dir_name = dir_name,
                                      .print_said = kind_print_output,
                                      .count = claude_count,
                                      .metrics = claude_metrics};
