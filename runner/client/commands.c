#include "runner/client/commands.h"

#include "base/auto.h"
#include "base/str.h"
#include "runner/request/request.h"

#include <stdio.h>
#include <string.h>

static const struct command_note *others;

/* --- options ------------------------------------------------------------------------------- */

#define INPUT_OPTIONS                                                                        \
    {"input", 'i', "NAME=PATH", "directory or file for input/NAME; uploaded once", "@file"}, \
    {                                                                                        \
        "gitignore", 0, NULL, "leave out what .gitignore files say, and .git", NULL          \
    }

#define CLOUD_OPTION                                                                             \
    {                                                                                            \
        "cloud", 0, NULL, "straight to Cloud Run Jobs: needs no runner, but its variables", NULL \
    }

static const struct option_row run_options[] = {
    INPUT_OPTIONS,
    {"repo", 0, "URL", "repository to work in (the same as --repo-url)", NULL},
    {"timeout", 0, "TIME", "time limit: 90s, 10m, 2h", NULL},
    {"detach", 'd', NULL, "do not wait: print the task's id", NULL},
    {0},
};

static const struct option_row exec_options[] = {
    INPUT_OPTIONS,
    {"repo", 0, "URL", "repository to work in (the same as --repo-url)", NULL},
    {"timeout", 0, "TIME", "time limit: 90s, 10m, 2h", NULL},
    {"stdin", 0, "FILE", "what the command reads; - for standard input", "@file"},
    CLOUD_OPTION,
    {0},
};

static const struct option_row login_options[] = {
    {"public", 0, "URL", "the address by which a phone reaches the runner", NULL},
    {"console", 0, NULL, "only print the link (and QR code) that signs a browser in", NULL},
    {0},
};

static const struct option_row doctor_options[] = {
    {"public", 0, "URL", "the address that others use (else the runner's, as for every command)",
     NULL},
    {"quick", 0, NULL, "leave out the silence of 105 s", NULL},
    {0},
};

static const struct option_row batch_options[] = {
    {"runs", 'n', "N", "runs of each task that does not say itself", NULL},
    {"parallel", 'p', "N", "runs at once, at most (default 50)", NULL},
    {"out", 'o', "DIR", "where results go (default batch-DATE)", "@dir"},
    {"resume", 0, NULL, "go on with the batch of --out: nothing runs twice", NULL},
    {"retry-failed", 0, NULL, "with --resume: run again what has failed", NULL},
    {"retries", 0, "N", "run again what failed, so often", NULL},
    {"fail-on-error", 0, "N|N%", "stop, and fail, only when more than that have failed", NULL},
    {"max-cost", 0, "USD", "begin no more runs once so much was spent", NULL},
    {"timeout", 0, "TIME", "time limit of each run that does not say itself", NULL},
    {"model", 0, "NAME", "model of each task that does not say itself", NULL},
    {"prompt", 0, "TEXT", "prompt of each task that has none; {{column}} is its member", NULL},
    {"command", 0, "TEXT", "command of each task that has neither, the same way", NULL},
    CLOUD_OPTION,
    {"title", 0, "TEXT", "heading of the report", NULL},
    {"quiet", 'q', NULL, "no display: errors and the summary only", NULL},
    {"gitignore", 0, NULL, "leave out of inputs what .gitignore files say, and .git", NULL},
    {0},
};

static const struct option_row tasks_options[] = {
    {"status", 's', "STATE", "only those",
     "pending|running|completed|failed|cancelled|waiting_login|waiting_limit"},
    {"kind", 0, "KIND", "only those", "claude|command|python"},
    {"limit", 'n', "N", "how many (default 100)", NULL},
    {"cursor", 0, "TEXT", "what an earlier list said there is more of", NULL},
    {"group", 0, "ID", "only those of a group", NULL},
    {0},
};

static const struct option_row logs_options[] = {
    {"follow", 'f', NULL, "to the task's end", NULL},
    {0},
};

