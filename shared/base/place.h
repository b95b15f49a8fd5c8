/*
 * Addresses of sockets as text: where to listen, and who is at the other end.
 *
 *     127.0.0.1   127.0.0.1:8080   ::1   [::1]   [::1]:8080   unix:/run/name.sock   systemd
 *
 * Threads: no shared state. Ownership: nothing is allocated.
 */
#ifndef BASE_PLACE_H
#define BASE_PLACE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define PLACE_LIST_MAX 16
#define PLACE_TEXT_MAX 128 /* of place_format(), with its NUL */

struct place {
    struct sockaddr_storage socket; /* of family AF_INET, AF_INET6 or AF_UNIX */
    socklen_t len;
    bool has_port;  /* the text names a port: not so for unix sockets */
    bool inherited; /* "systemd": sockets that systemd has opened; `socket` is not set */
};

/* Reads one address. No names are looked up. ERR_CONFIG says what is wrong. Returns 0 or -1. */
int place_parse(const char *text, size_t len, struct place *ret_address, struct err *err);

/* Reads a list, separated by commas or spaces; at least one and at most PLACE_LIST_MAX. Returns
 * their number, or -1. */
int place_list_parse(const char *text, struct place list[PLACE_LIST_MAX], struct err *err);

/* The port, or 0 for a unix socket. */
int place_port(const struct sockaddr_storage *socket);
void place_set_port(struct sockaddr_storage *socket, int port);

/* "127.0.0.1:80", "[::1]:80", "unix:/path". */
void place_format(const struct sockaddr_storage *socket, char text[PLACE_TEXT_MAX]);

/* The host alone: "127.0.0.1", "::1"; an IPv4 address that is mapped into IPv6 is shown as IPv4.
 * "unix" for a unix socket. */
void place_format_host(const struct sockaddr_storage *socket, char text[PLACE_TEXT_MAX]);

/* True for 127.0.0.0/8, ::1, and 127.0.0.0/8 mapped into IPv6. */
bool place_is_loopback(const struct sockaddr_storage *socket);

/* Whether a host (as place_format_host() writes it) is in a network: "10.0.0.0/8", "fd00::/8", or
 * one address. Returns 1 or 0, and -1 when `network` is malformed. A host that is no address is in
 * no network. */
int place_is_within(const char *host, const char *network);

#endif
