/*
 * Webhooks of the service at Google: owed in the bucket, handed in by whoever runs.
 *
 *     owed/ID    url, body, how often it was tried, and when it is to be tried next: made once, by
 *                the execution that ran the task (or by an instance, when that left none)
 *     told/ID    it was taken, or tried for long enough: there will be no other
 *
 * Whoever tries writes owed/ID anew first, over the generation that it has read: so two do not try
 * at once. One that ends between its POST and told/ID leaves it to the next, who sends it again
 * under the same id, as receivers expect of webhooks.
 *
 * Threads: any.
 */
#ifndef REPLICA_OWED_H
#define REPLICA_OWED_H

#include "base/buf.h"
#include "base/err.h"
#include "runner/config/config.h"
#include "runner/overflow/folder.h"

#include <stdbool.h>

#define OWED_BODY_MAX (8u << 20)

/* Appends what it says of a task that has ended. */
struct store;
int owed_print(struct store *store, const char *id, struct buf *out, struct err *err);

/* Owes it, unless it is, or has been told. */
int owed_put(const struct cloud *cloud, const char *id, const char *url, const struct buf *body,
             struct err *err);

/* Whether there is nothing more to owe: it is owed, or told. */
bool owed_is_known(const struct cloud *cloud, const char *id);

/* Tries one that is due. 1: it is told now, or there is none; 0: later; -1: the bucket cannot be
 * reached. `stop` (with arg) breaks a try off. */
int owed_try(const struct cloud *cloud, const struct config *config, const char *id,
             bool (*stop)(void *arg), void *arg, struct err *err);

/* Tries all that are due. */
void owed_sweep(const struct cloud *cloud, const struct config *config, bool (*stop)(void *arg),
                void *arg);

#endif
