/*
 * Payloads that may arrive late. An upload that home gave up because no answer came may still be
 * carried out; its object is useless once its task has ended. The sweep looks after such tasks: it
 * deletes their payloads when they have ended, and once more later. What a restart forgets, the
 * bucket's lifecycle deletes. Private to runner/overflow.
 *
 * Threads: one of its own; sweep_note() from any. Ownership: sweep_stop() frees the sweep.
 */
#ifndef OVERFLOW_SWEEP_H
#define OVERFLOW_SWEEP_H

#include "runner/overflow/folder.h"
#include "runner/store/store.h"

struct sweep;

/* Starts the sweep's thread. Both arguments are borrowed. */
struct sweep *sweep_start(const struct cloud *cloud, struct store *store, struct err *err);
void sweep_stop(struct sweep *sweep); /* NULL is allowed */

/* Notes a task for whose payload an upload may still be carried out. */
void sweep_note(struct sweep *sweep, const char *id);

#endif
