#include "runner/walls/owner_env.h"

#include "base/auto.h"
#include "base/check.h"
#include "runner/config/vars.h"
#include "runner/request/request.h"

#include <stdlib.h>

/* Variables of the runner's own environment that tasks get. */
static const char *const inherited[] = {
    "PATH", "LANG",  "LC_ALL",        "LC_CTYPE",     "TZ",
    "TERM", "SHELL", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
};
static const char *const inherited_proxies[] = {
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy",
};

static void inherit(struct plan *plan, const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(names[i]);
        if (value)
            strlist_addf(&plan->env, "%s=%s", names[i], value);
    }
}

void owner_env_inherit(struct plan *plan, bool proxies)
{
    REQUIRE(plan);
    inherit(plan, inherited, COUNT_OF(inherited));
    if (proxies)
        inherit(plan, inherited_proxies, COUNT_OF(inherited_proxies));
}

static int read_vars(const struct config *config, struct vars *vars, struct err *err)
{
    AUTO(strlist) struct strlist errors = STRLIST_INIT;
    int rc = vars_read_file(vars, "TASK_ENV_FILE", config->task_env_file, &errors);
    if (rc || errors.count > 0)
        return err_set(err, ERR_CONFIG, "%s",
                       errors.count > 0 ? errors.items[0] : "TASK_ENV_FILE: out of memory");
    for (size_t i = 0; i < vars->names.count; i++)
        if (request_is_runners_variable(vars->names.items[i]))
            return err_set(err, ERR_CONFIG,
                           "TASK_ENV_FILE: '%s' sets %s, which the runner sets for each task",
                           config->task_env_file, vars->names.items[i]);
    return 0;
}

int owner_env_check(const struct config *config, struct err *err)
{
    AUTO(vars) struct vars vars = {STRLIST_INIT, STRLIST_INIT};
    return config->task_env_file ? read_vars(config, &vars, err) : 0;
}

int owner_env_add(const struct config *config, struct redact_set *redact, struct plan *plan,
                  struct err *err)
{
    int rc = 0;
    AUTO(vars) struct vars vars = {STRLIST_INIT, STRLIST_INIT};
    if (!config->task_env_file)
        return 0;
    if (read_vars(config, &vars, err))
        return -1;
    for (size_t i = 0; i < vars.names.count; i++) {
        rc |= redact_add(redact, vars.values.items[i]);
        rc |= strlist_set(&plan->env, vars.names.items[i], vars.values.items[i]);
    }
    return rc ? err_set(err, ERR_INTERNAL, "out of memory") : 0;
}
