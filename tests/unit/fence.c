/* The fence round link-local addresses, in a network of the test's own. */
#include "testbase.h"

#include "jail/jail.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define METADATA "169.254.169.254"

enum { FENCED = 65534, OTHER = 65533, CANNOT = 77 };

static struct sockaddr_in address(const char *text, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, text, &at.sin_addr);
    return at;
}

/* Loopback, and the metadata server's address on it. */
static bool raise_network(void)
{
    struct ifreq up = {.ifr_name = "lo"}, own = {.ifr_name = "lo:0"};
    struct sockaddr_in at = address(METADATA, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    up.ifr_flags = IFF_UP | IFF_RUNNING;
    memcpy(&own.ifr_addr, &at, sizeof at);
    bool good = ioctl(fd, SIOCSIFFLAGS, &up) == 0 && ioctl(fd, SIOCSIFADDR, &own) == 0;
    close(fd);
    return good;
}

static bool listens(int port)
{
    struct sockaddr_in at = address("0.0.0.0", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 16) == 0;
}

/* Whether this user's connection is taken within that time. */
static bool reaches_within(uid_t uid, const char *host, int port, struct timeval patience)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_in at = address(host, port);
        int fd = setuid(uid) ? -1 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        _exit(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0 ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool reaches(uid_t uid, const char *host, int port)
{
    return reaches_within(uid, host, port, (struct timeval){.tv_sec = 20});
}

/* 0; CANNOT with why in the file; or the number of what is wrong. */
static int try_fence(int why)
{
    struct err err;
    if (unshare(CLONE_NEWNET) || !raise_network() || !listens(80) || !listens(53)) {
        dprintf(why, "no network of its own");
        return CANNOT;
    }
    if (!reaches(FENCED, METADATA, 80))
        return 1;
    if (jail_fence(FENCED, &err)) {
        dprintf(why, "%s", err.msg);
        return CANNOT;
    }
    return reaches_within(FENCED, METADATA, 80, (struct timeval){.tv_usec = 500000}) ? 2
           : !reaches(FENCED, METADATA, 53)                                          ? 3
           : !reaches(FENCED, "127.0.0.1", 80)                                       ? 4
           : !reaches(OTHER, METADATA, 80)                                           ? 5
           : !reaches(0, METADATA, 80)                                               ? 6
                                                                                     : 0;
}

static void keeps_one_user_from_the_metadata_server_and_from_nothing_else(void **state)
{
    (void)state;
    int status, why[2];
    char text[300] = "";
    assert_int_equal(pipe(why), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(try_fence(why[1]));
    close(why[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(read(why[0], text, sizeof text - 1) >= 0);
    close(why[0]);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT)
        SKIP_BECAUSE("no fence here: %s", text);
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_one_user_from_the_metadata_server_and_from_nothing_else),
    };
    return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
