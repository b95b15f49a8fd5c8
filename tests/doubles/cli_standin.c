/*
 * cli-standin: in the place of the `claude` CLI, doing on demand what the real one does rarely.
 *
 * Takes any arguments (--version prints one), reads the prompt from stdin to its end; a first line
 * "standin: BEHAVIOUR ARGS" chooses what happens (see `behaviours`), any other prompt is echoed as
 * the result. Output has the real CLI's shape. Linked to libc only and without start-up work, so
 * that a bench may compare the runner with a bare spawn of it.
 */
#include "cli_standin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char **the_argv;

static const struct behaviour {
    const char *name;
    int (*run)(char *args);
    const char *help;
} behaviours[] = {
    {"ok", do_ok, "TEXT: init, assistant, result"},
    {"hang-start", do_hang_start, "prints nothing, never ends"},
    {"hang-middle", do_hang_middle, "init and assistant, then never ends"},
    {"hang-result", do_hang_result, "result printed, never ends"},
    {"closed-stdout", do_closed_stdout, "result, closes its output, never ends"},
    {"closed-early", do_closed_early, "closes its output at once, never ends"},
    {"big-line", do_big_line, "N: a line of N bytes of text, result, exit"},
    {"long-line", do_big_line, "N: the same; meant for more than 16 MiB"},
    {"big-result", do_big_result, "N: a result of N bytes"},
    {"bad-utf8", do_bad_utf8, "invalid UTF-8 in an event and in plain text, good result"},
    {"bad-result", do_bad_result, "invalid UTF-8 in the result"},
    {"garbage", do_garbage, "lines of all kinds, good result"},
    {"nul", do_nul, "a NUL byte in a line, good result"},
    {"no-result", do_no_result, "exit 0 without a result"},
    {"silent", do_silent, "exit 0 without a byte"},
    {"exit", do_exit, "N: init, exit N"},
    {"ok-exit", do_ok_exit, "N: good result, exit N"},
    {"error-exit-0", do_error_exit_0, "TEXT: a failed result, exit 0"},
    {"ignore-term", do_ignore_term, "ignores TERM, INT, HUP; never ends"},
    {"trap-term", do_trap_term, "PATH: on TERM creates PATH and exits 143"},
    {"daemon", do_daemon, "PATH: leaves a daemon that appends to PATH for ever; its pid first"},
    {"daemon-holding", do_daemon_holding, "PATH: the same, holding stdout open"},
    {"daemon-hang", do_daemon_hang, "PATH: the same as daemon, then never ends"},
    {"forkbomb", do_forkbomb, "N: that many children (200 at most) that ignore TERM, half setsid"},
    {"lines", do_lines, "N LEN: N lines of LEN bytes of text, result"},
    {"print-bytes", do_print_bytes, "N: about N bytes in lines of 4 KiB, result"},
    {"partial-line", do_partial_line, "TEXT: the result has no final newline"},
    {"half-line", do_half_line, "half of a result line, exit 0"},
    {"split", do_split, "MS: the result line in pieces of 7 bytes, MS apart"},
    {"two-results", do_two_results, "two results, \"first\" and \"second\""},
    {"env", do_env, "result is JSON: env, argv, cwd, uid, gid, pids, signal masks, fds"},
    {"fds", do_env, "the same"},
    {"secret", do_secret, "NAME: prints that environment variable"},
    {"crash", do_crash, "SIG: dies of that signal"},
    {"not-logged-in", do_not_logged_in, "as the real one"},
    {"max-turns", do_max_turns, "as the real one"},
    {"usage-limit", do_usage_limit, "as the real one with a login"},
    {"sleep", do_sleep, "MS: init, waits, result"},
    {"wait", do_wait, "PATH: init, assistant, waits until it is there, result"},
    {"tick", do_tick, "N MS: N lines, one every MS ms, result"},
    {"stamps", do_stamps, "N US: N lines with the time, one every US microseconds, result"},
    {"stderr-flood", do_stderr_flood, "N: N bytes on stderr, result"},
    {"stderr-fail", do_stderr_fail, "TEXT on stderr, nothing on stdout, exit 1"},
    {"once", do_once, "PATH: creates it and never ends; result when it is there already"},
    {"touch", do_touch, "PATH: appends one byte to it, result"},
    {"write", do_write, "PATH BYTES…: files of that many zeros, result"},
};

/* ---- start ---- */

static char *read_prompt(void)
{
    static char prompt[PROMPT_MAX + 1];
    size_t size = 0;
    ssize_t n;
    while (size < PROMPT_MAX && (n = read(STDIN_FILENO, prompt + size, PROMPT_MAX - size)) > 0)
        size += (size_t)n;
    prompt[size] = '\0';
    return prompt;
}

static int help(void)
{
    puts("prompt: \"standin: BEHAVIOUR ARGS\" on the first line; BEHAVIOUR is one of");
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++)
        printf("  %-14s %s\n", behaviours[i].name, behaviours[i].help);
    return 0;
}

int main(int argc, char **argv)
{
    the_argv = argv;
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)) {
        puts(VERSION " (Claude Code)");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return help();
    char *prompt = read_prompt();
    if (strncmp(prompt, "standin: ", 9) != 0)
        return do_ok(prompt);
    char *name = prompt + 9;
    name[strcspn(name, "\n")] = '\0';
    size_t len = strcspn(name, " ");
    char *args = name + len + (name[len] == ' ');
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++)
        if (strlen(behaviours[i].name) == len && strncmp(behaviours[i].name, name, len) == 0)
            return behaviours[i].run(args);
    fprintf(stderr, "cli-standin: unknown behaviour '%.*s'\n", (int)len, name);
    return 64;
}
