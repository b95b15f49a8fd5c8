/*
 * Threads: started with a name and a stack, joined once, with errors as everywhere else.
 *
 * Threads: a struct thread belongs to one thread at a time.
 * Ownership: a started thread is joined by its owner, unless it was started detached.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THREAD_NAME_SIZE 16              /* the kernel's, with the end */
#define THREAD_STACK_DEFAULT ((size_t)0) /* the system's: 8 MiB of address space on Linux */
#define THREAD_STACK_SMALL (256u << 10)  /* no deep calls: a loop that waits and counts */

typedef void *thread_fn(void *arg);

/* Zeroed: not running. */
struct thread {
    pthread_t id;
    bool running; /* it was started and has not been joined */
};

/* Starts fn(arg) on a thread of this name (cut to THREAD_NAME_SIZE - 1 bytes) with a stack of that
 * many bytes. `thread` must not be running. Returns 0, or -1 with *err; then it is still not
 * running. */
int thread_start(struct thread *thread, const char *name, size_t stack_bytes, thread_fn *fn,
                 void *arg, struct err *err);

/* Starts a thread that nobody joins: it frees itself when it ends. */
int thread_start_detached(const char *name, size_t stack_bytes, thread_fn *fn, void *arg,
                          struct err *err);

/* Waits until the thread has ended. Does nothing when it is not running. A thread must not join
 * itself. */
void thread_join(struct thread *thread);

/* As thread_join(), but waits timeout_ms at most. False when the thread still runs. */
bool thread_join_within(struct thread *thread, int64_t timeout_ms);

#endif
