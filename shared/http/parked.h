/*
 * One parked connection: what the park's thread does with it.
 *
 * Threads: the park's, but for the fields that say otherwise.
 */
#ifndef HTTP_PARKED_H
#define HTTP_PARKED_H

#include "http/outbox.h"
#include "http/park.h"
#include "http/timer.h"

#include <pthread.h>
#include <stdatomic.h>

enum parked_phase { PARKED_NEW, PARKED_WAITING, PARKED_SENDING, PARKED_LINGERING, PARKED_ENDED };

struct parked_answer {
    int status;
    char *type, *headers, *body;
    size_t len;
};

struct park {
    _Atomic int refs;  /* the server's, and each http_parked's */
    _Atomic int count; /* requests that wait or are being answered */
    _Atomic int rests; /* others */
    size_t max;
    int epoll, event;
    pthread_t thread;
    struct timers timers;      /* the thread's */
    struct http_parked *first; /* the thread's: all it owns */
    size_t owned;              /* the thread's */
    int64_t stop_us;           /* the thread's: when all must have ended; 0: not stopping */
    pthread_mutex_t lock;      /* the fields below, and the last ones of each http_parked */
    struct http_parked *inbox;
    bool stopping;
    int linger_ms;
};

struct http_parked {
    struct park *park;
    struct http_parked *prev, *next;
    int fd;
    enum parked_phase phase;
    struct http_request *req; /* NULL once its end was reported; also for a mere rest */
    struct http_park_config config;
    bool is_rest; /* no request: what was left to send, or nothing */
    bool began;   /* the head of a 200 was sent, white space follows */
    bool probed;  /* the peer has said that it sends no more */
    unsigned events;
    struct outbox out;
    struct timer timer;
    int64_t keepalive_us, wait_us, stuck_us; /* what the timer is for; 0: not that */

    struct http_parked *inbox_next;
    bool in_inbox;
    bool released; /* its holder has let go */
    bool dropped;
    bool orphan; /* the park's thread has let go first */
    struct parked_answer answer;
};

/* The three things that happen to a connection. Each may free it. */
void parked_attend(struct http_parked *parked); /* it was in the inbox */
void parked_event(struct http_parked *parked, unsigned events);
void parked_due(struct http_parked *parked);

/* Ends it because the park stops: what is being answered goes on when `gently`. */
void parked_stop(struct http_parked *parked, bool gently);

void parked_free(struct http_parked *parked);
void park_unref(struct park *park);

#endif
