/*
 * The service's settings, as a command beside the service finds them: the files that --env-file
 * names, else those of the installed service, else ./.env; the environment above them.
 *
 * Threads: one. Private to runner/upkeep. Ownership: the caller frees the settings by
 * config_free().
 */
#ifndef UPKEEP_MACHINE_H
#define UPKEEP_MACHINE_H

#include "runner/config/config.h"

struct upkeep_options {
    const char *usage;
    const char *argument;    /* what the command works on, or NULL; borrowed from argv */
    bool with_secrets, test; /* --with-secrets, --test */
    const char *env_files[CONFIG_ENV_FILES_MAX];
    size_t env_file_count;
};

/* Reads the options and the settings. NULL when there is nothing more to do: *ret_status is the
 * exit status then. The caller frees the settings. */
struct config *upkeep_settings(int argc, char **argv, struct upkeep_options *options,
                               int *ret_status);

/* Says what went wrong with the command. Returns the exit status. */
int upkeep_failed(const char *command, const struct err *err);

#endif
