/*
 * What the client commands share: a command's call, the runner that it talks to, requests to it,
 * and errors as exit statuses.
 *
 * Threads: one, unless it says otherwise. Ownership: client_run() owns the call; callers free what
 * functions return.
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

/* One call of a command. */
struct call {
    const struct command_row *row;
    struct strlist given, args;
    struct settings to;
    bool json;   /* --json */
    bool colour; /* stdout is a terminal that shows colours */
};

/* Reads the command line of a command (argv[0] is its last word) and runs it. Returns the exit
 * status; errors have been printed. */
int client_run(const struct command_row *row, int argc, char **argv);

/* Adds the header lines of every request: the secret, the service token, and Accept. */
int client_headers(const struct settings *to, const char *accept, struct strlist *headers,
                   struct err *err);

/* Makes one request; body is JSON or NULL; `headers` are further header lines, or NULL; an Accept
 * among them takes the place of JSON's. Returns 0 for any complete answer, whatever its status;
 * explain it with client_explain(). */
int client_exchange(const struct settings *to, const char *method, const char *path,
                    const struct strlist *headers, const char *body, struct net_answer *ret_answer,
                    struct err *err);

/* Turns an unsuccessful answer into an error with the runner's code and message. Returns -1. */
int client_explain(const struct settings *to, int status, const char *body, size_t len,
                   struct err *err);

/* client_exchange() that accepts 2xx only; appends the body. */
int client_fetch(const struct settings *to, const char *method, const char *path, const char *body,
                 struct buf *out, struct err *err);
/* client_fetch() that parses the answer, which may be any JSON value. The caller frees it. */
struct json *client_call(const struct settings *to, const char *method, const char *path,
                         const char *body, struct err *err);

/* before + part, percent-encoded, + after; the caller frees the text. NULL with *err. */
char *client_path(const char *before, const char *part, const char *after, struct err *err);

/* Fetches an answer and prints it as it is, for --json. Returns 0 or -1. */
int client_print_json(const struct settings *to, const char *method, const char *path,
                      const char *body, struct err *err);

/* From now on SIGINT and SIGTERM are counted instead of ending the program. */
extern volatile sig_atomic_t client_signals;
void client_catch_signals(void);

/* Read members for printing: "" or 0 when they are missing. */
const char *text_of(const struct json *object, const char *name);

/* Prints an answer to stdout as one line of JSON. */
void client_print_answer(const struct json *answer);
long long number_of(const struct json *object, const char *name);
double real_of(const struct json *object, const char *name);
bool client_is_true(const struct json *object, const char *name);

#endif
