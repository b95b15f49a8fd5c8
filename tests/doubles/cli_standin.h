/*
 * The parts of cli-standin: what prints in the shape of the real CLI, and the behaviours that
 * `behaviours` in cli_standin.c names. A behaviour gets the text after its name and returns the
 * exit status; text that it returns or prints is not freed, the program is about to end.
 */
#ifndef TESTS_CLI_STANDIN_H
#define TESTS_CLI_STANDIN_H

#include <stdbool.h>
#include <stdio.h>

#define SESSION "00000000-0000-4000-8000-000000000000"
#define VERSION "2.1.332"

enum { PROMPT_MAX = 4 * 1024 * 1024 };

extern char **the_argv; /* main's */

/* --- output, cli_standin_say.c --- */

void put(const void *data, size_t size);
void puts_raw(const char *text);

/* Appends `text` as the inside of a JSON string. */
void json_escape(FILE *out, const char *text);
void put_init(void);
void put_assistant(const char *text);

/* The result line; `subtype`, is_error and the rest as the real CLI combines them. `text` NULL: no
 * result field. `tail`: more fields, or "". */
char *result_line(const char *subtype, bool is_error, const char *text, const char *tail);
void put_result(const char *text);
void put_filler(long size);
void nap(long ms);
__attribute__((noreturn)) void hang(void);
int do_done(const char *text);

/* --- what a CLI may print, cli_standin_output.c --- */

int do_ok(char *args);
int do_big_line(char *args);
int do_big_result(char *args);
int do_bad_utf8(char *args);
int do_bad_result(char *args);
int do_garbage(char *args);
int do_nul(char *args);
int do_no_result(char *args);
int do_silent(char *args);
int do_exit(char *args);
int do_ok_exit(char *args);
int do_lines(char *args);

/* Lines of 4 KiB until that many bytes are out. */
int do_print_bytes(char *args);
int do_partial_line(char *args);
int do_half_line(char *args);
int do_split(char *args);
int do_error(const char *subtype, const char *text, const char *tail);
int do_not_logged_in(char *args);
int do_max_turns(char *args);

/* As the real CLI: is_error with exit status 0 must still be a failure. */
int do_error_exit_0(char *args);
int do_usage_limit(char *args);
int do_sleep(char *args);

/* Ticks: N lines, one every MS milliseconds. */
int do_tick(char *args);

/* The text of a line is the monotonic clock in microseconds when it was written. */
int do_stamps(char *args);
int do_stderr_flood(char *args);
int do_stderr_fail(char *args);

/* A result, then another that says otherwise: the first one is final. */
int do_two_results(char *args);

/* --- what a process may do, cli_standin_process.c --- */

int do_hang_start(char *args);
int do_hang_middle(char *args);
int do_hang_result(char *args);
int do_ignore_term(char *args);
int do_daemon(char *args);
int do_daemon_holding(char *args);
int do_daemon_hang(char *args);

/* Does not go on until the children sleep, so that whoever sees the result sees them too. */
int do_forkbomb(char *args);

/* Ends, with a result, when the file is there. */
int do_wait(char *args);

/* Everything the runner decides about a child, as JSON in the result's text. */
int do_env(char *args);
int do_crash(char *args);
int do_closed_stdout(char *args);
int do_closed_early(char *args);
int do_secret(char *args);
int do_trap_term(char *args);

/* Leaves a marker file, so that a test sees how often a task ran. */
int do_touch(char *args);

/* Files of zeros. */
int do_write(char *args);

/* The first run with this file hangs, every later one succeeds. */
int do_once(char *args);

#endif
