#include "git/resolve.h"

#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* 0, or -1 when text is no address. */
static int parse(const char *text, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    memset(ret_address, 0, sizeof(*ret_address));
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
        memcpy(ret_address, &four, sizeof(four));
    else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1)
        memcpy(ret_address, &six, sizeof(six));
    else
        return -1;
    return 0;
}

bool resolve_is_literal(const char *text)
{
    struct sockaddr_storage address;
    return parse(text, &address) == 0;
}

bool resolve_is_public(const char *literal)
{
    struct sockaddr_storage address;
    return parse(literal, &address) == 0 &&
           address_is_public((const struct sockaddr *)(const void *)&address);
}

int resolve_host(const char *host, bool private_too, char ret_address[RESOLVE_SIZE],
                 struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char text[RESOLVE_SIZE];
    bool found = false;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc)
        return err_set(err, ERR_UPSTREAM, "cannot look up '%.100s': %s", host, gai_strerror(rc));
    for (const struct addrinfo *at = list; at && !found; at = at->ai_next) {
        found = (private_too || address_is_public(at->ai_addr)) &&
                getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0,
                            NI_NUMERICHOST) == 0 &&
                !strchr(text, '%');
    }
    freeaddrinfo(list);
    if (!found)
        return err_set(err, ERR_FORBIDDEN,
                       "'%.100s' has private addresses only; GIT_ALLOW does not name it", host);
    snprintf(ret_address, RESOLVE_SIZE, "%s", text);
    return 0;
}