static const struct option_row outputs_options[] = {
    {"out", 'o', "PATH", "where to; - for standard output", "@file"},
    {0},
};

static const struct option_row repos_options[] = {
    {"clear", 0, "ID", "remove this one", NULL},
    {"clear-all", 0, NULL, "remove all that no task works on", NULL},
    {0},
};

static const struct option_row python_options[] = {
    {"code", 'c', "TEXT", "the code itself instead of a file", NULL},
    {"timeout", 0, "SECONDS", "time limit, 1 to 300 (default 30)", NULL},
    {"memory", 0, "MB", "64 to 2048 (default 512)", NULL},
    {"stdin", 0, "FILE", "what the code reads", "@file"},
    {"file", 0, "NAME=PATH", "a file beside the code", "@file"},
    {"out", 'o', "DIR", "where pictures go", "@dir"},
    {0},
};

static const struct option_row session_new_options[] = {
    INPUT_OPTIONS,
    {"id", 0, "ID", "its name instead of a new one", NULL},
    {"repo", 0, "URL", "repository that it begins with", NULL},
    {"env", 'e', "NAME=VALUE", "a variable; NAME alone takes it from here", NULL},
    {"ttl", 0, "TIME", "removed when unused for so long: 30m, 24h", NULL},
    {"from", 0, "SNAPSHOT", "begins as that was", NULL},
    {"executor", 0, "WHERE", "where it runs", "auto|local|cloud"},
    {"cloud", 0, NULL, "as --executor=cloud: each command is a Cloud Run execution", NULL},
    {"egress", 0, "LIST", "network: open, none, or domains", NULL},
    {0},
};

static const struct option_row session_exec_options[] = {
    {"shell", 0, "NAME", "which of its shells (default: default)", NULL},
    {"cwd", 0, "DIR", "where", NULL},
    {"timeout", 0, "TIME", "time limit (default 2m)", NULL},
    {"stdin", 0, "FILE", "what the command reads; - for standard input", "@file"},
    {"background", 0, NULL, "do not wait for it", NULL},
    {0},
};

static const struct option_row secret_options[] = {
    {"limit", 0, "LIMIT=VALUE",
     "tasks, perMinute, usdPerDay, kinds, egress or push, as CALLER_LIMITS has them (again and "
     "again)",
     NULL},
    {0},
};

static const struct option_row attach_options[] = {
    {"shell", 0, "NAME", "which of its shells (default: default)", NULL},
    {0},
};

static const struct option_row session_ls_options[] = {
    {"recursive", 'r', NULL, "what is below, too", NULL},
    {0},
};

static const struct option_row config_add_options[] = {
    {"secret", 0, "TEXT", "the secret (asked for, unseen, when it is not given)", NULL},
    {"access-id", 0, "TEXT", "client id of a Cloudflare Access service token", NULL},
    {"access-secret", 0, "TEXT", "its secret", NULL},
    {"default", 0, NULL, "the one that commands talk to when none is named", NULL},
    {"untried", 0, NULL, "do not try it first", NULL},
    {"ask", 0, NULL, "ask also when standard input is no terminal", NULL},
    {0},
};

/* --- commands ------------------------------------------------------------------------------ */

