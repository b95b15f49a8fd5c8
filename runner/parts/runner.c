#include "runner/parts/runner.h"

#include "base/log.h"

static int begin(struct runner *runner, struct config *config, struct err *err)
{
    config_in_force_init(&runner->config, config);
    runner->first = config_ref(&runner->config);
    runner->parts.whole = runner;
    return parts_begin(&runner->parts, err);
}

int runner_begin_worker(struct runner *runner, struct config *config, struct err *err)
{
    parts_add(&runner->parts, runner_task_parts, runner_task_part_count);
    return begin(runner, config, err);
}

int runner_begin_daemon(struct runner *runner, struct config *config, struct err *err)
{
    parts_add(&runner->parts, runner_task_parts, runner_task_part_count);
    parts_add(&runner->parts, runner_service_parts, runner_service_part_count);
    return begin(runner, config, err);
}

bool runner_end(struct runner *runner)
{
    if (runner->parts.begun == 0)
        return true;
    if (!parts_end(&runner->parts))
        return false;
    config_unref(runner->first);
    config_in_force_done(&runner->config);
    return true;
}

int runner_reconfigure(struct runner *runner, struct config *config, struct err *err)
{
    if (runner_check_network(runner, config, err)) {
        config_free(config);
        return -1;
    }
    if (config_redact(config, runner->secrets)) {
        config_free(config);
        return err_sys(err, "configuration");
    }
    log_set_level((enum log_level)config->log_level);
    runner_replace_config(runner, config);
    webhook_wake(runner->webhook);
    return 0;
}
