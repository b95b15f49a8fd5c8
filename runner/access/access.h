/*
 * Cloudflare Access: whether a request came through the owner's Access application.
 *
 * Theory of operation. Access signs an assertion (a JWT) for each request it lets through; we hold
 * the public keys. A thread of its own fetches them: at the start, every few hours, and when a
 * token names a key that we do not have, but not more often than twice a minute. What came last is
 * kept on the disk, so that a restart works while Cloudflare's keys cannot be reached. A key that
 * is no longer published is no longer taken; when they cannot be fetched, the ones at hand stay.
 *
 *     request ─▶ access_check ─▶ key known? ─▶ signature, iss, aud, exp, nbf ─▶ true
 *                                 └ no: wakes the thread, waits a moment, looks again
 *
 * Threads: any.
 * Ownership: the caller of access_new() frees it by access_free().
 */
#ifndef ACCESS_ACCESS_H
#define ACCESS_ACCESS_H

#include "base/auto.h"
#include "base/err.h"

#include <stdbool.h>

struct access;

struct access_config {
    const char *team_domain; /* "team.cloudflareaccess.com", or "team" */
    const char *aud;
    const char *certs_url; /* NULL: the team's */
    const char *state_dir;
};

/* Copies the configuration and reads the keys that are stored on disk. The caller frees the result
 * by access_free(). */
struct access *access_new(const struct access_config *config, struct err *err);
/* Starts the thread that fetches keys. */
int access_start(struct access *access, struct err *err);
void access_free(struct access *access);
DEFINE_AUTO(access, struct access *, access_free)

/* Returns 0 when the assertion (NULL: there is none) is valid; else ERR_FORBIDDEN with the reason,
 * which is for the log only and contains nothing of the token. Waits at most two seconds. */
int access_check(struct access *access, const char *assertion, struct err *err);

#endif
