/*
 * What the client commands share: a command's call, the runner that it talks to, exchanges with it,
 * and errors as exit statuses.
 *
 * Threads: one, unless it says otherwise.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "base/buf.h"
#include "base/err.h"
#include "net/net.h"
#include "runner/client/options.h"
#include "runner/client/settings.h"
#include "json/json.h"

#include <signal.h>
#include <stdbool.h>

#define CLIENT_ANSWER_MAX (64u << 20)

/* One command as it was called. */
struct call {
    const struct command_row *row;
    struct strlist given, args;
    struct settings to;
    bool json;   /* --json */
    bool colour; /* stdout is a terminal that shows them */
};

/* Reads the command line of a command (argv[0] is its last word) and runs it. Returns the exit
 * status; errors have been said. */
int client_run(const struct command_row *row, int argc, char **argv);

/* Header lines of every request: the secret, the service token, and Accept. */
int client_headers(const struct settings *to, const char *accept, struct strlist *headers,
                   struct err *err);

/* One exchange; body is JSON or NULL; `headers` are more header lines, or NULL. 0 for any whole
 * answer, whatever its status; explain it with client_explain(). */
int client_exchange(const struct settings *to, const char *method, const char *path,
                    const struct strlist *headers, const char *body, struct net_answer *ret_answer,
                    struct err *err);

/* Turns an answer that is no success into an error with the code and the sentence that the runner
 * gave. Returns -1. */
int client_explain(const struct settings *to, int status, const char *body, size_t len,
                   struct err *err);

/* client_exchange() that takes 2xx only; appends the body. */
int client_fetch(const struct settings *to, const char *method, const char *path, const char *body,
                 struct buf *out, struct err *err);
/* The same, parsed. The answer may be any JSON value. */
struct json *client_call(const struct settings *to, const char *method, const char *path,
                         const char *body, struct err *err);

/* before + part, percent-encoded, + after, in fresh memory. NULL with *err. */
char *client_path(const char *before, const char *part, const char *after, struct err *err);

/* Fetches and prints what --json prints: the answer as it is. Returns 0 or -1. */
int client_print_json(const struct settings *to, const char *method, const char *path,
                      const char *body, struct err *err);

/* Counts SIGINT and SIGTERM from now on, instead of ending the program. */
extern volatile sig_atomic_t client_signals;
void client_catch_signals(void);

/* Member access for printing: "" or 0 when it is not there. */
const char *text_of(const struct json *object, const char *name);

/* Prints an answer to stdout as one line of JSON. */
void client_print_answer(const struct json *answer);
long long number_of(const struct json *object, const char *name);
double real_of(const struct json *object, const char *name);
bool client_is_true(const struct json *object, const char *name);

#endif
