/*
 * Webhooks of the service at Google: owed in the bucket, handed in by whoever runs.
 *
 *     owing/ID   the URL, sealed; made before the task is taken, and gone once it is owed for good
 *     owed/ID    URL and body, sealed; how often it was tried, when it is to be tried next: made
 *                once, by the execution that ran the task (or by an instance, when that left none)
 *     told/ID    it was taken, or tried for long enough: there will be no other, unless it was
 *                provisional
 *
 * A task that was given up (its execution is out of sight) may still become something else. What is
 * owed of it is marked as provisional: owing/ID stays, told/ID says so, and when the execution's
 * result comes after all a second webhook follows, with an id of its own. If the first one had not
 * been tried yet, the second takes its place.
 *
 * Whoever tries writes owed/ID anew first, over the generation that it has read: so two do not try
 * at once. One that ends between its POST and told/ID leaves it to the next, who sends it again
 * under the same id, as receivers expect of webhooks.
 *
 * What is sealed is sealed under a key made of CALLBACK_SECRET, which instances and executions
 * have: who may read or write the bucket learns no URL, and has nothing signed. After a change of
 * CALLBACK_SECRET what was owed before cannot be opened any more: each look at it counts as a try.
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

/* Notes that it will be owed. Does nothing when that is noted already. */
int owed_note(const struct cloud *cloud, const struct config *config, const char *id,
              const char *url, struct err *err);

/* Calls fn for each that has been noted and is not owed for good; age_ms: since when it is noted.
 */
int owed_each_noted(const struct cloud *cloud,
                    void (*fn)(const char *id, int64_t age_ms, void *arg), void *arg,
                    struct err *err);

/* Forgets the note: it is owed, or nobody took the task. */
int owed_forget(const struct cloud *cloud, const char *id, struct err *err);

/* 1 when something was told of the task or is owed, be it provisional; 0 when not, -1 when the
 * bucket cannot be reached. */
int owed_is_known(const struct cloud *cloud, const char *id, struct err *err);

/* Owes it, unless it is, or has been told; then the note goes, which stays with what is
 * `provisional`. `url` may be NULL: that of the note. ERR_MISMATCH when the note cannot be opened,
 * ERR_NOT_FOUND when there is none. */
int owed_put(const struct cloud *cloud, const struct config *config, const char *id,
             const char *url, const struct buf *body, bool provisional, struct err *err);

/* Tries one that is due. 1: it is told now, or there is none; 0: later; -1: the bucket cannot be
 * reached. `stop` (with arg) breaks a try off. */
int owed_try(const struct cloud *cloud, const struct config *config, const char *id,
             bool (*stop)(void *arg), void *arg, struct err *err);

/* Tries all that are due. */
void owed_sweep(const struct cloud *cloud, const struct config *config, bool (*stop)(void *arg),
                void *arg);

#endif
