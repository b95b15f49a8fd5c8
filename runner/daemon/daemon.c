#include "runner/daemon/daemon.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/parts/process.h"
#include "runner/parts/runner.h"
#include "runner/walls/owner_env.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_EVERY_MS 60000 /* how often the log's size is checked */
#define LOOK_EVERY_MS 50   /* how often signals and running tasks are checked while draining */

static const char usage[] =
    "usage: claude-runner serve [--check] [--env-file FILE]\n"
    "\n"
    "  --check           check the configuration, print it without secrets, and exit; with "
    "neither\n"
    "                    a file nor RUNNER_SECRET given: the service's of this machine\n"
    "  --env-file FILE   read variables (KEY=VALUE lines) that the environment does not have;\n"
    "                    may be given several times, then the last one that has a variable wins.\n"
    "                    SIGHUP reads them again\n";

struct options {
    bool check;
    bool help;
    const char *env_files[CONFIG_ENV_FILES_MAX];
    size_t env_file_count;
};

static int add_env_file(struct options *options, const char *path)
{
    if (options->env_file_count == CONFIG_ENV_FILES_MAX) {
        fprintf(stderr, "claude-runner serve: more than %d times --env-file\n",
                CONFIG_ENV_FILES_MAX);
        return -1;
    }
    options->env_files[options->env_file_count++] = path;
    return 0;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {{"check", no_argument, NULL, 'c'},
                                          {"env-file", required_argument, NULL, 'e'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int got, rc = 0;
    while ((got = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (got == 'c')
            options->check = true;
        else if (got == 'e')
            rc |= add_env_file(options, optarg);
        else if (got == 'h')
            options->help = true;
        else
            return -1;
    }
    if (optind < argc)
        fprintf(stderr, "claude-runner serve: unexpected '%s'\n", argv[optind]);
    return optind < argc ? -1 : rc;
}

static void say_all(const char *kind, const struct strlist *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        fprintf(stderr, "claude-runner: %s: %s\n", kind, lines->items[i]);
}

static int print_help(void)
{
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    buf_adds(&text, usage);
    buf_adds(&text, "\nVariables:\n");
    config_print_help(&text);
    return fputs(buf_str(&text), stdout) < 0 ? 1 : 0;
}

static int print_config(struct config *config)
{
    AUTO(config) struct config *owned = config;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    config_print_text(owned, &text);
    return fputs(buf_str(&text), stdout) < 0 ? 1 : 0;
}

/* Logs what is configured but missing, so that the first task need not find out. */
static void note_missing(const struct config *config, struct strlist *warnings)
{
    struct err err;
    struct stat st;
    const struct {
        const char *name;
        const char *path;
    } files[] = {{"SYSTEM_PROMPT_FILE", config->system_prompt_file},
                 {"GIT_SSH_KEY_FILE", config->git_ssh_key_file},
                 {"GIT_KNOWN_HOSTS", config->git_known_hosts}};
    AUTO(str) char *claude = path_find_program(config->claude_bin, getenv("PATH"));
    if (!claude)
        strlist_addf(warnings, "CLAUDE_BIN: there is no program '%s'", config->claude_bin);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (!files[i].path || access(files[i].path, R_OK) == 0)
            continue;
        err_sys(&err, "%s: cannot read '%s'", files[i].name, files[i].path);
        strlist_add(warnings, err.msg);
    }
    if (owner_env_check(config, &err))
        strlist_add(warnings, err.msg);
    if (stat(config->state_dir, &st) == 0 && (st.st_mode & (S_IWOTH | S_ISVTX)) == S_IWOTH)
        strlist_addf(warnings, "RUNNER_STATE_DIR: everybody may write to '%s'", config->state_dir);
}

/* What a reload could not have changed is said, so that nobody waits for it. */
static void log_reloaded(const struct config *config)
{
    AUTO(buf) struct buf names = BUF_INIT(4096);
    config_print_unchanging(config, &names);
    if (names.len > 0)
        log_info("config", "reloaded; from the environment, where no reload changes them: %s",
                 buf_str(&names));
    else
        log_info("config", "reloaded");
}

static void reload(struct runner *runner, const struct config_source *source)
{
    struct err err;
    AUTO(config_report) struct config_report report = {0};
    AUTO(config_ref) const struct config *now = config_ref(&runner->config);
    struct config *config = config_reload(now, source, &report, &err);
    for (size_t i = 0; i < report.warnings.count; i++)
        log_warn("config", "%s", report.warnings.items[i]);
    if (!config || runner_reconfigure(runner, config, &err))
        log_error("config", "not reloaded: %s", err.msg);
    else
        log_reloaded(config);
}

/* True when the tasks have ended by themselves before the time was up and no second signal came. */
static bool wait_for_tasks(struct runner *runner)
{
    int64_t drain_ms = (int64_t)CONFIG_GET(&runner->config, drain_seconds) * 1000;
    int64_t deadline = clock_mono_ms() + drain_ms;
    while (!engine_wait_idle(runner->engine, LOOK_EVERY_MS)) {
        int signal = process_signal(0);
        if (signal == SIGTERM || signal == SIGINT || clock_mono_ms() >= deadline)
            return false;
    }
    return true;
}

static void drain(struct runner *runner)
{
    struct engine_load load;
    engine_load(runner->engine, &load);
    log_info("daemon", "draining: %d tasks run, %d stay for the next start", load.running,
             load.queued);
    atomic_store(&runner->api.draining, true);
    engine_drain(runner->engine);
    if (wait_for_tasks(runner))
        return;
    log_warn("daemon", "ending the tasks that still run");
    engine_interrupt(runner->engine);
    int64_t grace_ms = (int64_t)CONFIG_GET(&runner->config, kill_grace_seconds) * 1000;
    int64_t deadline = clock_mono_ms() + grace_ms + 5000;
    while (!engine_wait_idle(runner->engine, LOOK_EVERY_MS) && clock_mono_ms() < deadline)
        if (process_signal(0))
            return;
}

/* Logs one line per address; programs that start the daemon read the first. */
static void log_places(const struct http_server *server)
{
    char place[160];
    for (size_t i = 0; http_place(server, i, place, sizeof(place)); i++)
        log_info("daemon", "listening on %s", place);
}

static int serve(struct runner *runner, struct config *config, const struct config_source *source)
{
    struct err err;
    if (runner_begin_daemon(runner, config, &err)) {
        log_error("daemon", "cannot start: %s", err.msg);
        runner_end(runner);
        return err_exit(err.code);
    }
    log_places(runner->server);
    for (int signal = 0; signal != SIGTERM && signal != SIGINT;) {
        signal = process_signal(LOG_EVERY_MS);
        if (signal == SIGHUP)
            reload(runner, source);
        process_rotate_log(PROCESS_LOG_BYTES);
    }
    drain(runner);
    runner_end(runner);
    log_info("daemon", "stopped");
    return 0;
}

int daemon_serve(int argc, char **argv)
{
    static struct runner runner; /* Static, because it is large and there is only one. */
    struct err err;
    struct options options = {0};
    AUTO(config_report) struct config_report report = {0};
    if (parse_options(argc, argv, &options)) {
        fputs(usage, stderr);
        return 2;
    }
    if (options.help)
        return print_help();
    struct config_source source = {.env = environ};
    memcpy(source.env_files, options.env_files, sizeof(source.env_files));
    /* A look at the settings is one at the service's, unless others are given. */
    if (options.check && options.env_file_count == 0 && !getenv("RUNNER_SECRET") &&
        !getenv("RUNNER_SECRET_FILE"))
        config_find_service(&source);
    struct config *config = config_load(&source, &report, &err);
    say_all("error", &report.errors);
    if (!config && report.errors.count == 0)
        fprintf(stderr, "claude-runner: error: %s\n", err.msg);
    if (!config)
        return 2;
    note_missing(config, &report.warnings);
    if (options.check) {
        say_all("warning", &report.warnings);
        return print_config(config);
    }
    process_settle();
    runner.secrets = redact_new();
    if (!runner.secrets || config_redact(config, runner.secrets))
        return 1;
    process_open_log(config, runner.secrets);
    for (size_t i = 0; i < report.warnings.count; i++)
        log_warn("config", "%s", report.warnings.items[i]);
    int status = serve(&runner, config, &source);
    redact_free(runner.secrets);
    return status;
}