static const struct command_row commands[] = {
    {"run", "[PROMPT…]", 0, -1, "run Claude and follow what it does",
     "The prompt is the arguments, or standard input. Ctrl-C cancels the task; a second one "
     "leaves\n"
     "it alone and says how to come back. Without a terminal the story goes to stderr and the\n"
     "answer to stdout. The exit status is the task's.",
     run_options, REQUEST_CLAUDE, false, client_run_prompt},
    {"exec", "-- COMMAND…", 1, -1, "run a command the same way",
     "Its stdout, stderr and exit status become ours. One argument is a line of shell.",
     exec_options, REQUEST_COMMAND, true, client_exec},
    {"batch", "TASKS", 1, 1, "run many tasks, each n times, and keep what comes of them",
     "TASKS is a file of JSON lines, a JSON array or a CSV with a heading; - is standard input. A\n"
     "task has id, prompt or command, inputs, n, and the fields of a request; {{name}} in a text "
     "is\n"
     "replaced by the task's member of that name. Results go to DIR/results.jsonl, a line a run, "
     "as\n"
     "they finish, and to DIR/ID/RUN/; the summary to DIR/summary.md and DIR/report.html. Exit\n"
     "status 1 when a run has failed.",
     batch_options, 0, false, client_batch},
    {"python", "[FILE]", 0, 1, "run Python code", NULL, python_options, 0, false, client_python},
    {"tasks", "", 0, 0, "list tasks, the newest first", NULL, tasks_options, 0, false,
     client_tasks},
    {"show", "ID", 1, 1, "show all of a task", NULL, NULL, 0, false, client_show},
    {"logs", "ID", 1, 1, "show what a task has done", NULL, logs_options, 0, false, client_logs},
    {"result", "ID", 1, 1, "print a task's answer",
     "Exit status 1 when it failed, 75 when it has not ended.", NULL, 0, false, client_result},
    {"diff", "ID", 1, 1, "show what a task changed in its repository", NULL, NULL, 0, false,
     client_diff},
    {"cancel", "ID…", 1, -1, "cancel tasks", NULL, NULL, 0, false, client_cancel},
    {"outputs", "ID", 1, 1, "list the files that a task has left", NULL, NULL, 0, false,
     client_outputs},
    {"outputs get", "ID [PATH]", 1, 2, "fetch one of them, or all",
     "All go to a directory named by the task, or to --out.", outputs_options, 0, false,
     client_outputs_get},
    {"session new", "", 0, 0, "make a session: a box with shells that remember", NULL,
     session_new_options, 0, false, client_session_new},
    {"session exec", "ID -- COMMAND…", 2, -1, "run a command in a session", NULL,
     session_exec_options, 0, true, client_session_exec},
    {"session attach", "ID", 1, 1,
     "a terminal in a session; without a terminal here, lines that run in it",
     "Leave it with Ctrl-] d (Ctrl-] twice types that key); it goes on, and attaching again shows "
     "its\n"
     "last screen. Ends with the status of its shell.",
     attach_options, 0, false, client_session_attach},
    {"session cp", "FROM TO", 2, 2, "copy a file or a directory; ID:PATH is a session's",
     "A directory comes to be what TO names; into a TO that ends with '/', or that is a directory\n"
     "here, it goes under its own name. Links and modes are kept; a link that leads out of the\n"
     "directory is refused on the way there and left out on the way back.",
     NULL, 0, false, client_session_cp},
    {"session ls", "[ID [PATH]]", 0, 2, "list sessions, or a session's files", NULL,
     session_ls_options, 0, false, client_session_ls},
    {"session rm", "ID…", 1, -1, "end sessions", NULL, NULL, 0, false, client_session_rm},
    {"repos", "", 0, 0, "list cached repositories, or remove them", NULL, repos_options, 0, false,
     client_repos},
    {"status", "", 0, 0, "say how a runner is", "Exit status 0: healthy; 1: not, or away.", NULL, 0,
     false, client_status},
    {"doctor", "", 0, 0, "find out what a runner lacks, and what to do about it",
     "Checks the secret, whether events come as they happen, and all that the runner knows of\n"
     "itself: login, Claude Code, jail, Python, cloud, disk, what makes its health degraded. With\n"
     "--public, or a runner elsewhere, the way to it first: its name, the tunnel, Cloudflare "
     "Access,\n"
     "and whether a connection lives on over 100 s of silence. Runs one or two small commands on "
     "the\n"
     "runner. Exit status 0: all is well; 1: not.",
     doctor_options, 0, false, client_doctor},
    {"login", "", 0, 0, "log Claude in, from this terminal or a phone",
     "Prints the address to open in a browser, anywhere, and asks for the code that it shows. The\n"
     "same as the page /login. On a terminal, and when the runner's address is one that a phone "
     "can\n"
     "reach (or --public names one), also a link with its QR code that signs a phone in, once.",
     login_options, 0, false, client_login},
    {"config add", "NAME", 1, 1, "add a runner to the configuration file, and try it", NULL,
     config_add_options, 0, false, client_config_add},
    {"config list", "", 0, 0, "list the runners of the configuration file", NULL, NULL, 0, false,
     client_config_list},
    {"secret new", "NAME", 1, 1, "make a secret for a named caller", NULL, secret_options, 0, false,
     client_secret_new},
    {"completion", "SHELL", 1, 1, "print the completions of bash, zsh or fish", NULL, NULL, 0,
     false, client_complete},
    {"man", "", 0, 0, "print the manual page", NULL, NULL, 0, false, client_man},
};

