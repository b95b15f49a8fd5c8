#include "http/watch.h"

#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>

int watch_open(struct watch *watch, struct err *err)
{
    *watch = (struct watch){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    return watch->epoll < 0 ? err_sys(err, "opening an event queue") : 0;
}

void watch_done(struct watch *watch)
{
    fd_close(&watch->epoll);
    free(watch->slots);
    watch->slots = NULL;
    watch->size = watch->first_free = 0;
}

/* Makes free slots when there are none. Returns 0 or -1. */
static int grow(struct watch *watch)
{
    if (watch->first_free)
        return 0;
    uint32_t size = watch->size ? watch->size * 2 : 64;
    struct watch_slot *slots = realloc(watch->slots, size * sizeof(*slots));
    if (!slots)
        return -1;
    for (uint32_t i = watch->size; i < size; i++)
        slots[i] = (struct watch_slot){.generation = 1, .next_free = i + 1 < size ? i + 2 : 0};
    watch->slots = slots;
    watch->first_free = watch->size + 1;
    watch->size = size;
    return 0;
}

static void free_slot(struct watch *watch, uint32_t number)
{
    struct watch_slot *slot = &watch->slots[number - 1];
    REQUIRE(slot->owner); /* An owner is removed only once. */
    slot->owner = NULL;
    slot->generation++;
    slot->next_free = watch->first_free;
    watch->first_free = number;
}

watch_ticket watch_add(struct watch *watch, int fd, uint32_t events, void *owner)
{
    REQUIRE(owner && fd >= 0);
    if (grow(watch) < 0)
        return 0;
    uint32_t number = watch->first_free;
    struct watch_slot *slot = &watch->slots[number - 1];
    watch_ticket ticket = (uint64_t)slot->generation << 32 | number;
    struct epoll_event event = {.events = events, .data.u64 = ticket};
    if (epoll_ctl(watch->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return 0;
    watch->first_free = slot->next_free;
    slot->owner = owner;
    return ticket;
}

int watch_add_bell(struct watch *watch, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(watch->epoll, EPOLL_CTL_ADD, fd, &event);
}

void watch_change(struct watch *watch, watch_ticket ticket, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = ticket};
    REQUIRE(ticket != 0);
    epoll_ctl(watch->epoll, EPOLL_CTL_MOD, fd, &event);
}

void watch_remove(struct watch *watch, watch_ticket *ticket, int fd)
{
    if (*ticket == 0)
        return;
    epoll_ctl(watch->epoll, EPOLL_CTL_DEL, fd, NULL);
    free_slot(watch, (uint32_t)*ticket);
    *ticket = 0;
}

bool watch_is_bell(const struct epoll_event *event)
{
    return event->data.u64 == 0;
}

void *watch_owner(const struct watch *watch, const struct epoll_event *event)
{
    uint32_t number = (uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32);
    if (number == 0 || number > watch->size)
        return NULL;
    const struct watch_slot *slot = &watch->slots[number - 1];
    return slot->generation == generation ? slot->owner : NULL;
}
