/*
 * `claude auth login` as a program: its plan, and the meaning of its output. Private to
 * runner/oauth.
 *
 * Threads: one at a time. Ownership: struct login_cli owns its members; end it by login_cli_done().
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
/* Makes its empty directory and its plan. `marker` ("NAME=value") is set in its environment. */
int login_cli_prepare(struct login_cli *cli, const struct config *config, const char *marker,
                      struct err *err);
/* Removes its directory and frees its members. Call when none of its processes runs any more. */
void login_cli_done(struct login_cli *cli);

/* Appends output to `said` or `errors`; what does not fit is dropped. */
void login_cli_add(struct buf *to, const char *data, size_t len);

/* Copies the URL that it has printed, once it is complete. */
bool login_cli_find_url(const struct login_cli *cli, char *url, size_t size);
/* Copies the last line of its errors after byte `from`, in words for people. */
bool login_cli_complaint(const struct login_cli *cli, size_t from, char *line, size_t size);
/* True when it ended with this wait() status and its output says that the login succeeded. */
bool login_cli_succeeded(const struct login_cli *cli, int status);

/* The path of the login that it has written, which the caller frees, or NULL. */
char *login_cli_credentials(const struct login_cli *cli);

/* Register what must not be logged: the state in the URL, and the code and its parts. */
void login_cli_hide_state(const char *url, struct redact_set *secrets);
void login_cli_hide_code(const char *code, struct redact_set *secrets);

#endif
