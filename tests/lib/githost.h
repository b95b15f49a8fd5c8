/*
 * A git host: a bare repository behind a real sshd and a real git-http-backend (nginx with TLS and
 * basic auth), and a CLI that runs its prompt as a shell script in its workspace.
 *
 * One for a program; `host` is it.
 */
#ifndef TESTLIB_GITHOST_H
#define TESTLIB_GITHOST_H

#include "runner.h"

#include <stdbool.h>
#include <sys/types.h>

#define TOKEN "ghp_integration_token_1" /* what the web server lets in */

struct githost {
    char *dir;    /* o.git, a clone of it in w, keys k_…, access.log of the web server */
    char *remote; /* the bare repository, o.git */
    pid_t sshd, fcgi, nginx;
    int ssh_port, web_port;
};

extern struct githost host;
extern const char githost_cli[];

/* False, with a line that says so, when this host lacks what it takes. */
bool githost_start(void);
void githost_stop(void);

/* Whether somebody listens at this port of loopback. */
bool githost_is_listening(int port);

/* A runner that may use it, not yet started. `more_allow` goes at the end of GIT_ALLOW. */
struct runner *githost_runner(const char *more_allow);

/* Runs a shell script in the host's directory; its output, or a failed test. */
char *sh(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether the text has the part; frees it, and shows it when it hasn't. */
bool says(char *said, const char *what);

/* The text with @D, @P and @S filled in: the host's directory, the web server's port, `shared`. */
char *filled(const char *text, const char *shared);

/* A private key as a JSON string. */
char *key_json(const char *name);

/* Fetches the bundle that a reply's gitCommit names, to kept.bundle in the host's directory. */
void fetch_bundle(const struct runner *runner, const cJSON *commit);

/* The reply of a task that must have succeeded. */
struct reply *good(struct reply *reply);

#endif
