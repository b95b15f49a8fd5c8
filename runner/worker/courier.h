/*
 * The courier: a thread that carries a task's events to the bucket while they are written.
 *
 * The events file is the buffer. A piece begins where the one before it ended and holds whole
 * events; it goes out once it is FOLDER_CHUNK_BYTES long, or FOLDER_CHUNK_MS after the piece
 * before it, the first and those after a silence almost at once. A piece that cannot be stored is
 * tried again, the same bytes under the same name, and nothing overtakes it. What has been stored
 * is given back to the file system, which may be memory.
 *
 * Private to runner/worker.
 * Threads: courier_grew() from any, the rest by the job's main thread.
 */
#ifndef WORKER_COURIER_H
#define WORKER_COURIER_H

#include "runner/worker/job.h"

struct courier;

/* Follows the events file at `path`, which is there. */
struct courier *courier_start(struct job *job, const char *path, struct err *err);

/* Whole events end at `end` now. Only takes note. */
void courier_grew(struct courier *courier, int64_t end);

/* Nothing will be added: waits until all is stored, or cannot be, and returns how many bytes are.
 * Takes the courier apart. */
int64_t courier_finish(struct courier *courier);

#endif
