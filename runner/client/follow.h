/*
 * Follows a task's events to the last one, over as many connections as that takes.
 *
 * A task is begun by a POST that carries an Idempotency-Key, so that one whose answer never came
 * may be sent again; once the task has a name its events are asked for after the last one that was
 * seen. Nothing is lost and nothing comes twice.
 *
 * Threads: one.
 */
#ifndef CLIENT_FOLLOW_H
#define CLIENT_FOLLOW_H

#include "base/id.h"
#include "net/net.h"
#include "runner/client/settings.h"
#include "runner/client/sse.h"

struct follow {
    const struct settings *to; /* borrowed, as all here */
    const char *path;          /* where the task is begun; NULL: task_id is known */
    const char *body;
    sse_fn *event;
    void *arg;
    char task_id[ID_SIZE]; /* "" until it is known */
    char last_id[40];
    bool to_now; /* ends with what there is, also when the task goes on */
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

/* Follows until the last event (0) or a signal (1, client_signals); may be called again. A runner
 * that goes away is asked again for FOLLOW_PATIENCE_MS. */
#define FOLLOW_PATIENCE_MS 600000
int follower_run(struct follow *follow, struct err *err);

#endif
