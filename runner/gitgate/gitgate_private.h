/*
 * Gates, passes and rules, shared by the files of this room. Private to runner/gitgate.
 *
 * Threads: any; comments say what a gate's lock guards. Ownership: a gate lists its passes;
 * gitgate_close() frees a pass.
 */
#ifndef GITGATE_PRIVATE_H
#define GITGATE_PRIVATE_H

#include "base/id.h"
#include "base/lock.h"
#include "base/strlist.h"
#include "http/http.h"
#include "runner/gitgate/gitgate.h"

#include <stdatomic.h>

#define PASS_TOKEN_SIZE (ID_TOKEN_SIZE + 12)
#define PASS_AT_ONCE 8 /* requests of one task */
#define PASS_EVENTS_MAX 1000

struct gitgate {
    struct config_in_force *config;
    struct http_server *server;
    char *socket;     /* NULL: loopback */
    struct lock lock; /* guards the fields below, and in_flight and events of its passes */
    struct gitgate_pass *passes;
};

struct gitgate_pass {
    struct gitgate_pass *next;
    struct gitgate *gate;
    struct gitgate_wish wish;
    char token[PASS_TOKEN_SIZE];
    char path[2600]; /* path of the repository's URL at this gate */
    bool pushes, any, force;
    struct strlist branches;
    int wake; /* readable once the pass is dead */
    _Atomic bool dead;
    int in_flight;
    pthread_cond_t idle;
    struct strlist events;
    size_t told;
};

/* passing.c: serves one request of git, whose path ends in `rest`: "/info/refs" or similar. */
void passing_serve(struct gitgate_pass *pass, struct http_request *req, const char *rest);
/* Answers with a sentence that git shows as "remote: …". */
void passing_refuse(struct http_request *req, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
