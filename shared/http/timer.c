#include "http/timer.h"

#include <stdlib.h>

int timers_reserve(struct timers *timers, size_t count)
{
    if (count <= timers->size)
        return 0;
    size_t size = timers->size ? timers->size * 2 : 64;
    if (size < count)
        size = count;
    struct timer **heap = realloc(timers->heap, size * sizeof(struct timer *));
    if (!heap)
        return -1;
    timers->heap = heap;
    timers->size = size;
    return 0;
}

void timers_done(struct timers *timers)
{
    free(timers->heap);
    *timers = (struct timers){0};
}

static void put(struct timers *timers, size_t place, struct timer *timer)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

static void sift(struct timers *timers, size_t place)
{
    struct timer *timer = timers->heap[place - 1];
    while (place > 1 && timers->heap[place / 2 - 1]->due_us > timer->due_us) {
        put(timers, place, timers->heap[place / 2 - 1]);
        place /= 2;
    }
    for (;;) {
        size_t child = place * 2;
        if (child > timers->count)
            break;
        if (child < timers->count && timers->heap[child]->due_us < timers->heap[child - 1]->due_us)
            child++;
        if (timers->heap[child - 1]->due_us >= timer->due_us)
            break;
        put(timers, place, timers->heap[child - 1]);
        place = child;
    }
    put(timers, place, timer);
}

void timer_set(struct timers *timers, struct timer *timer, int64_t due_us)
{
    if (due_us == 0 && timer->place > 0) {
        struct timer *last = timers->heap[timers->count-- - 1];
        size_t place = timer->place;
        timer->place = 0;
        if (last != timer) {
            put(timers, place, last);
            sift(timers, place);
        }
    } else if (due_us != 0) {
        timer->due_us = due_us;
        if (timer->place == 0)
            put(timers, ++timers->count, timer);
        sift(timers, timer->place);
    }
}

struct timer *timers_first(const struct timers *timers)
{
    return timers->count > 0 ? timers->heap[0] : NULL;
}
