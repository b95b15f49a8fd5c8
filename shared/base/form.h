/*
 * Checks of text that users write: host names, URLs, tokens, ids.
 *
 * Threads: no shared state.
 * Ownership: the caller frees the text of form_choice_at().
 */
#ifndef BASE_FORM_H
#define BASE_FORM_H

#include "base/strlist.h"

#include <stdbool.h>

/* True for a DNS name of at most 253 characters, also with "*." before it. */
bool form_is_domain(const char *text);

/* True for the list ("open") or ("none"), and for a list of domains, each with or without ":port".
 * Else *ret_bad is the first entry that is none. */
bool form_are_domains(const struct strlist *list, const char **ret_bad);

/* True for the name of an environment variable: A-Z a-z 0-9 _, and no digit first. */
bool form_is_env_name(const char *text);

bool form_is_uuid(const char *text);

/* True for printable ASCII without spaces: text that fits into a header and a command line. */
bool form_is_token(const char *text);

struct form_url {
    bool tls;
    bool loopback;  /* localhost, 127.0.0.0/8 or [::1], as written */
    bool has_user;  /* user or user:password before the host */
    char host[254]; /* lower case, without brackets */
    int port;       /* the scheme's own when none is written */
};

/* Reads http://… or https://…: a host, an optional port, no spaces or control characters.
 * Returns 0, or -1 with *ret_url untouched. */
int form_url(const char *text, struct form_url *ret_url);

/* The index of text among choices ("a|b|c"), or -1. */
int form_choice(const char *choices, const char *text);

/* The index'th choice as a new string that the caller frees, or NULL. */
char *form_choice_at(const char *choices, int index);

#endif
