/*
 * How many executions may run at once, as far as Google grants them.
 *
 * Theory of operation. At first the only limit is the configured one. A refusal begins an episode:
 * the room becomes the number that runs plus one, and nothing is asked for until a pause has
 * passed; then one task probes. Refusals of requests that were sent before the episode began belong
 * to it and change nothing. Each execution that is granted adds one to the room and makes the next
 * pause short again; each probe that is refused doubles the pause. An execution that ends frees its
 * place, so it shortens the pause.
 *
 *     open ── refused ──> room = in flight + 1, pause ── over ──> probe ── granted ──> room + 1 …
 *      ^                        ^                                  │
 *      │                        └────────── refused: twice as long ┘
 *      └── granted, and the last episode is long ago
 *
 * Threads: one at a time. Times are of the monotonic clock.
 */
#ifndef OVERFLOW_WINDOW_H
#define OVERFLOW_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_OPEN 1000000 /* the room when no limit is known */

struct window {
    int in_flight;        /* granted executions that have not ended */
    int room;             /* tasks that may ask or run at once */
    int64_t pause_ms;     /* pause after the next refusal */
    int64_t closed_until; /* nothing is asked for before this time; 0: open */
    int64_t episode_ms;   /* when the last episode began; 0: there was none */
};

void window_init(struct window *window);

/* A request that was sent at asked_ms was refused. True when that begins an episode. */
bool window_refused(struct window *window, int64_t asked_ms, int64_t now_ms);
void window_granted(struct window *window, int64_t now_ms);
/* Counts an execution that an earlier process had been granted. */
void window_adopted(struct window *window);
void window_ended(struct window *window, int64_t now_ms);

/* For how long nothing may be asked for. */
int64_t window_closed_ms(const struct window *window, int64_t now_ms);

#endif
