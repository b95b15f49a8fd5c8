#include "base/place.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define UNIX_PREFIX "unix:"

static int parse_unix(const char *path, size_t len, struct place *address, struct err *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address->socket;
    if (len == 0 || path[0] != '/')
        return err_set(err, ERR_CONFIG, "a unix socket needs a path that begins with '/'");
    if (len >= sizeof(un->sun_path))
        return err_set(err, ERR_CONFIG, "the path of a unix socket has at most %zu bytes",
                       sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len);
    address->len = sizeof(*un);
    return 0;
}

static int parse_port(const char *text, struct place *address, struct err *err)
{
    int64_t port;
    if (str_to_int(text, 1, 65535, &port) < 0)
        return err_set(err, ERR_CONFIG, "'%.20s' is not a port", text);
    place_set_port(&address->socket, (int)port);
    address->has_port = true;
    return 0;
}

static int parse_v6(char *text, struct place *address, struct err *err)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->socket;
    char *port = NULL;
    if (text[0] == '[') {
        char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return err_set(err, ERR_CONFIG, "'%.60s' is not [IPv6] or [IPv6]:port", text);
        port = end[1] ? end + 2 : NULL;
        *end = '\0';
        text++;
    }
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1)
        return err_set(err, ERR_CONFIG, "'%.60s' is not an IPv6 address", text);
    in6->sin6_family = AF_INET6;
    address->len = sizeof(*in6);
    return port ? parse_port(port, address, err) : 0;
}

static int parse_v4(char *text, struct place *address, struct err *err)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&address->socket;
    char *port = strchr(text, ':');
    if (port)
        *port++ = '\0';
    if (inet_pton(AF_INET, text, &in->sin_addr) != 1)
        return err_set(err, ERR_CONFIG,
                       "'%.60s' is neither an IPv4 or IPv6 address nor unix:/path nor systemd",
                       text);
    in->sin_family = AF_INET;
    address->len = sizeof(*in);
    return port ? parse_port(port, address, err) : 0;
}

int place_parse(const char *text, size_t len, struct place *ret_address, struct err *err)
{
    struct place address = {.len = 0};
    char copy[PLACE_TEXT_MAX];
    size_t prefix = strlen(UNIX_PREFIX);
    int rc;
    if (len == 7 && memcmp(text, "systemd", 7) == 0) {
        address.inherited = true;
        *ret_address = address;
        return 0;
    }
    if (len >= prefix && memcmp(text, UNIX_PREFIX, prefix) == 0) {
        rc = parse_unix(text + prefix, len - prefix, &address, err);
    } else if (len >= sizeof(copy)) {
        rc = err_set(err, ERR_CONFIG, "'%.60s...' is not an address", text);
    } else {
        memcpy(copy, text, len);
        copy[len] = '\0';
        const char *colon = strchr(copy, ':');
        bool v6 = copy[0] == '[' || (colon && strchr(colon + 1, ':'));
        rc = v6 ? parse_v6(copy, &address, err) : parse_v4(copy, &address, err);
    }
    if (rc == 0)
        *ret_address = address;
    return rc;
}

int place_list_parse(const char *text, struct place list[PLACE_LIST_MAX], struct err *err)
{
    int count = 0;
    for (text += strspn(text, ", \t"); *text; text += strspn(text, ", \t")) {
        size_t len = strcspn(text, ", \t");
        if (count == PLACE_LIST_MAX)
            return err_set(err, ERR_CONFIG, "more than %d addresses", PLACE_LIST_MAX);
        if (place_parse(text, len, &list[count], err) < 0)
            return -1;
        count++;
        text += len;
    }
    return count > 0 ? count : err_set(err, ERR_CONFIG, "there is no address");
}

int place_port(const struct sockaddr_storage *socket)
{
    switch (socket->ss_family) {
    case AF_INET:
        return ntohs(((const struct sockaddr_in *)socket)->sin_port);
    case AF_INET6:
        return ntohs(((const struct sockaddr_in6 *)socket)->sin6_port);
    default:
        return 0;
    }
}

void place_set_port(struct sockaddr_storage *socket, int port)
{
    if (socket->ss_family == AF_INET)
        ((struct sockaddr_in *)socket)->sin_port = htons((uint16_t)port);
    else if (socket->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)socket)->sin6_port = htons((uint16_t)port);
}

/* The IPv4 address inside a mapped IPv6 one, or NULL. */
static const uint8_t *mapped_v4(const struct sockaddr_storage *socket)
{
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)socket)->sin6_addr;
    return socket->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(in6) ? in6->s6_addr + 12 : NULL;
}

void place_format_host(const struct sockaddr_storage *socket, char text[PLACE_TEXT_MAX])
{
    const uint8_t *v4 = mapped_v4(socket);
    const void *bytes = v4 ? (const void *)v4
                        : socket->ss_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)socket)->sin_addr
                            : (const void *)&((const struct sockaddr_in6 *)socket)->sin6_addr;
    if (socket->ss_family == AF_UNIX)
        snprintf(text, PLACE_TEXT_MAX, "unix");
    else
        inet_ntop(v4 ? AF_INET : socket->ss_family, bytes, text, PLACE_TEXT_MAX);
}

void place_format(const struct sockaddr_storage *socket, char text[PLACE_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "";
    if (socket->ss_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)socket)->sun_path;
        snprintf(text, PLACE_TEXT_MAX, UNIX_PREFIX "%s", path);
    } else if (socket->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)socket)->sin_addr, host, sizeof(host));
        snprintf(text, PLACE_TEXT_MAX, "%s:%d", host, place_port(socket));
    } else {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)socket)->sin6_addr, host, sizeof(host));
        snprintf(text, PLACE_TEXT_MAX, "[%s]:%d", host, place_port(socket));
    }
}

bool place_is_loopback(const struct sockaddr_storage *socket)
{
    const uint8_t *v4 = mapped_v4(socket);
    if (v4)
        return v4[0] == 127;
    if (socket->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)socket)->sin_addr.s_addr) >> 24 == 127;
    return socket->ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)socket)->sin6_addr);
}

/* The bytes of an address and their number; 0 when the text is none. */
static size_t address_bytes(const char *text, unsigned char bytes[16])
{
    return inet_pton(AF_INET, text, bytes) == 1    ? 4
           : inet_pton(AF_INET6, text, bytes) == 1 ? 16
                                                   : 0;
}

int place_is_within(const char *host, const char *network)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char ours[16], theirs[16];
    const char *slash = strchr(network, '/');
    size_t len = slash ? (size_t)(slash - network) : strlen(network);
    if (len >= sizeof(address))
        return -1;
    memcpy(address, network, len);
    address[len] = '\0';
    size_t size = address_bytes(address, theirs);
    int64_t bits = (int64_t)size * 8;
    if (size == 0 || (slash && str_to_int(slash + 1, 0, bits, &bits)))
        return -1;
    if (address_bytes(host, ours) != size)
        return 0;
    size_t whole = (size_t)bits / 8, rest = (size_t)bits % 8;
    if (memcmp(ours, theirs, whole) != 0)
        return 0;
    return rest == 0 || (ours[whole] ^ theirs[whole]) >> (8 - rest) == 0;
}
