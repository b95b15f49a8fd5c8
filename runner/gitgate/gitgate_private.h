/*
 * Gates, their pushes and the rules, shared by the files of this room. Private to runner/gitgate.
 *
 * Threads: any; what a gate's lock guards is said beside it.
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
    struct lock lock; /* of what follows, and of in_flight and events of its passes */
    struct gitgate_pass *passes;
};

struct gitgate_pass {
    struct gitgate_pass *next;
    struct gitgate *gate;
    struct gitgate_wish wish;
    char token[PASS_TOKEN_SIZE];
    char path[2600]; /* of the repository's URL here */
    bool pushes, any, force;
    struct strlist branches;
    int wake; /* readable once it is dead */
    _Atomic bool dead;
    int in_flight;
    pthread_cond_t idle;
    struct strlist events;
    size_t told;
};

/* passing.c: one request of git, whose rest of the path is "/info/refs" or the like. */
void passing_serve(struct gitgate_pass *pass, struct http_request *req, const char *rest);
/* Answers with a sentence, which git shows as "remote: …". */
void passing_refuse(struct http_request *req, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
