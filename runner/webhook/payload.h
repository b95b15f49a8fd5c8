/*
 * The body of a webhook about an ended task. It is made anew for every try, only from what the
 * store has about the task: so it is the same bytes each time.
 *
 * Threads: no shared state.
 */
#ifndef WEBHOOK_PAYLOAD_H
#define WEBHOOK_PAYLOAD_H

#include "runner/store/store.h"

#define PAYLOAD_RESULT_MAX (256u << 10) /* of the answer's text; the runner has the whole */
#define PAYLOAD_BYTES_MAX (8u << 20)

/* Appends the body of the webhook of an ended task, as JavaScript would print it (stringify.h). */
int webhook_print_payload(struct store *store, const struct task_record *record, struct buf *out,
                          struct err *err);

#endif
