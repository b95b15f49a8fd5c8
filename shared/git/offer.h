/*
 * Passes a fetch on: what a git client asks for over smart HTTP is asked of the remote.
 *
 * Theory of operation. Each request of smart HTTP stands alone. A request for an http(s) remote is
 * forwarded as it is. For an ssh remote (or a local directory) git-upload-pack is started anew for
 * each request: its output up to its first flush packet is the answer to "info/refs", and is
 * dropped before the answer to anything else. The request is its whole input, and the end of its
 * output is the end of the answer. That is right for every version of the protocol, because a
 * stateless client repeats in each request what was settled before.
 *
 * Threads: one at a time. Ownership: a job borrows its strings and descriptors.
 */
#ifndef GIT_OFFER_H
#define GIT_OFFER_H

#include "git/remote.h"

#include <stdbool.h>

struct offer_job {
    struct remote_config remote;
    const char *protocol; /* the client's Git-Protocol header, or "" */
    int body_fd;          /* a file with the request, at its start; -1: "info/refs" is asked for */
    int64_t body_len;
    int out_fd; /* receives the answer: a line with its status and type, then what goes to the
                 * client */
};

/* Serves one request. When it fails, *ret_begun says whether the answer has begun. */
int offer_run(const struct offer_job *job, bool *ret_begun, struct err *err);

/* Writes the first line of an answer. */
int offer_head(int out_fd, int status, const char *type, struct err *err);

#endif
