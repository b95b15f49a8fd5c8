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
    /* Pieces that came in one read of the socket. libcurl passes on each chunk alone, and a
     * streaming API makes one chunk per event. */
    struct buf gathered;
    char message[CURL_ERROR_SIZE];
};

int exchange_check_url(const char *url, struct err *err);
/* Sets a handle's address, callbacks and authorities. Its connections are kept. */
void exchange_set(struct exchange *x, const char *method, const char *url);
void exchange_set_progress(struct exchange *x);
void exchange_set_body(struct exchange *x, const char *method, int64_t len);
int exchange_headers(const struct curl_functions *curl, const struct strlist *headers,
                     struct curl_slist **ret_list, struct err *err);
/* Sets up a relay's handle, except for its headers. */
void exchange_set_relay(struct exchange *x);

/* Waits until the exchange is over. */
int exchange_perform(struct exchange *x, const struct strlist *headers, const char *url,
                     struct err *err);
/* Translates libcurl's result into our error. */
int exchange_explain(const struct exchange *x, CURLcode code, const char *url, struct err *err);

/* The last steps of a relay: pass on what was gathered, and report a head that no body followed. */
int exchange_pass_gathered(struct exchange *x);
int exchange_tell_head(struct exchange *x);

#endif
