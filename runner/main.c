/* claude-runner: a table of commands. */
#include "proc/launch.h"
#include "runner/box/box.h"
#include "runner/cli/cli.h"
#include "runner/daemon/daemon.h"
#include "runner/repo/helper.h"
#include "runner/version.h"
#include "runner/worker/worker.h"

#include <stdio.h>
#include <string.h>

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

static int version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return puts("claude-runner " RUNNER_VERSION) < 0;
}

static const struct {
    const char *name;
    const char *help; /* NULL: internal */
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "run the service", daemon_serve},
    {"login", "log Claude in, from this terminal", cli_login},
    {"status", "say how a runner is", cli_status},
    {"cloud", "set up, try and remove what runs at Google Cloud", cli_cloud},
    {"job", "run one task inside a Cloud Run execution", worker_job},
    {"version", "say which version this is", version},
    {"launch", NULL, launch},
    {"git", NULL, git},
    {"box", NULL, box},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(FILE *out)
{
    fputs("usage: claude-runner COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].help)
            fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nEach takes --help.\n", out);
    return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(stdout);
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (*name)
        fprintf(stderr, "claude-runner: there is no command '%s'\n", name);
    return help(stderr);
}
