/*
 * Follows a task's events to the last one, over as many connections as that takes.
 *
 * A task is begun by a POST with an Idempotency-Key, so that the POST can be repeated when its
 * answer was lost. Once the task's id is known, its events after the last seen one are asked for.
 * No event is lost or repeated.
 *
 * Threads: one. Ownership: struct follow borrows its first fields; follower_done() frees the
 * private ones.
 */
#ifndef CLIENT_FOLLOW_H
#define CLIENT_FOLLOW_H

#include "base/id.h"
#include "net/net.h"
#include "runner/client/settings.h"
#include "runner/client/sse.h"

struct follow {
    const struct settings *to; /* borrowed, as everything here */
    const char *path;          /* path by which the task is begun; NULL: task_id is known */
    const char *body;
    sse_fn *event;
    void *arg;
    char task_id[ID_SIZE]; /* "" until it is known */
    char last_id[40];
    bool to_now; /* ends with the present events, also when the task goes on */
    /* private */
    struct net_link *link;
    struct sse sse;
    struct buf problem;
    char key[ID_UUID_SIZE];
    int status;
    size_t sent; /* of the body */
    bool done, moved;
};

void follower_init(struct follow *follow, const struct settings *to, sse_fn *event, void *arg);
void follower_done(struct follow *follow);
static inline void auto_follow(struct follow *follow)
{
    follower_done(follow);
}

/* Follows until the last event (returns 0) or a signal (1, client_signals); may be called again. A
 * runner that has answered once is tried for FOLLOW_PATIENCE_MS when it is away; one that has only
 * been sent the request for FOLLOW_SILENCE_MS; one that was never reached once. */
#define FOLLOW_PATIENCE_MS 600000
#define FOLLOW_SILENCE_MS 60000
int follower_run(struct follow *follow, struct err *err);

#endif
