#include "runner/upkeep/machine.h"

#include "base/check.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int add_file(struct upkeep_options *options, const char *path)
{
    if (options->env_file_count == CONFIG_ENV_FILES_MAX)
        return -1;
    options->env_files[options->env_file_count++] = path;
    return 0;
}

static int parse(int argc, char **argv, struct upkeep_options *options)
{
    static const struct option known[] = {{"env-file", required_argument, NULL, 'e'},
                                          {"with-secrets", no_argument, NULL, 's'},
                                          {"test", no_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int got;
    while ((got = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (got == 'h')
            return 1;
        if (got == 'e' && add_file(options, optarg) == 0)
            continue;
        if (got == 's')
            options->with_secrets = true;
        else if (got == 't')
            options->test = true;
        else
            return -1;
    }
    if (optind < argc)
        options->argument = argv[optind++];
    return optind < argc ? -1 : 0;
}

struct config *upkeep_settings(int argc, char **argv, struct upkeep_options *options,
                               int *ret_status)
{
    REQUIRE(options->usage && ret_status);
    struct err err = ERR_INIT;
    struct config_source source = {.env = environ, .no_callers = true};
    AUTO(config_report) struct config_report report = {0};
    int parsed = parse(argc, argv, options);
    if (parsed) {
        fputs(options->usage, parsed > 0 ? stdout : stderr);
        *ret_status = parsed > 0 ? 0 : 2;
        return NULL;
    }
    memcpy(source.env_files, options->env_files, sizeof(source.env_files));
    if (options->env_file_count == 0)
        config_find_service(&source);
    struct config *config = config_load(&source, &report, &err);
    for (size_t i = 0; i < report.errors.count; i++)
        fprintf(stderr, "claude-runner: error: %s\n", report.errors.items[i]);
    if (!config && report.errors.count == 0)
        fprintf(stderr, "claude-runner: error: %s\n", err.msg);
    *ret_status = 2;
    return config;
}

int upkeep_failed(const char *command, const struct err *err)
{
    fprintf(stderr, "claude-runner %s: %s\n", command, err->msg);
    return err_exit(err->code);
}
