/* claude-runner: a table of commands. */
#include "proc/launch.h"
#include "runner/box/box.h"
#include "runner/cli/cli.h"
#include "runner/client/commands.h"
#include "runner/daemon/daemon.h"
#include "runner/repo/helper.h"
#include "runner/upkeep/upkeep.h"
#include "runner/version.h"
#include "runner/worker/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int launch(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return launch_serve();
}

static int git(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return helper_serve();
}

static int box(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return box_serve();
}

/* `attached PID`: serve, for as long as the thread lives that has started us, which is of that
 * process (runner/client/cloud_home.h). */
static int attached(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 2 || strtol(argv[1], NULL, 10) != getppid())
        return 1; /* its end was faster */
    return daemon_serve(argc - 1, argv + 1);
}

static int version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return puts("claude-runner " RUNNER_VERSION) < 0;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", daemon_serve},
    {"cloud", cli_cloud},
    {"job", worker_job},
    {"version", version},
    {"backup", upkeep_backup},
    {"restore", upkeep_restore},
    {"alert", upkeep_alert},
    {"launch", launch},
    {"attached", attached},
    {"git", git},
    {"box", box},
};

/* Those that a person calls; the client's commands come from its own table. */
static const struct command_note notes[] = {
    {"serve", "run the service"},
    {"cloud", "set up, try and remove what runs at Google Cloud"},
    {"job", "run one task inside a Cloud Run execution"},
    {"backup", "copy what lasts, also while the runner runs"},
    {"restore", "put a backup back, where there is no state yet"},
    {"alert", "send a test to where alerts go"},
    {"version", "say which version this is"},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0)
        return version(argc, argv);
    int status = commands_run(argc, argv, notes);
    if (status >= 0)
        return status;
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        commands_help(stdout);
        return 0;
    }
    return commands_unknown(argc, argv);
}
