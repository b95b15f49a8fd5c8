#include "runner/config/config.h"

#include <unistd.h>

#define SERVICE_FILE "/etc/claude-runner.env"

void config_find_service(struct config_source *source)
{
    static const char *const defaults[] = {"/usr/lib/claude-runner/defaults.env",
                                           "/usr/local/lib/claude-runner/defaults.env",
                                           "build/service/defaults.env"};
    const bool installed = access(SERVICE_FILE, R_OK) == 0;
    const char *settings = installed ? SERVICE_FILE : access(".env", R_OK) == 0 ? ".env" : NULL;
    size_t count = 0;
    if (!settings)
        return;
    /* The folder of a checkout belongs to the .env beside it. */
    for (size_t i = 0; i < (installed ? 2 : 3) && count < CONFIG_ENV_FILES_MAX - 2; i++)
        if (access(defaults[i], R_OK) == 0)
            source->env_files[count++] = defaults[i];
    source->env_files[count++] = settings;
}
