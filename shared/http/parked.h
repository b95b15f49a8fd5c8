/*
 * One parked connection: what the park's thread does with it.
 *
 * Threads: the park's, but for the fields and functions that say otherwise.
 * Ownership: the park's thread frees it once the connection is over and its holder has let go; when
 * the park stops first, the holder does (orphan). A descriptor is closed after its registration has
 * ended (watch.h).
 */
#ifndef HTTP_PARKED_H
#define HTTP_PARKED_H

#include "base/lock.h"
#include "base/thread.h"
#include "http/outbox.h"
#include "http/park.h"
#include "http/timer.h"
#include "http/watch.h"

#include <stdatomic.h>

enum parked_phase {
    PARKED_NEW,
    PARKED_WAITING,
    PARKED_STREAMING,
    PARKED_SENDING,
    PARKED_LINGERING,
    PARKED_ENDED
};

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
    const char *name, *what; /* static */
    struct watch watch;      /* the thread's */
    int event;               /* the bell of the inbox */
    struct thread thread;
    struct timers timers;      /* the thread's */
    struct http_parked *first; /* the thread's: all it owns */
    size_t owned;              /* the thread's */
    int64_t stop_us;           /* the thread's: when everything must have ended; 0: not stopping */
    struct buf piece;          /* the thread's: of the stream whose turn it is */
    struct lock lock;          /* the fields below, and the last ones of each http_parked */
    struct http_parked *inbox, **inbox_end;
    bool stopping;
    int linger_ms;
};

struct http_parked {
    struct park *park;
    struct http_parked *prev, *next;
    int fd;
    watch_ticket ticket; /* of fd in the park's watch */
    enum parked_phase phase;
    struct http_request *req; /* NULL after its end was reported, and for a rest in memory */
    struct http_park_config config;
    struct http_stream_config stream; /* fill NULL: no stream */
    bool is_rest;                     /* what was left to send, or nothing: counted apart */
    bool sized;                       /* a stream whose head is out; its body has no frames */
    bool began;                       /* the head of a 200 was sent, white space follows */
    bool cut;                         /* the guard has shut our own side */
    bool keeps;                       /* a stream whose connection serves its next request */
    bool probed;                      /* no request: only bytes that are left to send, or none */
    bool unsure;                      /* a stream: its next heartbeat shows if the peer is there */
    unsigned events;
    struct outbox out;
    struct timer timer;
    int64_t keepalive_us, wait_us, stuck_us; /* deadlines that the timer serves; 0: none */

    bool hungry;        /* a stream that waits for a wake */
    bool closing;       /* a stream that ends at its next WAIT: the park stops */
    int64_t filled_us;  /* when a hungry stream was last filled; wait_us is its next turn */
    size_t taken;       /* bytes that the client has read towards the next STUCK_BYTES */
    _Atomic bool woken; /* any thread's */

    /* Of an upgraded connection (upgrade.c): */
    bool paused;          /* receive() wants nothing now */
    bool received_end;    /* the client has sent its last byte, and receive() knows */
    size_t early;         /* bytes at the end of req->raw that receive() has not seen yet */
    _Atomic bool resumed; /* any thread's: the pause is to end */

    struct http_parked *inbox_next;
    bool in_inbox;
    bool released; /* its holder has let go of it */
    bool dropped;
    bool orphan; /* the park's thread let go of it before its holder */
    struct parked_answer answer;
};

/* The three things that happen to a connection. Each may free it. */
void parked_attend(struct http_parked *parked); /* it was in the inbox */
void parked_event(struct http_parked *parked, unsigned events);
void parked_due(struct http_parked *parked);

/* What parked.c and stream.c share. */
void parked_end(struct http_parked *parked, int status); /* the connection is over; may free */
void parked_settle(struct http_parked *parked);          /* timer and epoll follow the state */
bool parked_client_ends(const struct http_parked *parked, unsigned events); /* news of that */
void parked_flush(struct http_parked *parked); /* sends on; may end and free */
void parked_add_head(struct http_parked *parked, const struct parked_answer *answer, bool open);
int parked_answer_copy(struct parked_answer *to, int status, const char *type, const char *headers,
                       const void *body, size_t len);

/* A stream's life (stream.c). Each may free it. */
void stream_begin(struct http_parked *parked);
void stream_woken(struct http_parked *parked);
void stream_event(struct http_parked *parked, unsigned events);
void stream_due(struct http_parked *parked, int64_t now_us);
void stream_close(struct http_parked *parked); /* what is there now, then the end */

/* What an upgraded connection has besides (upgrade.c). */
static inline bool upgrade_is(const struct http_parked *parked)
{
    return parked->stream.receive != NULL;
}
void upgrade_add_head(struct http_parked *parked); /* the 101 */
bool upgrade_listens(const struct http_parked *parked);
/* Reads what the client has sent. False when the connection has ended: then it may be freed. */
bool upgrade_receive(struct http_parked *parked);
/* Ends a pause, when somebody has asked for that. False as for upgrade_receive(). */
bool upgrade_look_at_resume(struct http_parked *parked);

/* http_stream() without its checks and its head. */
struct http_parked *stream_enter(struct http_request *req, const struct http_stream_config *config,
                                 size_t early, struct err *err);

/* Makes the request, whose head has been sent with the length of its body, a stream that sends the
 * body: fill(), done() and stuck_ms of `config` count. Counted with what is left of other answers,
 * not as a stream. The handler must not touch the request again. -1 when there is no room. */
int stream_take_over(struct http_request *req, const struct http_stream_config *config);

/* Sends small pieces at once, and bounds what the kernel holds for a client and how long the client
 * may be silent. Any thread. */
void stream_settle_socket(int fd, int stuck_ms);

/* As park_take(), of a request whose answer has begun. NULL when there is no room. */
struct http_parked *park_take_rest(struct park *park, struct http_request *req);

/* Takes the request off its worker. The caller then fills in the configuration and calls
 * park_enter(). */
struct http_parked *park_take(struct park *park, struct http_request *req, struct err *err);
void park_enter(struct http_parked *parked);
int park_room(const struct park *park, const struct http_request *req, struct err *err);
/* Puts it into the inbox, so that the thread attends to it. */
void park_put_in(struct http_parked *parked);

/* Ends it because the park stops. With `gently`, an answer that is being sent goes on. */
void parked_stop(struct http_parked *parked, bool gently);

void parked_free(struct http_parked *parked);
void park_unref(struct park *park);

#endif
