#include "google/links.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"

#include <string.h>

void links_init(struct links *links)
{
    lock_init(&links->lock);
    links->count = 0;
}

void links_done(struct links *links)
{
    for (size_t i = 0; i < links->count; i++)
        net_link_free(links->idle[i].link);
    lock_done(&links->lock);
}

static struct net_link *remove_locked(struct links *links, size_t i) HOLDS(links->lock);
static struct net_link *remove_locked(struct links *links, size_t i)
{
    struct net_link *link = links->idle[i].link;
    links->count--;
    memmove(&links->idle[i], &links->idle[i + 1], (links->count - i) * sizeof(links->idle[0]));
    return link;
}

/* Removes links that were idle for too long, and one more when there is no room. The caller closes
 * them without the lock, because that takes a moment. */
static size_t remove_old_locked(struct links *links, struct net_link *old[LINKS_MAX])
    HOLDS(links->lock);
static size_t remove_old_locked(struct links *links, struct net_link *old[LINKS_MAX])
{
    size_t count = 0;
    int64_t before = clock_mono_ms() - LINK_IDLE_MS;
    while (links->count > 0 && (links->count == LINKS_MAX || links->idle[0].since_ms < before))
        old[count++] = remove_locked(links, 0);
    return count;
}

struct net_link *links_take(struct links *links, int to)
{
    struct net_link *link = NULL, *old[LINKS_MAX];
    lock_take(&links->lock);
    for (size_t i = links->count; i-- > 0 && !link;) /* The most recent one: it is most likely still
                                                      * open. */
        if (links->idle[i].to == to)
            link = remove_locked(links, i);
    size_t count = remove_old_locked(links, old);
    lock_drop(&links->lock);
    while (count > 0)
        net_link_free(old[--count]);
    return link ? link : net_link_new();
}

void links_put(struct links *links, int to, struct net_link *link)
{
    REQUIRE(link);
    struct net_link *old[LINKS_MAX];
    lock_take(&links->lock);
    size_t count = remove_old_locked(links, old);
    links->idle[links->count++] =
        (struct links_idle){.link = link, .to = to, .since_ms = clock_mono_ms()};
    lock_drop(&links->lock);
    while (count > 0)
        net_link_free(old[--count]);
}
