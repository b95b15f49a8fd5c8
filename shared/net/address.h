/*
 * Tells public addresses from those of the machine and its network.
 *
 * Threads: no shared state.
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* False for loopback, private, link-local, shared, multicast, documentation and reserved addresses,
 * and for IPv6 forms that embed such an IPv4 address. */
bool address_is_public(const struct sockaddr *address);
bool address_is_loopback(const struct sockaddr *address);

#endif
