/* A server of TLS beside the test, by the program openssl, and its certificate. */
#ifndef TESTS_NET_TLS_H
#define TESTS_NET_TLS_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static inline pid_t tls_start(char *const argv[], const char *out)
{
    pid_t pid;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return rc == 0 ? pid : -1;
}

/* Makes a certificate for 127.0.0.1 and serves it. Returns the port, or 0 without openssl. */
static inline int tls_serve(const char *dir, pid_t *ret_pid)
{
    char key[128], cert[128], out[128];
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    char *make[] = {"openssl",  "req",    "-x509",   "-newkey",
                    "rsa:2048", "-nodes", "-keyout", key,
                    "-out",     cert,     "-days",   "2",
                    "-subj",    "/CN=t",  "-addext", "subjectAltName=IP:127.0.0.1",
                    NULL};
    char *serve[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
                     cert,      "-key",     key,       "-www",        NULL};
    int status = -1, port = 0;
    pid_t pid = tls_start(make, out);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return 0;
    *ret_pid = tls_start(serve, out);
    for (int i = 0; i < 12000 && port == 0; i++) {
        struct err err;
        AUTO(buf) struct buf text = BUF_INIT(65536);
        usleep(5000);
        if (file_read(out, &text, &err) == 0 && strstr(buf_str(&text), "ACCEPT 127.0.0.1:"))
            sscanf(strstr(buf_str(&text), "ACCEPT"), "ACCEPT 127.0.0.1:%d\n", &port);
    }
    return port;
}

/* Names the certificates of a folder by their hashes. */
static inline void tls_rehash(const char *dir)
{
    int status = -1;
    char folder[64];
    snprintf(folder, sizeof(folder), "%s", dir);
    char *argv[] = {"openssl", "rehash", folder, NULL};
    pid_t pid = tls_start(argv, "/dev/null");
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid); /* openssl prints a complaint about the
                                                              * key */
}

#endif
