/*
 * The link, and its QR code, that signs a phone's browser in at the runner's console.
 *
 * Threads: one.
 */
#ifndef CLIENT_PHONE_LINK_H
#define CLIENT_PHONE_LINK_H

#include "runner/client/client.h"

/* Asks the runner for a link and prints it to stdout, on a terminal with its QR code. `address` is
 * the runner's address for the phone; NULL: the one that this program uses. */
int phone_link_print(const struct settings *to, const char *address, struct err *err);

/* False when that address means this machine only, so that no phone can open it. */
bool phone_link_leads_here(const char *address);

#endif
