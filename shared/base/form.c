#include "base/form.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_label(const char *text, size_t len)
{
    if (len == 0 || len > 63 || text[0] == '-' || text[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '_')
            return false;
    return true;
}

bool form_is_domain(const char *text)
{
    if (strlen(text) > 253)
        return false;
    if (str_starts(text, "*."))
        text += 2;
    for (;;) {
        size_t n = strcspn(text, ".");
        if (!is_label(text, n))
            return false;
        if (text[n] == '\0')
            return true;
        text += n + 1;
    }
}

/* A domain, maybe with a port. */
static bool is_destination(const char *text)
{
    char host[256];
    int64_t port;
    size_t len = strcspn(text, ":");
    if (len >= sizeof(host) || (text[len] && str_to_int(text + len + 1, 1, 65535, &port)))
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    return form_is_domain(host);
}

bool form_are_domains(const struct strlist *list, const char **ret_bad)
{
    if (list->count == 1 &&
        (strcmp(list->items[0], "open") == 0 || strcmp(list->items[0], "none") == 0))
        return true;
    for (size_t i = 0; i < list->count; i++) {
        const char *item = list->items[i];
        if (!is_destination(item) || strcmp(item, "open") == 0 || strcmp(item, "none") == 0) {
            *ret_bad = item;
            return false;
        }
    }
    return true;
}

bool form_is_env_name(const char *text)
{
    if (*text == '\0' || isdigit((unsigned char)*text))
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && *text != '_')
            return false;
    return true;
}

bool form_is_uuid(const char *text)
{
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return text[36] == '\0';
}

bool form_is_token(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return *text != '\0';
}

/* Reads "host", "host:port" or "[v6]:port". */
static bool read_authority(const char *text, size_t len, struct form_url *url)
{
    AUTO(str) char *host = strndup(text, len);
    if (!host)
        return false;
    struct in_addr v4;
    struct in6_addr v6;
    int64_t port = url->tls ? 443 : 80;
    char *name = host, *end = host[0] == '[' ? strchr(host, ']') : host + strcspn(host, ":");
    if (!end)
        return false;
    char *colon = *end == ']' ? end + 1 : end;
    if (*colon && (*colon != ':' || str_to_int(colon + 1, 1, 65535, &port)))
        return false;
    *end = '\0';
    bool bracket = *name == '[';
    name += bracket;
    if (bracket ? inet_pton(AF_INET6, name, &v6) != 1 : !form_is_domain(name) || *name == '*')
        return false;
    url->loopback = bracket
                        ? IN6_IS_ADDR_LOOPBACK(&v6)
                        : strcasecmp(name, "localhost") == 0 ||
                              (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
    url->port = (int)port;
    for (size_t i = 0; name[i]; i++)
        url->host[i] = (char)tolower((unsigned char)name[i]);
    return true;
}

int form_url(const char *text, struct form_url *ret_url)
{
    struct form_url url = {0};
    if (!form_is_token(text))
        return -1;
    if (strncasecmp(text, "https://", 8) == 0)
        url.tls = true;
    else if (strncasecmp(text, "http://", 7) != 0)
        return -1;
    text += url.tls ? 8 : 7;
    size_t len = strcspn(text, "/?#");
    const char *at = memrchr(text, '@', len);
    url.has_user = at != NULL;
    if (at) {
        len -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    if (memchr(text, '\\', len) || !read_authority(text, len, &url))
        return -1;
    *ret_url = url;
    return 0;
}

int form_choice(const char *choices, const char *text)
{
    REQUIRE(choices);
    size_t len = strlen(text);
    for (int index = 0;; index++) {
        size_t n = strcspn(choices, "|");
        if (n == len && memcmp(choices, text, n) == 0)
            return index;
        if (choices[n] == '\0')
            return -1;
        choices += n + 1;
    }
}

char *form_choice_at(const char *choices, int index)
{
    for (; index > 0; index--) {
        choices += strcspn(choices, "|");
        if (*choices == '\0')
            return NULL;
        choices++;
    }
    return index < 0 ? NULL : strndup(choices, strcspn(choices, "|"));
}
