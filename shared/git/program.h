/*
 * Runs the git program for everything that crosses a network: unlike libgit2 1.5 it has depth, RSA
 * keys and small memory. It reads no configuration except what it is given here.
 *
 * Threads: one at a time (a helper process has one). A child is killed at the deadline. Ownership:
 * a program owns its argv and env, which program_done() frees; `words` is borrowed.
 */
#ifndef GIT_PROGRAM_H
#define GIT_PROGRAM_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdint.h>

#define PROGRAM_OUTPUT_MAX (64u << 20)

struct program {
    struct strlist argv;
    struct strlist env;
    int secret_fd;       /* inherited as descriptor PROGRAM_SECRET_FD; -1: none */
    int input_fd;        /* its standard input; 0: /dev/null */
    struct buf *words;   /* receives its stderr (as much as fits), or NULL */
    int64_t deadline_ms; /* mono */
};

#define PROGRAM_SECRET_FD 9

/* Runs it and appends what it prints. When it fails, *err says what kind of failure its words mean:
 * ERR_FORBIDDEN credentials or host key, ERR_NOT_FOUND no such repository or ref, ERR_UPSTREAM the
 * network or the other side, ERR_CONFLICT a rejected push, ERR_MISMATCH a damaged repository here,
 * ERR_TIMEOUT, ERR_NO_SPACE, else ERR_INTERNAL. */
int program_run(const struct program *program, struct buf *out, struct err *err);

/* What it says of repositories that libgit2, as Debian 12 has it, cannot read. */
#define PROGRAM_SHA256 \
    "the repository names its objects by SHA-256; the runner knows those of SHA-1 only"

/* Explains what a program said on stderr, as program_run() does; cuts `words` at its end. Returns
 * -1. */
int program_explain(const char *verb, struct buf *words, struct err *err);

/* Adds the environment that every git gets. */
void program_add_environment(struct strlist *env);

void program_done(struct program *program);
static inline void auto_program(struct program *program)
{
    program_done(program);
}

#endif
