/*
 * Whether this machine has the memory that a task asks for.
 *
 * A task that names `limits.memoryMb` is promised that much: the promises to all running tasks fit
 * into the machine, and a task starts only when the memory is free at that moment. A task that
 * names none is promised none, and starts when a little is free.
 *
 * Threads: no shared state.
 */
#ifndef TASK_MEMORY_H
#define TASK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_UNNAMED_MB 256 /* what a task needs that names none */

struct task_memory {
    int64_t total_mb, available_mb; /* of the machine, at present */
};

/* Asks the kernel. */
void task_memory_read(struct task_memory *ret_memory);

/* The memory that a stored request names; 0: none. */
int64_t task_memory_asked(const char *request, size_t len);

/* True when a task that asks for `asked_mb` (0: it names none) may start while `promised_mb` have
 * been promised to others. */
bool task_memory_fits(const struct task_memory *memory, int64_t promised_mb, int64_t asked_mb);

#endif
