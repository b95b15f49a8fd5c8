/*
 * Repository URLs: the forms people write, one canonical form, and which hosts are allowed.
 *
 * Threads: no shared state.
 */
#ifndef GIT_URL_H
#define GIT_URL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>

enum git_scheme { GIT_HTTPS, GIT_HTTP, GIT_SSH, GIT_FILE };

struct git_url {
    enum git_scheme scheme;
    char user[65];   /* of ssh only */
    char host[254];  /* lower case, without brackets; "" for files */
    int port;        /* 0: the scheme's own */
    char path[2049]; /* begins with '/' unless `relative` */
    bool relative;   /* scp form: below the user's home directory */
};

/* Reads https://, http://, ssh://, file:///, [user@]host:path, and owner/name for GitHub. User and
 * password of http URLs are dropped. ERR_INVALID for everything else, and for parts that a program
 * could take for an option or otherwise misread. */
int git_url_parse(const char *text, struct git_url *ret_url, struct err *err);

/* Appends the URL for git and for people, without secrets. */
void git_url_print(const struct git_url *url, struct buf *out);

/* Appends the canonical form: the same text for every way to write the same repository, from which
 * a mirror's name is made. On the big forges https and ssh name the same repository; elsewhere they
 * may not. */
void git_url_canonical(const struct git_url *url, struct buf *out);

/* Change to the other transport of the same repository: git@host for ssh. File URLs stay. */
void git_url_use_ssh(struct git_url *url);
void git_url_use_https(struct git_url *url);

/* True when `allow` (host, host:port, *.domain, file:/dir) names the URL's host or path. */
bool git_url_is_allowed(const struct git_url *url, const struct strlist *allow);

/* Refuses, with ERR_FORBIDDEN, http and file URLs and local host names that `allow` does not name,
 * and literal addresses that are not public. Asks no name server. */
int git_url_check(const struct git_url *url, const struct strlist *allow, struct err *err);

/* True for GitHub, GitLab and Bitbucket. */
bool git_host_is_forge(const char *host);

#endif
