/*
 * How many executions may be in flight, as far as Google grants them.
 *
 * Theory of operation. At first there is no limit but the configured one. A refusal begins an
 * episode: room is what is in flight and one more, and nothing is asked for until a pause has
 * passed; then one task probes. Refusals of requests that had been sent before the episode began
 * belong to it and change nothing. Each execution that is granted opens room for one more and
 * makes the next pause short again; each probe that is refused doubles it. An execution that ends
 * gives its place back, so the pause is cut short then.
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

#define WINDOW_OPEN 1000000 /* as a room: no limit is known */

struct window {
    int in_flight;        /* executions that were granted and have not ended */
    int room;             /* tasks that may be asking or in flight at once */
    int64_t pause_ms;     /* of the next refusal */
    int64_t closed_until; /* nothing is asked for before; 0: open */
    int64_t episode_ms;   /* when the last one began; 0: there was none */
};

void window_init(struct window *window);

/* A request that was sent at asked_ms was refused. True when that begins an episode. */
bool window_refused(struct window *window, int64_t asked_ms, int64_t now_ms);
void window_granted(struct window *window, int64_t now_ms);
/* An execution that an earlier process had been granted. */
void window_adopted(struct window *window);
void window_ended(struct window *window, int64_t now_ms);

/* How long nothing is to be asked for. */
int64_t window_closed_ms(const struct window *window, int64_t now_ms);

#endif
