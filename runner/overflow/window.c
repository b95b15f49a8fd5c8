#include "runner/overflow/window.h"

#include "base/check.h"

#define PAUSE_MIN_MS 1000
#define PAUSE_MAX_MS 60000
#define ENDED_PAUSE_MS 300 /* Google still counts an execution for a moment after its end. */
#define REOPEN_MS 300000

void window_init(struct window *window)
{
    *window = (struct window){.room = WINDOW_OPEN, .pause_ms = PAUSE_MIN_MS};
}

bool window_refused(struct window *window, int64_t asked_ms, int64_t now_ms)
{
    if (window->episode_ms > 0 && asked_ms <= window->episode_ms)
        return false;
    window->episode_ms = now_ms;
    window->room = window->in_flight + 1;
    window->closed_until = now_ms + window->pause_ms;
    window->pause_ms = window->pause_ms * 2 < PAUSE_MAX_MS ? window->pause_ms * 2 : PAUSE_MAX_MS;
    return true;
}

void window_granted(struct window *window, int64_t now_ms)
{
    REQUIRE(window->in_flight >= 0);
    window->in_flight++;
    window->pause_ms = PAUSE_MIN_MS;
    if (window->room >= WINDOW_OPEN)
        return;
    if (now_ms - window->episode_ms > REOPEN_MS)
        window->room = WINDOW_OPEN;
    else
        window->room = window->room > window->in_flight ? window->room + 1 : window->in_flight + 1;
}

void window_adopted(struct window *window)
{
    window->in_flight++;
}

void window_ended(struct window *window, int64_t now_ms)
{
    if (window->in_flight > 0)
        window->in_flight--;
    if (window->closed_until > now_ms + ENDED_PAUSE_MS)
        window->closed_until = now_ms + ENDED_PAUSE_MS;
}

int64_t window_closed_ms(const struct window *window, int64_t now_ms)
{
    return window->closed_until > now_ms ? window->closed_until - now_ms : 0;
}
