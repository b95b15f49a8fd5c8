/*
 * A fetch, passed on: what a client of git that speaks smart HTTP asks for, asked of the remote.
 *
 * Theory of operation. Each request of smart HTTP stands alone. To an http(s) remote it goes on as
 * it is. Of an ssh remote (or a directory of this machine) git-upload-pack is started anew for each
 * request: what it says first, up to its first flush packet, is the answer to "info/refs", and is
 * dropped before the answer to anything else; the request is all of its input, and its end is the
 * answer's end. That holds for every version of the protocol: a client without state repeats in
 * each request what was settled before.
 *
 * Threads: one at a time.
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
    int out_fd; /* gets the answer: a line with its status and type, then what goes to the client */
};

/* On failure the answer may have begun; *ret_begun says so. */
int offer_run(const struct offer_job *job, bool *ret_begun, struct err *err);

/* Writes the first line of an answer. */
int offer_head(int out_fd, int status, const char *type, struct err *err);

#endif
