/*
 * The courier: a thread that uploads a task's events to the bucket while they are written.
 *
 * The events file is the buffer. A piece begins where the previous one ended and holds whole
 * events. It is sent once it is FOLDER_CHUNK_BYTES long, or FOLDER_CHUNK_MS after the previous
 * piece; the first one and those after a silence almost at once. A piece that cannot be stored is
 * tried again, with the same bytes and the same name, and no later piece overtakes it. The stored
 * part is given back to the file system, which may be memory. Private to runner/worker.
 *
 * Threads: courier_grew() from any, the rest by the job's main thread. Ownership: courier_finish()
 * frees the courier.
 */
#ifndef WORKER_COURIER_H
#define WORKER_COURIER_H

#include "runner/worker/job.h"

struct courier;

/* Follows the events file at `path`, which must exist. */
struct courier *courier_start(struct job *job, const char *path, struct err *err);

/* Says that whole events end at `end` now. Only takes note. */
void courier_grew(struct courier *courier, int64_t end);

/* Call when no event will be added. Waits until everything is stored or given up, frees the
 * courier, and returns how many bytes are stored. */
int64_t courier_finish(struct courier *courier);

#endif
