/*
 * `claude auth login` as a program to run: its plan, and what its output means. Private to
 * runner/oauth.
 *
 * Threads: one at a time.
 */
#ifndef OAUTH_LOGIN_CLI_H
#define OAUTH_LOGIN_CLI_H

#include "base/buf.h"
#include "base/redact.h"
#include "proc/plan.h"
#include "runner/config/config.h"

struct login_cli {
    struct plan *plan;
    struct buf said;   /* stdout, from its beginning */
    struct buf errors; /* stderr, likewise */
    char *place;       /* its CLAUDE_CONFIG_DIR: a directory of its own */
};

void login_cli_init(struct login_cli *cli);
/* Makes its place, empty, and its plan. `marker` ("NAME=value") goes into its environment. */
int login_cli_prepare(struct login_cli *cli, const struct config *config, const char *marker,
                      struct err *err);
/* Removes its place. To be called when nothing of it runs any more. */
void login_cli_done(struct login_cli *cli);

/* Appends what it has printed to `said` or `errors`; what does not fit is forgotten. */
void login_cli_add(struct buf *to, const char *data, size_t len);

/* The URL that it has printed, once that is whole. */
bool login_cli_find_url(const struct login_cli *cli, char *url, size_t size);
/* The last line of its errors from byte `from` on, in words for people. */
bool login_cli_complaint(const struct login_cli *cli, size_t from, char *line, size_t size);
/* True when it ended with this wait() status and says that the login is done. */
bool login_cli_succeeded(const struct login_cli *cli, int status);

/* Where it has written the login: a path in fresh memory, or NULL. */
char *login_cli_credentials(const struct login_cli *cli);

/* Register what must not be logged: the state in the URL; the code and its parts. */
void login_cli_hide_state(const char *url, struct redact_set *secrets);
void login_cli_hide_code(const char *code, struct redact_set *secrets);

#endif
