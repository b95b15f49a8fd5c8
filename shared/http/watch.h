/*
 * An epoll set that tells owners of descriptors apart safely.
 *
 * Theory of operation. A registration in epoll belongs to the open file, not to the descriptor that
 * it was made with. Closing the descriptor does not end it while anything else still refers to the
 * file: a duplicate, a system call of another thread on it (the guard's shutdown()), a child
 * between fork and exec. Such a registration goes on to report events for an owner that was freed.
 * Two rules make that harmless:
 *   - watch_remove() takes the registration out before its descriptor is closed;
 *   - epoll hands back the number of a slot and its generation, never a pointer. A slot's
 *     generation changes when its owner goes, and an event of an older one has no owner.
 *
 * Threads: one, but for watch_open() and watch_done() (before and after it).
 * Ownership: descriptors and owners are borrowed until watch_remove().
 */
#ifndef HTTP_WATCH_H
#define HTTP_WATCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch_slot {
    void *owner;         /* NULL: the slot is free */
    uint32_t generation; /* of the owner that is here, or of the next one */
    uint32_t next_free;  /* the next free slot's number from 1; 0: none */
};

struct watch {
    int epoll;
    struct watch_slot *slots;
    uint32_t size;
    uint32_t first_free; /* number from 1; 0: none */
};

/* Names a registration: a slot's number from 1 in the low half, its generation above; 0: none. */
typedef uint64_t watch_ticket;

/* Prepares the set. Returns 0 or -1; watch_done() may be called in both cases, and on a zeroed set
 * whose epoll is -1. */
int watch_open(struct watch *watch, struct err *err);
void watch_done(struct watch *watch);

/* Registers fd for `events`. `owner` is not NULL. Returns its ticket, or 0 with errno. */
watch_ticket watch_add(struct watch *watch, int fd, uint32_t events, void *owner);

/* Registers a descriptor that has no owner and stays until watch_done(). Returns 0 or -1. */
int watch_add_bell(struct watch *watch, int fd);

/* Changes the events that are waited for. */
void watch_change(struct watch *watch, watch_ticket ticket, int fd, uint32_t events);

/* Ends the registration. Call before fd is closed. Sets *ticket to 0; does nothing when it is 0. */
void watch_remove(struct watch *watch, watch_ticket *ticket, int fd);

/* True when the event is a bell's. */
bool watch_is_bell(const struct epoll_event *event);

/* The owner that the event is for, or NULL when that registration has ended since. */
void *watch_owner(const struct watch *watch, const struct epoll_event *event);

#endif
