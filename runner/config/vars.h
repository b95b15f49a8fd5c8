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

#define VARS_FILE_MAX 65536 /* of an env-file, and of a file that NAME_FILE names */

/* Names and values at the same indexes. Values are secrets until proven otherwise. */
struct vars {
    struct strlist names, values;
};

void vars_done(struct vars *vars); /* wipes the values */
static inline void auto_vars(struct vars *vars)
{
    vars_done(vars);
}

int vars_read_env(struct vars *vars, char *const *env);

/* Reads an env-file: NAME=VALUE lines, `export` before them, comments, quotes. Every line that is
 * wrong adds one to errors, and costs itself only. -1 when the file can't be read or memory ran
 * out; `what` stands before those. */
int vars_read_file(struct vars *vars, const char *what, const char *path, struct strlist *errors);

/* The value of the last one of that name, or NULL; an empty value counts as none. */
const char *vars_get(const struct vars *vars, const char *name);

#endif
