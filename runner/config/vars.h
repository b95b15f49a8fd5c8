/*
 * Variables by name, from the environment or an env-file: what the configuration and the client
 * commands are made of.
 *
 * Threads: no shared state.
 */
#ifndef CONFIG_VARS_H
#define CONFIG_VARS_H

#include "base/auto.h"
#include "base/strlist.h"

#define VARS_FILE_MAX 65536 /* of an env-file, and of a file named by NAME_FILE */

/* Names and values at the same indexes. Every value may be a secret. */
struct vars {
    struct strlist names, values;
};

void vars_done(struct vars *vars); /* wipes the values */
static inline void auto_vars(struct vars *vars)
{
    vars_done(vars);
}

int vars_read_env(struct vars *vars, char *const *env);

/* Reads an env-file: lines NAME=VALUE, with an optional `export`, comments and quotes. Each wrong
 * line adds one message to errors, and only that line is skipped. -1 when the file cannot be read
 * or memory ran out; messages begin with `what`. */
int vars_read_file(struct vars *vars, const char *what, const char *path, struct strlist *errors);

/* The value of the last variable of that name, or NULL; an empty value counts as none. */
const char *vars_get(const struct vars *vars, const char *name);

#endif
