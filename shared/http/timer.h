/*
 * Timers of one thread: a heap of what is due next.
 *
 * Threads: one at a time. Ownership: timers are borrowed while they are set.
 */
#ifndef HTTP_TIMER_H
#define HTTP_TIMER_H

#include <stddef.h>
#include <stdint.h>

/* Embedded in the object that it times; zeroed: not set. */
struct timer {
    int64_t due_us;
    size_t place; /* in the heap, from 1; 0: not set */
};

struct timers {
    struct timer **heap;
    size_t count, size;
};

/* Reserves memory, so that `count` timers can be set without an allocation. Returns 0 or -1. */
int timers_reserve(struct timers *timers, size_t count);
void timers_done(struct timers *timers);

/* Sets, moves, or (with due_us 0) removes a timer. */
void timer_set(struct timers *timers, struct timer *timer, int64_t due_us);

/* The timer that is due first, or NULL. */
struct timer *timers_first(const struct timers *timers);

#endif
