/*
 * Tells the owner, at ALERT_URL, that the login needs them: once an episode.
 *
 * Theory of operation. Each look says one of three things of the login:
 *   trouble  a new login is needed and tasks wait, or the login has ended, or it ends within
 *            OAUTH_ALERT_HOURS and could not be refreshed (for ten seconds: not at every hiccup);
 *   fine     it works, and will for long enough;
 *   unknown  neither: after a restart nobody has tried to refresh yet.
 * An episode begins with trouble and ends when all is fine. It has one alert, tried with growing
 * pauses until somebody answers 2xx, for about a day. That it was delivered is a file in the state
 * directory, so that a restart does not repeat it.
 *
 *     fine ──trouble──▶ sending ──2xx──▶ told ──fine──▶ fine
 *
 * A host with "ntfy" in its name, or "#ntfy" at the URL's end, gets ntfy's form (text, with Title,
 * Priority and Tags); any other a JSON object. Nothing secret is in either, so plain http is
 * allowed.
 *
 * Threads: alert_look() from one at a time; its own calls it every second.
 * Ownership: the caller of alert_new() frees it by alert_free().
 */
#ifndef OAUTH_ALERT_H
#define OAUTH_ALERT_H

#include "runner/config/in_force.h"
#include "runner/oauth/breaker.h"
#include "runner/oauth/keeper.h"

struct alert;

struct alert_config {
    struct config_in_force *config; /* borrowed */
    struct keeper *keeper;          /* borrowed */
    struct breaker *breaker;        /* borrowed, or NULL */
    int (*waiting)(void *arg);      /* returns how many tasks wait */
    void *arg;
    const char *state_dir;
};

struct alert *alert_new(const struct alert_config *config, struct err *err);
int alert_start(struct alert *alert, struct err *err);
void alert_free(struct alert *alert);

/* When an alert was last delivered, in real ms; 0: never, as far as is known. */
int64_t alert_last_ms(const struct alert *alert);

/* Sends one alert that says that it is a test. Needs no struct alert. */
int alert_test(const struct config *config, struct err *err);

/* Looks at the login, and sends an alert when one is due. */
void alert_look(struct alert *alert);

#endif
