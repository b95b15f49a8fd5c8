/*
 * Conversations of the service at Google: which task has left one, and which goes on with it.
 *
 *     conversations/NAME.json    {"taskId": whose conversation.tgz it is,
 *                                 "next": who goes on with it}
 *
 *     the execution of A      {A}      once it has handed in what the next one needs
 *     POST, resumeSessionId   {A,B}    B may go on; a copy becomes sessions/B/before.tgz
 *     the execution of B      {B}
 *
 * Each is written over the generation that was read, so two cannot go on with the same at once, and
 * an execution that was given up changes nothing any more. Who is named as next and has ended
 * without leaving anything is passed over: then A's is gone on with again.
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef REPLICA_CARRIED_H
#define REPLICA_CARRIED_H

#include "base/err.h"
#include "runner/overflow/folder.h"
#include "runner/store/store.h"

struct replica;

/* The task, which is about to be taken, goes on with its conversation. 1: one of that id does so
 * already. ERR_NOT_FOUND: no task has left it. ERR_CONFLICT: a task that has not ended uses it. */
int carried_claim(struct replica *service, const struct task_new *task, struct err *err);
/* It does not, for it was not taken. */
void carried_give_back(struct replica *service, const struct task_new *task);

/* In the execution: the task has left the conversation, which is in the bucket by now. */
int carried_leave(const struct cloud *cloud, const char *conversation, const char *id,
                  struct err *err);

/* A record, as it is read. ERR_MISMATCH when it is none. */
struct carried {
    char task[ID_SIZE], next[ID_SIZE]; /* "": nobody */
};
int carried_parse(const char *text, size_t len, struct carried *ret_carried, struct err *err);

#endif
