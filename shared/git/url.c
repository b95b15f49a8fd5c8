#include "git/url.h"

#include "base/auto.h"
#include "base/form.h"
#include "base/str.h"
#include "git/resolve.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *prefix;
    int port;
} schemes[] = {
    [GIT_HTTPS] = {"https://", 443},
    [GIT_HTTP] = {"http://", 80},
    [GIT_SSH] = {"ssh://", 22},
    [GIT_FILE] = {"file://", 0},
};

bool git_host_is_forge(const char *host)
{
    static const char *const forges[] = {"github.com", "gitlab.com", "bitbucket.org"};
    for (size_t i = 0; i < COUNT_OF(forges); i++)
        if (strcmp(host, forges[i]) == 0)
            return true;
    return false;
}

static int bad(struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "the repository's URL %s", why);
}

static int set_host(struct git_url *url, const char *host, size_t len, struct err *err)
{
    if (len == 0 || len >= sizeof(url->host))
        return bad(err, "has no host");
    for (size_t i = 0; i < len; i++)
        url->host[i] = (char)tolower((unsigned char)host[i]);
    url->host[len] = '\0';
    if (resolve_is_literal(url->host))
        return 0;
    return form_is_domain(url->host) && url->host[0] != '*' ? 0 : bad(err, "has no valid host");
}

static int set_user(struct git_url *url, const char *user, size_t len, struct err *err)
{
    if (len == 0 || len >= sizeof(url->user) || *user == '-')
        return bad(err, "has no valid user");
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)user[i]) && !strchr("._-", user[i]))
            return bad(err, "has no valid user");
    snprintf(url->user, sizeof(url->user), "%.*s", (int)len, user);
    return 0;
}

/* Accepts printable ASCII only, and nothing that a shell, a URL or git could read as more than a
 * name. */
static int set_path(struct git_url *url, const char *path, struct err *err)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len < 1 || len >= sizeof(url->path) || (len == 1 && *path == '/'))
        return bad(err, "names no repository");
    for (size_t i = 0; i < len; i++)
        if (path[i] <= ' ' || path[i] >= 0x7f || strchr("?#\\\"'`$;&|<>()*!{}", path[i]))
            return bad(err, "has characters that do not belong there");
    snprintf(url->path, sizeof(url->path), "%.*s", (int)len, path);
    const char *name = url->path + (*url->path == '/');
    if (*name == '-' || *name == '/')
        return bad(err, "has a path that looks like an option");
    for (const char *at = url->path; at; at = strchr(at + 1, '/'))
        if (strncmp(at + (*at == '/'), "..", 2) == 0 && strchr("/", at[2 + (*at == '/')]))
            return bad(err, "leads upwards");
    return 0;
}

/* [user[:password]@]host[:port] */
static int parse_authority(struct git_url *url, const char *text, size_t len, struct err *err)
{
    int64_t port = 0;
    const char *end = text + len, *at = memrchr(text, '@', len);
    if (at && url->scheme == GIT_SSH &&
        set_user(url, text, strcspn(text, ":@"), err)) /* A password in an ssh URL has no use. */
        return -1;
    const char *host = at ? at + 1 : text;
    bool bracket = *host == '[';
    const char *close = bracket ? memchr(host, ']', (size_t)(end - host)) : NULL;
    if (bracket && !close)
        return bad(err, "has no valid host");
    const char *from = close ? close + 1 : host;
    const char *colon = memchr(from, ':', (size_t)(end - from));
    const char *host_end = close ? close : colon ? colon : end;
    if (close && colon != from && from != end)
        return bad(err, "has no valid host");
    if (colon) {
        AUTO(str) char *digits = strndup(colon + 1, (size_t)(end - colon - 1));
        if (!digits || str_to_int(digits, 1, 65535, &port))
            return bad(err, "has no valid port");
    }
    url->port = port == schemes[url->scheme].port ? 0 : (int)port;
    return set_host(url, host + bracket, (size_t)(host_end - host - bracket), err);
}

static int parse_url(struct git_url *url, const char *rest, struct err *err)
{
    size_t len = strcspn(rest, "/");
    if (url->scheme == GIT_FILE)
        return len == 0 ? set_path(url, rest, err) : bad(err, "must name a file by its whole path");
    if (rest[len] == '\0')
        return bad(err, "names no repository");
    if (parse_authority(url, rest, len, err))
        return -1;
    if (url->scheme == GIT_SSH && !url->user[0])
        snprintf(url->user, sizeof(url->user), "git");
    return set_path(url, rest + len, err);
}

static int parse_scp(struct git_url *url, const char *text, const char *colon, struct err *err)
{
    const char *at = memchr(text, '@', (size_t)(colon - text));
    url->scheme = GIT_SSH;
    snprintf(url->user, sizeof(url->user), "git");
    if (at && set_user(url, text, (size_t)(at - text), err))
        return -1;
    const char *host = at ? at + 1 : text;
    url->relative = colon[1] != '/';
    return set_host(url, host, (size_t)(colon - host), err) || set_path(url, colon + 1, err) ? -1
                                                                                             : 0;
}

static int parse_any(const char *text, struct git_url *url, struct err *err)
{
    char path[2049];
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t n = strlen(schemes[i].prefix);
        url->scheme = (enum git_scheme)i;
        if (strncasecmp(text, schemes[i].prefix, n) == 0)
            return parse_url(url, text + n, err);
    }
    const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
    if (colon && colon[1] == ':')
        return bad(err, "must begin with https:// or ssh://");
    if (colon && (!slash || colon < slash))
        return parse_scp(url, text, colon, err);
    if (!slash || slash == text || strchr(slash + 1, '/') || strlen(text) > 200)
        return bad(err, "must be an https or ssh URL, user@host:path, or owner/name for GitHub");
    url->scheme = GIT_HTTPS;
    snprintf(url->host, sizeof(url->host), "github.com");
    snprintf(path, sizeof(path), "/%s", text);
    return set_path(url, path, err);
}

