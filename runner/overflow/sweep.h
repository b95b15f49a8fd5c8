/*
 * Payloads that may land late. An upload that home gave up, since no answer came, may still be
 * carried out; what it leaves belongs to nobody once its task has ended. The sweep looks after such
 * tasks: it deletes their payloads when they have ended, and once more a while later. What a
 * restart forgets of that the bucket's lifecycle takes away.
 *
 * Private to runner/overflow.
 * Threads: one of its own; sweep_note() from any.
 */
#ifndef OVERFLOW_SWEEP_H
#define OVERFLOW_SWEEP_H

#include "runner/overflow/folder.h"
#include "runner/store/store.h"

struct sweep;

/* Both are borrowed. */
struct sweep *sweep_start(const struct cloud *cloud, struct store *store, struct err *err);
void sweep_stop(struct sweep *sweep); /* NULL is fine */

/* An upload of this task's payload has no known end. */
void sweep_note(struct sweep *sweep, const char *id);

#endif
