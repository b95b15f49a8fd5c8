/* Which addresses may be connected to, whatever the task's rules say. */
#include "runner/egress/rules.h"

#include "base/check.h"
#include "base/str.h"
#include "net/address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An address of either family as 16 bytes: IPv4 as ::ffff:a.b.c.d. */
struct plain {
    unsigned char bytes[16];
};

static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
static const unsigned char translated[12] = {0x00, 0x64, 0xff, 0x9b};

static bool read_plain(const struct sockaddr *address, struct plain *ret)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (address->sa_family == AF_INET) {
        memcpy(&in, address, sizeof(in));
        memcpy(ret->bytes, mapped, sizeof(mapped));
        memcpy(ret->bytes + 12, &in.sin_addr, 4);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    memcpy(&in6, address, sizeof(in6));
    memcpy(ret->bytes, &in6.sin6_addr, 16);
    if (memcmp(ret->bytes, translated, sizeof(translated)) == 0) { /* a NAT64 gateway's */
        memcpy(ret->bytes, mapped, sizeof(mapped));
    } else if (ret->bytes[0] == 0x20 && ret->bytes[1] == 0x02) { /* 6to4: what it embeds */
        memmove(ret->bytes + 12, ret->bytes + 2, 4);
        memcpy(ret->bytes, mapped, sizeof(mapped));
    }
    return true;
}

static bool is_mapped(const struct plain *plain)
{
    return memcmp(plain->bytes, mapped, sizeof(mapped)) == 0;
}

/* Reads ADDRESS or ADDRESS/BITS. */
static int read_network(const char *text, struct plain *ret_plain, int *ret_bits)
{
    char address[64];
    struct in_addr in;
    size_t len = strcspn(text, "/");
    int64_t bits = -1;
    if (len >= sizeof(address))
        return -1;
    memcpy(address, text, len);
    address[len] = '\0';
    bool four = inet_pton(AF_INET, address, &in) == 1;
    int most = four ? 32 : 128;
    if (text[len] && str_to_int(text + len + 1, 0, most, &bits))
        return -1;
    if (four) {
        memcpy(ret_plain->bytes, mapped, sizeof(mapped));
        memcpy(ret_plain->bytes + 12, &in, 4);
    } else if (inet_pton(AF_INET6, address, ret_plain->bytes) != 1) {
        return -1;
    }
    *ret_bits = (bits < 0 ? most : (int)bits) + (four ? 96 : 0);
    return 0;
}

static bool is_within(const struct plain *plain, const struct plain *net, int bits)
{
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(plain->bytes, net->bytes, (size_t)whole) != 0)
        return false;
    return rest == 0 || (plain->bytes[whole] >> (8 - rest)) == (net->bytes[whole] >> (8 - rest));
}

static bool is_opened(const struct strlist *lan, const struct plain *plain)
{
    struct plain net;
    int bits;
    for (size_t i = 0; i < lan->count; i++)
        if (read_network(lan->items[i], &net, &bits) == 0 && is_within(plain, &net, bits))
            return true;
    return false;
}

/* True for loopback, "any", and addresses of this machine's interfaces. When these cannot be
 * listed, true for every address. */
static bool is_ours(const struct plain *plain)
{
    struct ifaddrs *all = NULL;
    struct plain one;
    static const unsigned char six[16] = {0}, self[16] = {[15] = 1};
    bool ours = (is_mapped(plain) && (plain->bytes[12] == 127 || plain->bytes[12] == 0)) ||
                memcmp(plain->bytes, six, 16) == 0 || memcmp(plain->bytes, self, 16) == 0;
    if (ours || getifaddrs(&all))
        return true;
    for (const struct ifaddrs *at = all; at && !ours; at = at->ifa_next)
        ours =
            at->ifa_addr && read_plain(at->ifa_addr, &one) && memcmp(&one, plain, sizeof(one)) == 0;
    freeifaddrs(all);
    return ours;
}

static unsigned port_of(const struct sockaddr *address)
{
    struct sockaddr_in in; /* The port is at the same offset in both families. */
    memcpy(&in, address, sizeof(in));
    return ntohs(in.sin_port);
}

/* True for a socket of this process that listens at the port. */
static bool listens(int fd, unsigned port)
{
    int yes = 0;
    socklen_t size = sizeof(yes);
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &size) || !yes)
        return false;
    if (getsockname(fd, (struct sockaddr *)&at, &len))
        return true;
    return (at.ss_family == AF_INET || at.ss_family == AF_INET6) &&
           port_of((const struct sockaddr *)&at) == port;
}

/* True for a port that the runner itself listens on: these are closed whatever networks are
 * open. */
static bool is_runners(unsigned port)
{
    DIR *dir = opendir("/proc/self/fd");
    bool found = !dir;
    const struct dirent *entry;
    while (!found && (entry = readdir(dir)))
        found = entry->d_name[0] != '.' && listens((int)strtol(entry->d_name, NULL, 10), port);
    if (dir)
        closedir(dir);
    return found;
}

const char *egress_refuses(const struct strlist *lan, const struct sockaddr *address)
{
    REQUIRE(address);
    struct plain plain;
    if (!read_plain(address, &plain))
        return "it is no address of the internet";
    bool ours = is_ours(&plain), opened = is_opened(lan, &plain);
    if (ours && is_runners(port_of(address)))
        return "it is a port of the runner";
    if (opened)
        return NULL;
    if (ours)
        return "it is this machine";
    return address_is_public(address) ? NULL : "it is in a private or reserved network";
}
