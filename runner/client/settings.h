/*
 * Which runner a command talks to, and what it says to be let in.
 *
 * The first that says something holds: the options (--url, --secret-file, --runner), the
 * environment (RUNNER_URL, RUNNER_SECRET or RUNNER_SECRET_FILE, RUNNER_NAME), the configuration
 * file, ./.env, and for root the service's own /etc/claude-runner.env. A secret goes only to the
 * address that it was found with: one of the configuration file never to an address from elsewhere.
 *
 * The configuration file is $XDG_CONFIG_HOME/claude-runner/config (~/.config/…):
 *
 *     default = home
 *
 *     [home]
 *     url = https://runner.example.org
 *     secret_file = ~/.config/claude-runner/home.secret      or secret_command, or secret
 *     access_client_id = …                                   a Cloudflare Access service token
 *     access_client_secret_file = …                          or access_client_secret
 *
 * Threads: one.
 * Ownership: struct settings owns its texts; settings_done() frees them. Returned paths are the
 * caller's to free.
 */
#ifndef CLIENT_SETTINGS_H
#define CLIENT_SETTINGS_H

#include "base/err.h"
#include "base/strlist.h"

struct settings {
    char *url;    /* without '/' at the end */
    char *secret; /* NULL: none was found */
    char *access_id, *access_secret;
    char *name;    /* of the configuration file, or NULL */
    int answer_ms; /* time limit of an answer; 0: a minute */
};

/* Finds the settings; `given` are the options (options.h). ERR_CONFIG names the file and the wrong
 * line. End them by settings_done(). */
int settings_find(struct settings *settings, const struct strlist *given, struct err *err);
void settings_done(struct settings *settings); /* wipes the secrets, and frees everything */

/* Path of the configuration file, which the caller frees; NULL when the home directory is
 * unknown. */
char *settings_path(void);

/* Names of the runners in the file, in its order, and the default, which the caller frees ("" when
 * there is none). */
int settings_names(struct strlist *names, char **ret_default, struct err *err);

#endif
