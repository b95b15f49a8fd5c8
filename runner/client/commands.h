/*
 * The client's commands: one table, from which the help, the completions and the manual page are
 * made as well. Each function returns the exit status, or -1 with *err.
 *
 * Threads: one. Ownership: rows are static.
 */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include "runner/client/client.h"

#include <stddef.h>
#include <stdio.h>

/* A command of the program that is not the client's, for lists of all commands. */
struct command_note {
    const char *name, *summary;
};

/* Runs the command that argv[1] (and argv[2]) name. -1 when there is no such command. `others` ends
 * with a row whose name is NULL, and is borrowed for the program's life. */
int commands_run(int argc, char **argv, const struct command_note *others);

/* Prints that there is no such command, and the nearest one. Returns the exit status. */
int commands_unknown(int argc, char **argv);

/* The index'th command; NULL past the last. */
const struct command_row *commands_at(size_t index);
/* The index'th of the other commands; NULL past the last. */
const struct command_note *commands_other(size_t index);

/* Prints the list of all commands. */
void commands_help(FILE *out);

int client_batch(struct call *call, struct err *err);
int client_cancel(struct call *call, struct err *err);
int client_complete(struct call *call, struct err *err);
int client_config_add(struct call *call, struct err *err);
int client_config_list(struct call *call, struct err *err);
int client_diff(struct call *call, struct err *err);
int client_doctor(struct call *call, struct err *err);
int client_exec(struct call *call, struct err *err);
int client_login(struct call *call, struct err *err);
int client_logs(struct call *call, struct err *err);
int client_man(struct call *call, struct err *err);
int client_outputs(struct call *call, struct err *err);
int client_outputs_get(struct call *call, struct err *err);
int client_python(struct call *call, struct err *err);
int client_repos(struct call *call, struct err *err);
int client_result(struct call *call, struct err *err);
int client_run_prompt(struct call *call, struct err *err);
int client_secret_new(struct call *call, struct err *err);
int client_session_attach(struct call *call, struct err *err);
int client_session_cp(struct call *call, struct err *err);
int client_session_exec(struct call *call, struct err *err);
int client_session_ls(struct call *call, struct err *err);
int client_session_new(struct call *call, struct err *err);
int client_session_rm(struct call *call, struct err *err);
int client_show(struct call *call, struct err *err);
int client_status(struct call *call, struct err *err);
int client_tasks(struct call *call, struct err *err);

#endif
