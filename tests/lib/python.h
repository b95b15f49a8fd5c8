/*
 * Python code sent to the runner.
 */
#ifndef TESTLIB_PYTHON_H
#define TESTLIB_PYTHON_H

#include "runner.h"

/* A request's body: {"code":…} plus more fields ("" or `"a":1,"b":2`). The caller frees it. */
char *python_json(const char *code, const char *more);

/* Posts that to a path; fails the test unless the status is 200. */
struct reply *python_at(const struct runner *runner, const char *path, const char *code,
                        const char *more);
/* Posts that to /python. */
struct reply *python_run(const struct runner *runner, const char *code, const char *more);

/* Fails the test and shows the answer and the code unless the run succeeds with this stdout. */
void python_prints(const struct runner *runner, const char *code, const char *expected);

/* Skips the test when this runner cannot run Python, or lacks a library (NULL: needs none). */
void python_needed(const struct runner *runner, const char *library);

/* The processes below the runner whose name begins so ("zygote-", "python-standby"). */
size_t python_processes(const struct runner *runner, const char *name, pid_t *pids, size_t max);

#endif
