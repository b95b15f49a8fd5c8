/*
 * `claude auth login` as a child process: its pipes, and what it says. Private to runner/oauth.
 *
 * Threads: one at a time.
 */
#ifndef OAUTH_CLI_H
#define OAUTH_CLI_H

#include "base/buf.h"
#include "base/redact.h"
#include "proc/launch.h"
#include "runner/config/config.h"

#include <sys/types.h>

struct cli {
    struct child *child;
    int in, out, err;  /* our ends */
    struct buf said;   /* stdout, from its beginning */
    struct buf errors; /* stderr, likewise */
    char *place;       /* its CLAUDE_CONFIG_DIR: a directory of its own */
};

void cli_init(struct cli *cli);
int cli_start(struct cli *cli, const struct config *config, struct launcher *launcher,
              const char *marker, struct err *err);
/* Ends what still runs and removes its place. */
void cli_done(struct cli *cli);

/* Takes what it has printed; true when there may be more at once. */
bool cli_read(struct cli *cli);
/* Waits for output, an event of the child's or wake_fd. */
void cli_wait(const struct cli *cli, int wake_fd, int timeout_ms);
void cli_say(struct cli *cli, const char *line);

/* The URL that it has printed, once that is whole. */
bool cli_find_url(const struct cli *cli, char *url, size_t size);
/* The last line of its errors from byte `from` on. */
bool cli_complaint(const struct cli *cli, size_t from, char *line, size_t size);
/* True when it has exited and says that the login is done. */
bool cli_succeeded(const struct cli *cli);

/* Where it has written the login: a path in fresh memory, or NULL. */
char *cli_credentials(const struct cli *cli);

/* Register what must not be logged: the state in the URL; the code and its parts. */
void cli_hide_state(const char *url, struct redact_set *secrets);
void cli_hide_code(const char *code, struct redact_set *secrets);

#endif
