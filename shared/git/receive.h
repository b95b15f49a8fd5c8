/*
 * A push, checked and passed on: what a client of git sends over smart HTTP.
 *
 * Theory of operation. The runner itself is the server: it takes the pack into a repository of its
 * own that borrows the mirror's objects and first learns what the remote has now. What the rules
 * allow is then pushed by our git, with our credentials, each ref on the condition that the remote
 * still has what the client saw there (a lease), and what comes of it is told to the client as its
 * server would tell it:
 *
 *     client ──list, pack──▶ rules ──▶ our repository ──git push, leases──▶ remote
 *            ◀── report, "remote: …" ────────────────◀── what it says ─────┘
 *
 * Nothing that the client sends reaches the remote as it is, nor any configuration of the client's.
 *
 * Threads: one at a time.
 */
#ifndef GIT_RECEIVE_H
#define GIT_RECEIVE_H

#include "git/remote.h"
#include "git/wishes.h"

#include <stdbool.h>
#include <stdint.h>

struct receive_job {
    struct remote_config remote;
    const char *mirror; /* its directory */
    const char *place;  /* a directory that the call makes and leaves behind */
    struct push_rules rules;
    int body_fd;      /* a file with the request, at its start; -1: "info/refs" is asked for */
    bool cut;         /* the request was longer than body_fd holds: the pack is too large */
    int64_t most_mb;  /* the largest pack that is accepted */
    int out_fd;       /* receives the answer, as in offer.h */
    struct buf *told; /* receives the outcome of each ref: JSON objects, one per line */
};

/* Serves one request. When it fails, *ret_begun says whether the answer has begun. A refusal by the
 * rules or the remote is no failure: the client is told. */
int receive_run(const struct receive_job *job, bool *ret_begun, struct err *err);

#endif
