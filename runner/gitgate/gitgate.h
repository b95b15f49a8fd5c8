/*
 * The git gate: git in a task reaches the task's repository without a key of its own.
 *
 * Theory of operation. A task with a repository gets a pass: a random token that is worth something
 * only here, while the task lives, for that one repository. git in its workspace is told (in
 * .git/runner, see workspace_lead()) to go to the gate instead of to the repository's host, and
 * speaks smart HTTP to it:
 *
 *     git ──(token)──▶ gate ──▶ helper process ──(credentials)──▶ the repository's host
 *                       │          fetch: passed on (git/offer.h)
 *                       │          push: checked by `gitPush`, passed on (git/receive.h)
 *                       └── body kept in a file first: its size is checked as it comes
 *
 * A jail with a network of its own reaches the gate by egress_git_url() and a unix socket,
 * others by a port of loopback.
 *
 * What is refused is told in git's own lines, "remote: …", with what would allow it.
 *
 * Threads: any. Each request has a worker of the gate's own HTTP server.
 * Ownership: the caller of gitgate_new() frees the gate, and the caller of gitgate_open() closes
 * the pass.
 */
#ifndef GITGATE_GITGATE_H
#define GITGATE_GITGATE_H

#include "runner/config/in_force.h"
#include "runner/egress/gate.h"
#include "runner/repo/repos.h"

#include <stdbool.h>

struct gitgate;
struct gitgate_pass;

/* Makes a gate that listens on the unix socket at the path `socket` (borrowed for the call), whose
 * file is for this user only, or, where `socket` is NULL, on a free loopback port, which any
 * program of this machine reaches. The caller frees it by gitgate_free(). `config` is borrowed. */
struct gitgate *gitgate_new(struct config_in_force *config, const char *socket, struct err *err);
/* Frees the gate, after all passes were closed. NULL does nothing. */
void gitgate_free(struct gitgate *gate);

/* The path of its unix socket, for as long as it lives; NULL where it listens on loopback. */
const char *gitgate_socket(const struct gitgate *gate);

struct gitgate_wish {
    struct workspace *workspace; /* borrowed until the pass is closed, as everything here */
    struct repo_wish repo;
    const char *rules;   /* the request's `gitPush` as JSON, or NULL */
    enum egress_way way; /* how the jail reaches its gate */
};

/* Makes a pass and leads the workspace's git to the gate. Call before the workspace is mounted; the
 * caller ends the pass by gitgate_close(). */
struct gitgate_pass *gitgate_open(struct gitgate *gate, const struct gitgate_wish *wish,
                                  struct err *err);
/* Invalidates the token at once, and ends running requests before it returns. NULL does nothing. */
void gitgate_close(struct gitgate_pass *pass);

const char *gitgate_token(const struct gitgate_pass *pass);

/* Reports new pushes and refusals as events `git_push`. NULL does nothing. */
typedef void gitgate_tell_fn(const char *event, const char *json, size_t len, void *arg);
void gitgate_tell(struct gitgate_pass *pass, gitgate_tell_fn *tell, void *arg);

#endif
