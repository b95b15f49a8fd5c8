/*
 * Condition variables whose waits end by a clock that does not step.
 *
 * Threads: as pthread_cond_t.
 */
#ifndef BASE_COND_H
#define BASE_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void cond_init(pthread_cond_t *cond);

/* Waits for a signal, timeout_ms at most; the lock is held. False when the time was up. */
bool cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t timeout_ms);

#endif
