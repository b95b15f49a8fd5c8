/*
 * One exchange by libcurl: what its callbacks share, and how a handle is set up for it. Private to
 * shared/net; included after CURL_DISABLE_TYPECHECK.
 *
 * Threads: an exchange belongs to one thread at a time.
 */
#ifndef NET_EXCHANGE_H
#define NET_EXCHANGE_H

#include "net/load.h"
#include "net/net.h"

#define EXCHANGE_HEAD_MAX 65536
#define EXCHANGE_CONNECT_MS 10000
#define EXCHANGE_GATHER_MAX 81920

/* What the callbacks of one exchange share. */
struct exchange {
    const struct curl_functions *curl;
    CURL *handle;
    const struct net_relay *relay; /* NULL: a call */
    struct net_answer *answer;     /* of a call */
    struct buf *head;
    const char *body;
    size_t body_left;
    const struct net_request *call; /* of a call */
    enum net_reach reach;
    bool plain;     /* http: only to loopback */
    bool head_over; /* the empty line has come */
    bool told;      /* relay: head() has been called */
    bool blocked;
    bool too_large;
    bool gave_up;
    bool silent;      /* relay: nothing moved for silence_ms */
    int64_t moved_ms; /* mono, when something last did */
    curl_off_t moved; /* bytes so far, both ways */
    /* relay: pieces that came by one look at the socket. libcurl tells each chunk by itself, which
     * an API that streams makes one of every event. */
    struct buf gathered;
    char message[CURL_ERROR_SIZE];
};

int exchange_check_url(const char *url, struct err *err);
/* Makes a handle ready: address, callbacks, authorities. Keeps its connections. */
void exchange_set(struct exchange *x, const char *method, const char *url);
void exchange_set_progress(struct exchange *x);
void exchange_set_body(struct exchange *x, const char *method, int64_t len);
int exchange_headers(const struct curl_functions *curl, const struct strlist *headers,
                     struct curl_slist **ret_list, struct err *err);
/* A relay's handle, whole but for its headers. */
void exchange_set_relay(struct exchange *x);

/* Waits until the exchange is over. */
int exchange_perform(struct exchange *x, const struct strlist *headers, const char *url,
                     struct err *err);
/* Turns what libcurl says of the end into ours. */
int exchange_explain(const struct exchange *x, CURLcode code, const char *url, struct err *err);

/* A relay's last steps: what has been gathered, a head without a body. */
int exchange_pass_gathered(struct exchange *x);
int exchange_tell_head(struct exchange *x);

#endif
