/*
 * What a command accepts: tables of options and of commands, and the reader of command lines. Help,
 * completions and the manual page are printed from the same tables.
 *
 * Threads: one. Ownership: rows are static; names of options live as long as the program.
 */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdio.h>

struct call;

struct option_row {
    const char *name;  /* without "--"; NULL ends a table */
    char letter;       /* 'i' for -i, or 0 */
    const char *value; /* its argument, for the help: "FILE"; NULL: a flag */
    const char *help;
    const char *complete; /* "a|b|c", "@file", "@dir", or NULL */
};

struct command_row {
    const char *name;       /* one word, or two: "session new" */
    const char *args;       /* for the usage line: "[PROMPT]" */
    int args_min, args_max; /* -1: any number */
    const char *summary;
    const char *text;                 /* more help, or NULL */
    const struct option_row *options; /* or NULL */
    unsigned fields; /* REQUEST_CLAUDE, …: the fields of such requests are options too */
    bool rest;       /* what follows the first argument, or "--", is not read as options */
    int (*run)(struct call *call, struct err *err); /* exit status, or -1 with *err */
};

/* Options that every command has. */
extern const struct option_row options_common[];

/* The option of a request's field, "--git-branch" for gitBranch: the index'th supported field of
 * requests of `fields`. Names live as long as the program. False past the last. */
bool options_field(unsigned fields, size_t index, struct option_row *ret_row,
                   const char **ret_field, const char **ret_type);

/* The index'th option of a command: its own, then its fields', then the common ones; NULL past the
 * last. */
const struct option_row *options_at(const struct command_row *row, size_t index,
                                    struct option_row *scratch);

/* Reads a command line without the command's own name. Options may be anywhere; "--name=value",
 * "--name value", "-nvalue", "-n value"; "--" ends them. ERR_INVALID names the wrong option and the
 * nearest existing one. Given options are stored as two strings each: name, value ("" of a
 * flag). */
int options_read(const struct command_row *row, int argc, char **argv, struct strlist *given,
                 struct strlist *args, struct err *err);

/* The value of a given option (of the last one when it is repeated), or NULL. */
const char *options_value(const struct strlist *given, const char *name);
/* The index'th value of an option that may be repeated; NULL past the last. */
const char *options_nth(const struct strlist *given, const char *name, size_t index);

/* Prints the help of a command. */
void options_help(const struct command_row *row, FILE *out);

#endif
