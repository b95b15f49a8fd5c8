/*
 * The link, and its QR code, that signs a phone's browser in at the runner's console.
 *
 * Threads: one.
 */
<<<<<<<< HEAD:runner/client/phone.h
#ifndef CLIENT_PHONE_H
#define CLIENT_PHONE_H
========
#ifndef CLIENT_PHONE_LINK_H
#define CLIENT_PHONE_LINK_H
>>>>>>>> main:runner/client/phone_link.h

#include "runner/client/client.h"

/* Asks the runner for a link and prints it to stdout, on a terminal with its QR code. `address` is
 * how the phone reaches the runner; NULL: as this program does. */
<<<<<<<< HEAD:runner/client/phone.h
int phone_link(const struct settings *to, const char *address, struct err *err);

/* Whether a phone could open that address: it does not mean this machine alone. */
bool phone_reaches(const char *address);
========
int phone_link_print(const struct settings *to, const char *address, struct err *err);

/* Whether a phone could open that address: it does not mean this machine alone. */
bool phone_link_leads_here(const char *address);
>>>>>>>> main:runner/client/phone_link.h

#endif
