/*
 * What the client commands share: which runner, the secret, calls, and errors as exit statuses.
 *
 * Where a runner is and its secret come from the first that has them: the options, the environment
 * (RUNNER_URL, RUNNER_SECRET or RUNNER_SECRET_FILE), the same names in ./.env, the default.
 *
 * Threads: one.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/buf.h"
#include "base/err.h"
#include "json/json.h"

#include <stdbool.h>

#define CLIENT_HELP                                                                     \
    "  --url URL            the runner (RUNNER_URL; default http://127.0.0.1:8787)\n"   \
    "  --secret-file FILE   file with its secret (RUNNER_SECRET, RUNNER_SECRET_FILE)\n" \
    "  --help\n"                                                                        \
    "\n"                                                                                \
    "What is not given is looked up in ./.env as well.\n"

struct client {
    const char *command; /* for messages */
    char *url;           /* without '/' at the end */
    char *secret;        /* NULL: none found */
    bool json;           /* --json */
};

/* Reads the options of a client command and finds the runner. 0; 1 after --help was printed; -1
 * with ERR_INVALID, ERR_NOT_FOUND, … */
int client_open(struct client *client, int argc, char **argv, const char *usage, struct err *err);
void client_done(struct client *client);
static inline void auto_client(struct client *client)
{
    client_done(client);
}

/* One call; `body` is JSON or NULL. The answer's object, or NULL: an error of the runner's has the
 * code and the message that it gave. */
struct json *client_call(struct client *client, const char *method, const char *path,
                         const char *body, struct err *err);
/* The same, not parsed: for --json. */
int client_fetch(struct client *client, const char *method, const char *path, const char *body,
                 struct buf *out, struct err *err);

/* Says the error and returns its exit status. */
int client_fail(const struct client *client, const struct err *err);

#endif
