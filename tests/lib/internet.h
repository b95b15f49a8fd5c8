/*
 * The hosts that a login talks to, on this machine: a mount and a network namespace for the whole
 * test program, in which platform.claude.com and api.anthropic.com are a TLS stand-in
 * (oauth-server) on loopback with a certificate made by the test.
 */
#ifndef TESTLIB_INTERNET_H
#define TESTLIB_INTERNET_H

#include "runner.h"

struct internet {
    struct api *oauth; /* oauth-server; its plain base is for control requests */
    char *dir;
    char *ca; /* NODE_EXTRA_CA_CERTS */
};

/* Enters the namespaces; false when this host does not allow it. Call it before threads start. */
bool internet_leave(void);

struct internet *internet_new(void);
void internet_free(struct internet *internet);

/* Makes the runner log in there by the real CLI. Skips the test when the CLI is not installed. */
void internet_use(struct internet *internet, struct runner *runner);

/* Agrees to the login behind this URL, as a person does in a browser. Returns the code to paste. */
char *internet_agree(const struct internet *internet, const char *url);

#endif
