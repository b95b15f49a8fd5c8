/* What the tests of shared/net share: servers that behave badly. */
#ifndef TESTS_NET_SCENE_H
#define TESTS_NET_SCENE_H

#include "net/net.h"

#include "base/clock.h"
#include "loopback.h"

#include <netdb.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Misbehaves as the path says. */
static inline bool misbehave(struct loopback_call *call, void *arg)
{
    (void)arg;
    const char *what = call->path + 1;
    if (strcmp(what, "silent") == 0)
        return !loopback_await_close(call, 20000);
    if (strcmp(what, "trickle") == 0) {
        loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while (loopback_text(call, "x") && !loopback_await_close(call, 50))
            continue;
        return false;
    }
    if (strcmp(what, "cut-body") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), false;
    if (strcmp(what, "cut-chunk") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   "8\r\nhalf"),
               false;
    if (strcmp(what, "cut-head") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nContent-"), false;
    if (strcmp(what, "nothing") == 0)
        return false;
    if (strcmp(what, "garbage") == 0)
        return loopback_text(call, "SSH-2.0-OpenSSH_9.2\r\n"), false;
    if (strcmp(what, "old") == 0)
        return loopback_text(call, "just text\n"), false;
    for (int i = 0; i < 4000; i++) /* huge-head */
        if (!loopback_text(call, i ? "X-Header: 0123456789012345678901234567890123456789\r\n"
                                   : "HTTP/1.1 200 OK\r\n"))
            break;
    return false;
}

#endif
