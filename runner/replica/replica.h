/*
 * The same service at Google: any number of instances that share nothing but the bucket.
 *
 * Theory of operation. An instance is the daemon, with a state directory that does not last. What a
 * task is lies in the bucket before its caller hears of it; every task is an execution of the job,
 * so what became of it lies there too (overflow/folder.h). An instance that is asked for a task
 * that it does not know adopts it: it makes the row, finds the execution and follows it, as a
 * runner does after a restart. So any instance shows, streams and cancels any task.
 *
 *     tasks/ID/task.json    the task as it was taken, without its secrets (they are in payload.enc,
 *                           which no instance can open): written once
 *     tasks/ID/cancelled    somebody has cancelled it: what instances agree on
 *     groups/GROUP          how many tasks came together; written last, so that it is all or none
 *     keys/HASH             an Idempotency-Key: the task that it gave, and the hash of the body
 *     open/ID               it was taken, and no execution is known yet: an instance that finds one
 *                           of some age adopts it, since whoever took it may be gone
 *
 *     inputs/HASH           an input (overflow/cloud_inputs.h)
 *     conversations/NAME    a conversation, and who goes on with it (carried.h)
 *     owing/, owed/, told/  webhooks (owed.h)
 *
 *     POST ─▶ keys/HASH ─▶ payload.enc ─▶ owing/ID ─▶ open/ID ─▶ task.json ─▶ row ─▶ 202
 *                                                                  └─▶ execution ─▶ open/ID deleted
 *
 * A task whose row cannot be made after task.json was written is placed all the same, by whoever
 * finds open/ID. Two instances may ask for an execution of the same attempt: the claim lets one of
 * them run, and both follow that one.
 *
 * Threads: any. Ownership: the caller frees what replica_new() returns, after its tasks have ended.
 */
#ifndef REPLICA_REPLICA_H
#define REPLICA_REPLICA_H

#include "base/err.h"
#include "runner/config/in_force.h"
#include "runner/overflow/overflow.h"
#include "runner/store/store.h"
#include "runner/task/engine.h"

#include <stdbool.h>

struct replica;

struct replica_config {
    struct config_in_force *config; /* borrowed, as all here */
    const struct cloud *cloud;
    struct store *store;
    struct engine *engine;
};

/* Where its bucket is. */
const struct cloud *replica_cloud(const struct replica *service);

struct replica *replica_new(const struct replica_config *config, struct err *err);
void replica_free(struct replica *service);

/* Adopts what nobody places, from now on, in a thread of its own. */
int replica_start(struct replica *service, struct err *err);
void replica_stop(struct replica *service);

/* The id of one task of a group. */
void replica_run_id(const char *group, int run, char ret_id[ID_SIZE]);

/* Puts a task that has an id into the bucket, or all tasks of a group, with the ids of
 * replica_run_id(): for good, all or none. *ret_earlier is "" then; else the task or group that
 * their Idempotency-Key has given before, which has been adopted. ERR_CONFLICT: the id is taken,
 * the key was used with another body, or the conversation is in use. ERR_NOT_FOUND: no task has
 * left the conversation. */
int replica_promise(struct replica *service, const struct task_new *tasks, size_t count,
                    char ret_earlier[ID_SIZE], struct err *err);

/* Has the task in the store here. ERR_NOT_FOUND when the bucket does not know it either. A task
 * that has ended is shown as ended: its result is waited for. */
int replica_adopt(struct replica *service, const char *id, struct err *err);

/* The same for all tasks of a group. */
int replica_adopt_group(struct replica *service, const char *group, struct err *err);

/* Notes for all that the task is cancelled; whoever follows it ends it. */
int replica_cancel(struct replica *service, const char *id, struct err *err);

/* What overflow has to know of tasks that come out of the bucket. */
const struct overflow_shared *replica_shared(struct replica *service);

#endif
