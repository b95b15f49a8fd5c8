/*
 * A strict token endpoint inside the test program: a refresh token works once, and each answer
 * holds the next one. Pair N is "access-N" and "refresh-N".
 */
#ifndef TESTLIB_TOKEN_SERVER_H
#define TESTLIB_TOKEN_SERVER_H

#include "loopback.h"

#include <stdatomic.h>
#include <stdbool.h>

struct token_server {
    struct loopback *http;
    char *url;
    _Atomic int serial;                /* the number of the valid pair */
    _Atomic int granted;               /* refreshes that were answered with a new pair */
    _Atomic int asked;                 /* requests */
    _Atomic int at_once;               /* requests that are being answered … */
    _Atomic int crowd;                 /* … and the largest number of these so far */
    _Atomic int delay_ms;              /* before each answer */
    _Atomic int status;                /* other than 0: the answer to every request */
    const char *_Atomic body;          /* of that; NULL: {} */
    const char *_Atomic expires_in;    /* JSON after access_token; NULL: an hour */
    _Atomic bool keeps_refresh;        /* the answer holds no refresh token, and the old one stays
                                        * valid */
    _Atomic bool silent;               /* never answers */
    void (*_Atomic before)(void *arg); /* before it judges a request */
    void (*_Atomic after)(void *arg);  /* the pair is spent, the answer is not yet sent */
    void (*_Atomic sent)(void *arg);   /* the answer has been sent */
    void *arg;
};

/* The first valid pair is number 1. */
void token_server_start(struct token_server *server);
void token_server_stop(struct token_server *server);

#endif
