/*
 * TLS under a double: a server_transport (server.h) made of OpenSSL, with a certificate and key
 * from files.
 *
 * Threads: tls_new from one; the transport from any.
 */
#ifndef DOUBLES_TLS_H
#define DOUBLES_TLS_H

#include "server.h"

/* Fills the transport. False, with OpenSSL's reason on stderr, when a file is of no use. */
bool tls_transport(const char *cert_file, const char *key_file,
                   struct server_transport *ret_transport);

#endif