const struct command_row *commands_at(size_t index)
{
    return index < COUNT_OF(commands) ? &commands[index] : NULL;
}

const struct command_note *commands_other(size_t index)
{
    for (size_t i = 0; others && others[i].name; i++)
        if (i == index)
            return &others[i];
    return NULL;
}

/* --- finding ------------------------------------------------------------------------------- */

/* How many words of the command line are the row's name; 0 when they are not. */
static int words_matched(const struct command_row *row, int argc, char **argv)
{
    const char *space = strchr(row->name, ' ');
    size_t first = space ? (size_t)(space - row->name) : strlen(row->name);
    if (argc < 2 || strlen(argv[1]) != first || strncmp(argv[1], row->name, first) != 0)
        return 0;
    if (!space)
        return 1;
    return argc > 2 && strcmp(argv[2], space + 1) == 0 ? 2 : 0;
}

int commands_run(int argc, char **argv, const struct command_note *program)
{
    const struct command_row *best = NULL;
    int most = 0;
    others = program;
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        int words = words_matched(&commands[i], argc, argv);
        if (words > most)
            best = &commands[i];
        most = words > most ? words : most;
    }
    return best ? client_run(best, argc - most, argv + most) : -1;
}

static const char *next_command(size_t index, void *arg)
{
    (void)arg;
    if (index < COUNT_OF(commands))
        return commands[index].name;
    const struct command_note *note = commands_other(index - COUNT_OF(commands));
    return note ? note->name : NULL;
}

/* True for the first word of commands of two: "session". */
static bool is_group(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; n > 0 && i < COUNT_OF(commands); i++)
        if (strncmp(commands[i].name, word, n) == 0 && commands[i].name[n] == ' ')
            return true;
    return false;
}

/* Prints the commands of a group. */
static void say_group(const char *word)
{
    size_t n = strlen(word);
    fputs("usage:\n", stderr);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strncmp(commands[i].name, word, n) == 0 && commands[i].name[n] == ' ')
            fprintf(stderr, "  claude-runner %-16s %s\n", commands[i].name, commands[i].summary);
}

int commands_unknown(int argc, char **argv)
{
    AUTO(str) char *two = NULL;
    if (argc < 2) {
        commands_help(stderr);
        return 2;
    }
    if (argc > 2 && asprintf(&two, "%s %s", argv[1], argv[2]) < 0)
        two = NULL;
    bool in_group = two && argv[2][0] != '-' && is_group(argv[1]);
    const char *near = two && argv[2][0] != '-' ? str_nearest(two, next_command, NULL) : NULL;
    bool group = !near && is_group(argv[1]);
    if (group)
        say_group(argv[1]);
    if (!near && !group)
        near = str_nearest(argv[1], next_command, NULL);
    if (!group)
        fprintf(stderr, "claude-runner: there is no command '%s'%s%s%s\n", in_group ? two : argv[1],
                near ? "; did you mean '" : ", see --help", near ? near : "", near ? "'?" : "");
    return 2;
}

void commands_help(FILE *out)
{
    const struct command_note *note;
    fputs("usage: claude-runner COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].summary);
    fputc('\n', out);
    for (size_t i = 0; (note = commands_other(i)); i++)
        fprintf(out, "  %-15s %s\n", note->name, note->summary);
    fputs("\nEach takes --help.\n", out);
}
