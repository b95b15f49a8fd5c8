#include "testbase.h"

#include "base/fd.h"
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* All addresses of a family are this machine's, but no interface has them. */
static bool take_all_addresses(int family)
{
    struct {
        struct nlmsghdr head;
        struct rtmsg route;
        struct rtattr attr;
        int index;
    } ask = {.head = {.nlmsg_len = sizeof(ask),
                      .nlmsg_type = RTM_NEWROUTE,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK},
             .route = {.rtm_family = (unsigned char)family,
                       .rtm_table = RT_TABLE_LOCAL,
                       .rtm_protocol = RTPROT_BOOT,
                       .rtm_scope = RT_SCOPE_HOST,
                       .rtm_type = RTN_LOCAL},
             .attr = {.rta_len = RTA_LENGTH(sizeof(int)), .rta_type = RTA_OIF},
             .index = (int)if_nametoindex("lo")};
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } answer = {.error = {.error = -1}};
    AUTO(fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd >= 0 && send(fd, &ask, sizeof(ask), 0) == (ssize_t)sizeof(ask) &&
           recv(fd, &answer, sizeof(answer), 0) > 0 && answer.error.error == 0;
}

bool own_network_enter(void)
{
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET))
        return false;
    AUTO(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) || !take_all_addresses(AF_INET))
        return false;
    (void)take_all_addresses(AF_INET6); /* what isn't there can't be reached either */
    return true;
}

int own_network_open(const char *address, int type, unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
    assert_true(type != SOCK_STREAM || listen(fd, 512) == 0);
    return fd;
}

int own_network_open_all(unsigned port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    assert_true(bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 512) == 0);
    return fd;
}

unsigned own_network_port(int fd)
{
    struct sockaddr_in at;
    socklen_t size = sizeof(at);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    return ntohs(at.sin_port);
}
