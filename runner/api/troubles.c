#include "runner/api/troubles.h"

#include "runner/claude/version.h"
#include "runner/janitor/disk.h"
#include "runner/overflow/prompt.h"

#define WEBHOOKS_MANY 100 /* webhooks that wait for another try */

enum which {
    TROUBLE_LOGIN,
    TROUBLE_REFRESH,
    TROUBLE_LIMIT,
    TROUBLE_RESERVED,
    TROUBLE_CLI_MISSING,
    TROUBLE_CLI_BROKEN,
    TROUBLE_NETWORK,
    TROUBLE_WEBHOOKS,
    TROUBLE_DISK,
    TROUBLE_CLOUD,
    TROUBLE_JAIL,
    TROUBLE_PROMPT,
    TROUBLES,
};
_Static_assert(TROUBLES <= TROUBLES_MAX, "room for all of them");

static const struct trouble table[TROUBLES] = {
    [TROUBLE_LOGIN] = {"login_needed", "Log in again: open /login, or run `claude-runner login`."},
    [TROUBLE_REFRESH] = {"refresh_failed",
                         "The token server could not be asked for the next token; it is tried "
                         "again by itself. Check the network and OAUTH_TOKEN_URL."},
    [TROUBLE_LIMIT] = {"usage_limit", "Nothing to do: tasks go on when the limit ends."},
    [TROUBLE_RESERVED] = {"usage_reserved",
                          "Tasks wait because the rest of a usage window is kept for you; they go "
                          "on when it ends, or once USAGE_KEEP_PERCENT is lower."},
    [TROUBLE_CLI_MISSING] = {"cli_missing",
                             "There is no program that CLAUDE_BIN means: install Claude Code "
                             "(runner/install-claude), or set CLAUDE_BIN to its path."},
    [TROUBLE_CLI_BROKEN] = {"cli_broken",
                            "Claude Code does not start in the jail of tasks: `claude.error` in "
                            "/health?verbose=true says why. What it needs outside of /usr and /opt "
                            "is shown by JAIL_PATHS; else install it again "
                            "(runner/install-claude)."},
    [TROUBLE_NETWORK] = {"network_down",
                         "The last requests to Anthropic's API reached nobody: check this "
                         "machine's network and name service, and ANTHROPIC_UPSTREAM."},
    [TROUBLE_WEBHOOKS] = {"webhooks_pile_up",
                          "Many webhooks wait for their receivers: `claude-runner tasks` and "
                          "/tasks?webhook=pending show whose, webhook.lastError why."},
    [TROUBLE_DISK] = {"disk_low", "Free space in STATE_DIR, or lower DISK_MIN_FREE_MB."},
    [TROUBLE_CLOUD] = {"cloud_unreachable",
                       "Google Cloud does not answer: run `claude-runner cloud check`."},
    [TROUBLE_PROMPT] = {"system_prompt_unreadable",
                        "SYSTEM_PROMPT_SECRET cannot be read, the log says why: may the home "
                        "runner's account read it? `claude-runner cloud setup` grants that."},
    [TROUBLE_JAIL] = {"jail_weak", "Tasks run with weaker walls than they could: `jail` in "
                                   "/health?verbose=true says what this host lacks."},
};

/* True when the jail is weaker than the owner has asked for; or none at all, which JAIL_MIN=none
 * accepts and nobody asks for but by JAIL=none. */
static bool is_jail_weak(const struct api *api)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const int tier = (int)api->claude->walls->tier;
    if (config->jail == CONFIG_JAIL_AUTO)
        return tier == JAIL_NONE;
    return (config->jail == CONFIG_JAIL_FULL || config->jail == CONFIG_JAIL_RESTRICTED) &&
           tier < config_jail_most(config);
}

void troubles_find(const struct api *api, const struct keeper_status *login,
                   struct troubles *ret_found)
{
    struct err ignored;
    struct breaker_status breaker;
    struct overflow_status cloud = {.reachable = true};
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    enum claude_cli_state cli = claude_cli_state(api->claude);
    breaker_status(api->breaker, &breaker);
    if (api->overflow)
        overflow_status(api->overflow, &cloud);
    const bool found[TROUBLES] = {
        [TROUBLE_LOGIN] =
            breaker.state == BREAKER_LOGIN && (login->not_needed || !keeper_is_cut_off(login)),
        [TROUBLE_REFRESH] = login->refresh_failing && !login->not_needed,
        [TROUBLE_LIMIT] = breaker.state == BREAKER_LIMIT && !breaker.reserved,
        [TROUBLE_RESERVED] = breaker.state == BREAKER_LIMIT && breaker.reserved,
        [TROUBLE_CLI_MISSING] = cli == CLAUDE_CLI_MISSING,
        [TROUBLE_CLI_BROKEN] = cli == CLAUDE_CLI_BROKEN,
        [TROUBLE_NETWORK] = proxy_is_cut_off(api->proxy),
        [TROUBLE_WEBHOOKS] = api->webhook && webhook_retrying(api->webhook) >= WEBHOOKS_MANY,
        [TROUBLE_DISK] = disk_check(api->state_dir, config->disk_min_free_mb, &ignored) != 0,
        [TROUBLE_CLOUD] = !cloud.reachable,
        [TROUBLE_JAIL] = is_jail_weak(api),
        [TROUBLE_PROMPT] = api->prompt && prompt_watch_fails(api->prompt),
    };
    ret_found->count = 0;
    for (size_t i = 0; i < TROUBLES; i++)
        if (found[i])
            ret_found->items[ret_found->count++] = &table[i];
}
