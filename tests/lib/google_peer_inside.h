/*
 * What google_peer.c and google_bucket.c share.
 */
#ifndef TESTLIB_GOOGLE_PEER_INSIDE_H
#define TESTLIB_GOOGLE_PEER_INSIDE_H

#include "google_peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { OBJECTS_MAX = 256, SESSIONS_MAX = 64, FAULTS_MAX = 32, PAGE = 2, LOG_MAX = 1 << 20 };

struct object {
    char *name;
    char *data;
    size_t len;
    long long generation;
};

struct session {
    char *name;
    long long wanted; /* generation; -1: any */
    char *data;
    size_t len;
    bool over, gone;
    long long generation; /* of the resulting object */
};

struct bucket {
    const char *url;                    /* the peer's address */
    struct object objects[OBJECTS_MAX]; /* sorted by name */
    int object_count;
    struct session sessions[SESSIONS_MAX];
    int session_count;
    long long generation;
};

struct google_peer {
    struct loopback *server;
    peer_handler *other;
    void *arg;
    char *url, *dir, *key;
    pthread_mutex_t lock;
    struct bucket bucket;
    struct peer_fault faults[FAULTS_MAX];
    int fault_count;
    char *log; /* "METHOD /path\n" of every request */
    size_t log_len;
    int tokens, revoked, life, token_status;
    const char *token_body;
    char *token_question;
    char *last; /* the last request to an API: head and body */
    bool holding;
    pthread_cond_t released;
};

static inline void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

/* google_bucket.c. Call with the peer's lock held. */
bool bucket_serve(struct bucket *bucket, struct loopback_call *call, const char *body, size_t len,
                  const struct peer_fault *fault);
void bucket_prepare(struct bucket *bucket, const struct peer_fault *fault);
struct object *bucket_find(struct bucket *bucket, const char *name);
/* Takes the data. */
struct object *bucket_put(struct bucket *bucket, const char *name, char *data, size_t len);
void bucket_done(struct bucket *bucket);
/* Sends a whole answer in Cloud Storage's form of an error. */
bool bucket_error(struct loopback_call *call, int status, const char *reason);

#endif
