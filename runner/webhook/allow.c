#include "runner/webhook/allow.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* --- hosts --------------------------------------------------------------------------------- */

static bool is_named(const char *entry, const char *host, int port)
{
    char with_port[300];
    snprintf(with_port, sizeof(with_port), strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    if (str_equal_nocase(entry, host) || str_equal_nocase(entry, with_port))
        return true;
    size_t len = strlen(host), tail = strlen(entry);
    return str_starts(entry, "*.") && len > tail - 1 &&
           str_equal_nocase(host + len - (tail - 1), entry + 1);
}

bool allow_names(const struct strlist *list, const char *host, int port)
{
    for (size_t i = 0; i < list->count; i++)
        if (is_named(list->items[i], host, port))
            return true;
    return false;
}

/* --- addresses ----------------------------------------------------------------------------- */

/* An address as 128 bits; IPv4 is mapped into IPv6. */
struct bits {
    unsigned char byte[16];
};

static struct bits map4(const struct in_addr *address)
{
    struct bits bits = {.byte = {[10] = 0xff, [11] = 0xff}};
    memcpy(bits.byte + 12, address, 4);
    return bits;
}

static bool bits_of(const struct sockaddr *address, struct bits *ret_bits)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        *ret_bits = map4(&v4.sin_addr);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    memcpy(&v6, address, sizeof(v6));
    memcpy(ret_bits->byte, &v6.sin6_addr, sizeof(ret_bits->byte));
    return true;
}

/* Reads "10.0.0.5", "10.0.0.0/8" or "fd00::/8": the network, and how many of its bits count. */
static bool read_range(const char *entry, struct bits *ret_net, int *ret_count)
{
    char text[64];
    struct in_addr v4;
    int64_t count;
    size_t len = strcspn(entry, "/");
    if (len >= sizeof(text))
        return false;
    memcpy(text, entry, len);
    text[len] = '\0';
    bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
    if (is_v4)
        *ret_net = map4(&v4);
    else if (inet_pton(AF_INET6, text, ret_net->byte) != 1)
        return false;
    int all = is_v4 ? 32 : 128;
    count = all;
    if (entry[len] == '/' && str_to_int(entry + len + 1, 0, all, &count))
        return false;
    *ret_count = (int)count + (128 - all);
    return true;
}

static bool is_inside(const struct bits *address, const struct bits *net, int count)
{
    for (int i = 0; i < count; i++) {
        unsigned char mask = (unsigned char)(0x80 >> i % 8);
        if ((address->byte[i / 8] ^ net->byte[i / 8]) & mask)
            return false;
    }
    return true;
}

bool allow_has(const struct strlist *list, const struct sockaddr *address)
{
    struct bits bits, net;
    int count;
    if (!bits_of(address, &bits))
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (read_range(list->items[i], &net, &count) && is_inside(&bits, &net, count))
            return true;
    return false;
}

bool allow_has_any(const struct strlist *list)
{
    struct bits net;
    int count;
    for (size_t i = 0; i < list->count; i++)
        if (read_range(list->items[i], &net, &count))
            return true;
    return false;
}

bool allow_read_address(const char *host, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    memset(ret_address, 0, sizeof(*ret_address));
    if (inet_aton(host, &v4.sin_addr)) {
        memcpy(ret_address, &v4, sizeof(v4));
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return false;
    memcpy(ret_address, &v6, sizeof(v6));
    return true;
}
