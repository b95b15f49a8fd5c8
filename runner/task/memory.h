/*
 * Whether this machine has the memory that a task asks for.
 *
 * A task that names `limits.memoryMb` is promised so much: all promises to running tasks fit into
 * the machine, and a task starts only when what it is promised is there at that moment. One that
 * names none is promised nothing, and starts when a little is there.
 *
 * Threads: no shared state.
 */
#ifndef TASK_MEMORY_H
#define TASK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_UNNAMED_MB 256 /* for a task that names none */

struct task_memory {
    int64_t total_mb, available_mb; /* of the machine, now */
};

/* Reads it from the kernel. */
void task_memory_read(struct task_memory *ret_memory);

/* What a request, as it is kept, names; 0: nothing. */
int64_t task_memory_asked(const char *request, size_t len);

/* True when a task that asks for `asked_mb` (0: it names none) may start while others have been
 * promised `promised_mb`. */
bool task_memory_fits(const struct task_memory *memory, int64_t promised_mb, int64_t asked_mb);

#endif