int git_url_parse(const char *text, struct git_url *ret_url, struct err *err)
{
    struct git_url url = {0};
    if (*text == '-' || *text == '\0')
        return bad(err, "looks like an option");
    if (parse_any(text, &url, err))
        return -1;
    *ret_url = url;
    return 0;
}

static void add_host(const struct git_url *url, struct buf *out)
{
    bool bracket = strchr(url->host, ':') != NULL;
    buf_addf(out, "%s%s%s", bracket ? "[" : "", url->host, bracket ? "]" : "");
    if (url->port)
        buf_addf(out, ":%d", url->port);
}

void git_url_print(const struct git_url *url, struct buf *out)
{
    if (url->relative) {
        buf_addf(out, "%s@%s:%s", url->user, url->host, url->path);
        return;
    }
    buf_adds(out, schemes[url->scheme].prefix);
    if (url->scheme == GIT_SSH)
        buf_addf(out, "%s@", url->user);
    add_host(url, out);
    buf_adds(out, url->path);
}

void git_url_canonical(const struct git_url *url, struct buf *out)
{
    if (!git_host_is_forge(url->host) || url->port) {
        git_url_print(url, out);
        return;
    }
    const char *path = url->path + (*url->path == '/');
    size_t len = strlen(path);
    if (len > 4 && strcmp(path + len - 4, ".git") == 0)
        len -= 4;
    buf_addf(out, "%s/%.*s", url->host, (int)len, path);
}

void git_url_use_ssh(struct git_url *url)
{
    if (url->scheme != GIT_HTTPS && url->scheme != GIT_HTTP)
        return;
    url->scheme = GIT_SSH;
    url->port = 0;
    snprintf(url->user, sizeof(url->user), "git");
}

void git_url_use_https(struct git_url *url)
{
    char path[sizeof(url->path) + 1];
    if (url->scheme != GIT_SSH)
        return;
    url->scheme = GIT_HTTPS;
    url->port = 0;
    url->user[0] = '\0';
    snprintf(path, sizeof(path), "%s%s", url->relative ? "/" : "", url->path);
    memcpy(url->path, path, strnlen(path, sizeof(url->path) - 1) + 1);
    url->path[sizeof(url->path) - 1] = '\0';
    url->relative = false;
}

/* --- what is allowed ----------------------------------------------------------------------- */

/* The real path of the longest part of `path` that exists. */
static char *real_part(const char *path)
{
    AUTO(str) char *part = strdup(path);
    char *real = NULL, *slash;
    while (part && !(real = realpath(part, NULL)) && errno == ENOENT &&
           (slash = strrchr(part, '/')) && slash > part)
        *slash = '\0';
    return real;
}

/* Compares real paths, so that a link inside an allowed directory does not lead out of it. What no
 * longer exists there is missing, not forbidden. */
static bool is_below(const char *path, const char *dir)
{
    AUTO(str) char *real = real_part(path);
    AUTO(str) char *top = realpath(dir, NULL);
    size_t n = top ? strlen(top) : 0;
    return real && n > 0 && strncmp(real, top, n) == 0 && (real[n] == '/' || real[n] == '\0');
}

static bool names_host(const struct git_url *url, const char *entry)
{
    char with_port[300];
    snprintf(with_port, sizeof(with_port), "%s:%d", url->host,
             url->port ? url->port : schemes[url->scheme].port);
    if (str_equal_nocase(entry, url->host) || str_equal_nocase(entry, with_port))
        return true;
    size_t host = strlen(url->host), tail = strlen(entry);
    return str_starts(entry, "*.") && host > tail - 1 &&
           str_equal_nocase(url->host + host - (tail - 1), entry + 1);
}

bool git_url_is_allowed(const struct git_url *url, const struct strlist *allow)
{
    for (size_t i = 0; i < allow->count; i++) {
        const char *entry = allow->items[i];
        bool file = str_starts(entry, "file:");
        if (file != (url->scheme == GIT_FILE))
            continue;
        if (file) {
            const char *dir = entry + strlen("file:");
            if (is_below(url->path, str_starts(dir, "//") ? dir + 2 : dir))
                return true;
        } else if (names_host(url, entry)) {
            return true;
        }
    }
    return false;
}

static bool is_local_name(const char *host)
{
    static const char *const tails[] = {".localhost", ".local", ".internal", ".lan", ".home.arpa"};
    size_t len = strlen(host);
    if (!strchr(host, '.') && !strchr(host, ':'))
        return true;
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        size_t n = strlen(tails[i]);
        if (len > n && strcmp(host + len - n, tails[i]) == 0)
            return true;
    }
    return false;
}

int git_url_check(const struct git_url *url, const struct strlist *allow, struct err *err)
{
    if (git_url_is_allowed(url, allow))
        return 0;
    if (url->scheme == GIT_FILE)
        return err_set(err, ERR_FORBIDDEN, "file: repositories need their directory in GIT_ALLOW");
    if (url->scheme == GIT_HTTP)
        return err_set(err, ERR_FORBIDDEN, "http: repositories need their host in GIT_ALLOW");
    if (is_local_name(url->host) ||
        (resolve_is_literal(url->host) && !resolve_is_public(url->host)))
        return err_set(err, ERR_FORBIDDEN, "'%.100s' is private; GIT_ALLOW does not name it",
                       url->host);
    return 0;
}
