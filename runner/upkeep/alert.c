/* `claude-runner alert --test`: what the owner would be told, sent once. */
#include "runner/oauth/alert.h"

#include "net/net.h"
#include "runner/upkeep/machine.h"
#include "runner/upkeep/upkeep.h"

#include <stdio.h>

static const char usage[] =
    "usage: claude-runner alert --test [--env-file FILE]\n"
    "\n"
    "Sends one alert to where ALERT_URL or NTFY_TOPIC says, to see that it arrives.\n"
    "\n"
    "  --env-file FILE   the service's settings; default: /etc/claude-runner.env, else ./.env\n";

int upkeep_alert(int argc, char **argv)
{
    struct err err;
    int status;
    struct upkeep_options options = {.usage = usage};
    AUTO(config) struct config *config = upkeep_settings(argc, argv, &options, &status);
    if (!config)
        return status;
    if (!options.test || options.argument || options.with_secrets) {
        fputs(usage, stderr);
        return 2;
    }
    if (alert_test(config, &err))
        return upkeep_failed("alert", &err);
    puts("sent: it was taken");
    return 0;
}
