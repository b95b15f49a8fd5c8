/*
 * The hosts that a login talks to, at home: a mount and a network namespace for the whole test
 * program, in which platform.claude.com and api.anthropic.com are a TLS stand-in (oauth-server) on
 * loopback with a certificate of the test's own.
 */
#ifndef TESTLIB_INTERNET_H
#define TESTLIB_INTERNET_H

#include "runner.h"

struct internet {
    struct api *oauth; /* oauth-server; its plain base is for controlling it */
    char *dir;
    char *ca; /* NODE_EXTRA_CA_CERTS */
};

/* Enters the namespaces; false when this host does not let us. Before there are threads. */
bool internet_leave(void);

struct internet *internet_new(void);
void internet_free(struct internet *internet);

/* Makes the runner log in by the real CLI, there. Skips the test without the CLI. */
void internet_use(struct internet *internet, struct runner *runner);

/* Agrees to the login behind this URL, as a person in a browser: the code to paste. */
char *internet_agree(const struct internet *internet, const char *url);

#endif
