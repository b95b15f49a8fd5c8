/*
 * A network in which this process is everybody: for tests of what connects to addresses of the
 * internet.
 */
#ifndef TESTLIB_OWN_NETWORK_H
#define TESTLIB_OWN_NETWORK_H

#include <stdbool.h>

/* Enters a network namespace in which every address leads to this process, and no interface has
 * them. False when the host does not allow that. */
bool own_network_enter(void);

/* Opens a socket there that does not block and is bound to that IPv4 address and port (0: any); one
 * of SOCK_STREAM listens. */
int own_network_open(const char *address, int type, unsigned port);

/* The same for both families and all addresses of theirs. */
int own_network_open_all(unsigned port);

/* The port of a socket of IPv4. */
unsigned own_network_port(int fd);

#endif
