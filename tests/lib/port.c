#include "port.h"

#include "testbase.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 20000, COUNT_OF_PORTS = 12000 };

/* Takes the port's name among this machine's tests, until this program ends. */
static bool take_name(int port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "cr-test-port-%d", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&name, size) == 0)
        return true;
    close(fd);
    return false;
}

/* Whether nobody else on this machine listens there. */
static bool is_free(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool is = bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    return is;
}

int port_reserve(void)
{
    for (int i = 0; i < COUNT_OF_PORTS; i++) {
        int port = FIRST + (int)((getpid() * 2L + i) % COUNT_OF_PORTS);
        if (is_free(port) && take_name(port))
            return port;
    }
    fail_msg("no port is free");
    return 0;
}
