/*
 * The other side of a fetch or push: its URL, the address that was checked, the credentials, the
 * host keys that are known.
 *
 * Secrets reach git and ssh through descriptors of memory files, never by arguments, environment
 * or disk.
 *
 * Threads: one at a time.
 */
#ifndef GIT_REMOTE_H
#define GIT_REMOTE_H

#include "base/strlist.h"
#include "git/program.h"
#include "git/resolve.h"
#include "git/url.h"

#include <stdbool.h>
#include <stdint.h>

struct remote_config {
    const char *url;
    const struct strlist *allow;   /* GIT_ALLOW */
    const char *token;             /* "user:password", or a password; NULL: none */
    const char *key;               /* NULL: none */
    const char *known_hosts;       /* file to which the keys of new hosts are added */
    const char *known_hosts_owner; /* the owner's, or NULL */
    const char *ca_file;           /* or NULL: the system's */
    int64_t deadline_ms;           /* mono */
};

struct remote {
    struct git_url url;
    char text[2600]; /* the URL for git */
    char address[RESOLVE_SIZE];
    const struct remote_config *config; /* borrowed */
    int token_fd;
    int key_fd;
    char *ssh_command;
    bool host_was_new; /* its key was not known before */
};

#define REMOTE_INIT                  \
    {                                \
        .token_fd = -1, .key_fd = -1 \
    }

/* Chooses the transport (a key means ssh, a token https), checks the policy, looks up the address,
 * and prepares the secrets. */
int remote_open(struct remote *remote, const struct remote_config *config, struct err *err);
void remote_close(struct remote *remote);
static inline void auto_remote(struct remote *remote)
{
    remote_close(remote);
}

/* Appends the credentials of a remote with a token as a header line; nothing for others. */
void remote_add_authorization(const struct remote *remote, struct buf *out);
/* Appends "host:port:address", the checked address of an http(s) remote; nothing behind a proxy. */
void remote_pin(const struct remote *remote, struct buf *out);

/* Adds "git", the options for this remote, and its environment; the caller adds the verb and its
 * arguments. */
void remote_program(const struct remote *remote, const char *git_dir, struct program *program);

/* Appends the fingerprint of the host's key when it was learnt on first use; nothing when it was
 * known before. */
void remote_learnt_key(const struct remote *remote, struct buf *out);

/* The host keys of GitHub, GitLab and Bitbucket, as a known_hosts file. */
extern const char remote_forge_keys[];

#endif
