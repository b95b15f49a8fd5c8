/*
 * Google inside the test program: a token endpoint, and a Cloud Storage with preconditions,
 * resumable uploads, ranges and pages of two; what else is asked for goes to the test's own
 * handler. Faults are put in line by what they match. Every request that is no token's is held
 * against the token that is valid.
 *
 * With CR_GOOGLE_RECORD=FILE in the environment each API request is appended there as a line of
 * JSON: {"method":…,"url":…,"body":…}.
 *
 * Threads: any.
 */
#ifndef TESTLIB_GOOGLE_PEER_H
#define TESTLIB_GOOGLE_PEER_H

#include "google/google.h"
#include "loopback.h"

struct google_peer;

/* `other` (or NULL) answers requests that are for neither tokens nor Cloud Storage; `body` is the
 * request's. */
typedef bool peer_handler(struct loopback_call *call, const char *body, void *arg);
struct google_peer *google_peer_start(peer_handler *other, void *arg);
void google_peer_stop(struct google_peer *peer);

const char *google_peer_url(const struct google_peer *peer);
/* The folder of its files: key.json (a service account's), home/… */
const char *google_peer_dir(const struct google_peer *peer);
/* A client with the key file and this peer as every endpoint; fails the program otherwise. */
struct google *google_peer_client(struct google_peer *peer);
/* The private key, as PEM with its line ends escaped for JSON. */
const char *google_peer_key(const struct google_peer *peer);

enum peer_fault_kind {
    PEER_ANSWER,      /* answers this, and does nothing else */
    PEER_LOSE,        /* carries it out, and ends the connection without an answer */
    PEER_CUT_REQUEST, /* reads `bytes` of the body, and ends the connection */
    PEER_CUT_ANSWER,  /* sends `bytes` of the answer's body and ends the connection */
    PEER_SPOIL,       /* carries it out with a changed byte of the body, in either direction */
    PEER_FORGET,      /* forgets all uploads, then carries it out */
    PEER_REPLACE,     /* gives every object another generation, then carries it out */
    PEER_SILENT,      /* waits until the client closes */
    PEER_PLAIN,       /* a download without ranges, checksums or generations */
};

struct peer_fault {
    enum peer_fault_kind kind;
    const char *match; /* in "METHOD /path", or "TOKEN /path" of a question for a token */
    int skip;          /* how many matching requests pass first */
    int times;         /* 0: once */
    int status;
    const char *headers, *body;
    size_t bytes;
};
/* Adds a fault; a request gets the first that matches. Strings are borrowed. */
void google_peer_fault(struct google_peer *peer, const struct peer_fault *fault);
/* The number of faults that were not used. */
int google_peer_faults_left(struct google_peer *peer);

/* The number of requests so far with `match` in "METHOD /path", and of tokens given out. */
int google_peer_count(struct google_peer *peer, const char *match);
int google_peer_tokens(struct google_peer *peer);
/* The life of a token, as the endpoint states it; 3600 at the start. */
void google_peer_set_life(struct google_peer *peer, int seconds);
/* The answer to the next requests for tokens; NULL: tokens. Borrowed. */
void google_peer_set_token_answer(struct google_peer *peer, int status, const char *body);
/* Requests for tokens wait until they are released. */
void google_peer_hold_tokens(struct google_peer *peer, bool hold);
/* From now on the tokens given out so far are refused. */
void google_peer_revoke(struct google_peer *peer);
/* The body of the last request for a token. The caller frees it. */
char *google_peer_token_question(struct google_peer *peer);

/* The last request to an API: its head, an empty line, its body. The caller frees it. */
char *google_peer_last(struct google_peer *peer);
int google_peer_connections(struct google_peer *peer);

/* Replaces the object's bytes. */
void google_peer_put(struct google_peer *peer, const char *name, const void *data, size_t len);
/* A copy of an object's bytes, or NULL. The caller frees it. */
char *google_peer_object(struct google_peer *peer, const char *name, size_t *ret_len);
int google_peer_objects(struct google_peer *peer);

#endif
