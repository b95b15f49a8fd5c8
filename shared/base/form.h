/*
 * The forms of text that people give us: host names, URLs, tokens, ids.
 *
 * Threads: no shared state.
 */
#ifndef BASE_FORM_H
#define BASE_FORM_H

#include "base/strlist.h"

#include <stdbool.h>

/* A DNS name, at most 253 characters, or "*." and one. */
bool form_is_domain(const char *text);

/* True for the list ("open") or ("none"), or one of domains only, each
 * with ":port" behind it or not; else *ret_bad is what isn't. */
bool form_are_domains(const struct strlist *list, const char **ret_bad);

/* The name of an environment variable: A-Z a-z 0-9 _, not a digit first. */
bool form_is_env_name(const char *text);

bool form_is_uuid(const char *text);

/* Printable ASCII without spaces: fits a header and a command line. */
bool form_is_token(const char *text);

struct form_url {
    bool tls;
    bool loopback;  /* localhost, 127.0.0.0/8 or [::1], as written */
    bool has_user;  /* user or user:password before the host */
    char host[254]; /* lower case, without brackets */
    int port;       /* the scheme's own when none is written */
};

/* http://… or https://…: a host, a port if any, no spaces or control characters. Returns 0, or -1
 * with *ret_url untouched. */
int form_url(const char *text, struct form_url *ret_url);

/* The index of text among choices ("a|b|c"), or -1. */
int form_choice(const char *choices, const char *text);

/* The index'th choice in fresh memory, or NULL. */
char *form_choice_at(const char *choices, int index);

#endif
