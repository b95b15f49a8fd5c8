/*
 * Ports for servers that must be at the same one after they were away.
 */
#ifndef TESTLIB_PORT_H
#define TESTLIB_PORT_H

/* A port of 127.0.0.1 that no other test takes until this program ends, and no connection as its
 * own: it is below the ports of outgoing connections. */
int port_reserve(void);

#endif
