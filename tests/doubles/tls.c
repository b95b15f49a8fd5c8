#include "tls.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

static void *open_session(int fd, void *arg)
{
    SSL *ssl = SSL_new(arg);
    if (ssl && SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

static ssize_t read_session(void *session, void *data, size_t size)
{
    return SSL_read(session, data, size > INT_MAX ? INT_MAX : (int)size);
}

static ssize_t write_session(void *session, const void *data, size_t size)
{
    return SSL_write(session, data, size > INT_MAX ? INT_MAX : (int)size);
}

static void close_session(void *session)
{
    SSL_shutdown(session);
    SSL_free(session);
}

bool tls_transport(const char *cert_file, const char *key_file,
                   struct server_transport *ret_transport)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        SSL_CTX_free(context);
        return false;
    }
    *ret_transport = (struct server_transport){.open = open_session,
                                               .read = read_session,
                                               .write = write_session,
                                               .close = close_session,
                                               .arg = context};
    return true;
}
