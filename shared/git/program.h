/*
 * The git program, for what crosses a network: it has depth, RSA keys and small memory, which
 * libgit2 1.5 has not. It reads no configuration but what it is told here.
 *
 * Threads: one at a time (a helper process has one). Children are killed at the deadline.
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
    int secret_fd;       /* handed down as descriptor PROGRAM_SECRET_FD; -1: none */
    int input_fd;        /* its standard input; 0: /dev/null */
    struct buf *words;   /* gets what it says on stderr (as much as fits), or NULL */
    int64_t deadline_ms; /* mono */
};

#define PROGRAM_SECRET_FD 9

/* Runs it and appends what it prints. When it fails, *err says what kind of failure its words mean:
 * ERR_FORBIDDEN credentials or host key, ERR_NOT_FOUND no such repository or ref, ERR_UPSTREAM the
 * network or the other side, ERR_CONFLICT a rejected push, ERR_MISMATCH a damaged repository here,
 * ERR_TIMEOUT, ERR_NO_SPACE, else ERR_INTERNAL. */
int program_run(const struct program *program, struct buf *out, struct err *err);

/* What a program's words on stderr mean, as above; cuts them at their end. Returns -1. */
int program_explain(const char *verb, struct buf *words, struct err *err);

/* The environment of every git we run. */
void program_add_environment(struct strlist *env);

void program_done(struct program *program);
static inline void auto_program(struct program *program)
{
    program_done(program);
}

#endif
