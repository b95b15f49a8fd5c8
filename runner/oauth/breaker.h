/*
 * The breaker: whether tasks that use the runner's own credential may start now.
 *
 * A usage limit or a credential that is refused concerns all of them alike; so they wait instead of
 * failing one after the other. It closes by itself: at the reset time that the API gave, once a
 * login works, or after a while with one try. A limit outlives the process, in a file. What is left
 * to the owner of a usage window (usage.h) holds tasks as a limit does.
 *
 * Threads: any. changed() is told each change in its order, by one thread at a time (the breaker's
 * own or a caller's); it must not call functions of the breaker that change it.
 */
#ifndef OAUTH_BREAKER_H
#define OAUTH_BREAKER_H

#include "base/auto.h"
#include "base/err.h"
#include "base/id.h"

#include <stdbool.h>
#include <stdint.h>

struct breaker;

enum breaker_state { BREAKER_CLOSED, BREAKER_LOGIN, BREAKER_LIMIT };

struct breaker_status {
    enum breaker_state state;
    int64_t until_ms; /* LIMIT: real time of its end; LOGIN: of the next try, 0: none */
    bool reserved;    /* LIMIT: only what is left to the owner is left (breaker_reserve) */
    int64_t limits;   /* how often a usage limit was hit */
    int64_t
        auth_refusals;  /* answers of the API that refused the credential, also after a refresh */
    int64_t refused_ms; /* real time of the last of them; 0: none */
    char refused_task[ID_SIZE]; /* whose it was; "": it is not known */
};

struct breaker *breaker_new(void (*changed)(const struct breaker_status *status, void *arg),
                            void *arg, struct err *err);
void breaker_free(struct breaker *breaker);

/* Takes up the limit that the file `path` says is in force, and keeps limits there from now on. A
 * file that cannot be read says nothing. Once. */
int breaker_remember(struct breaker *breaker, const char *path, struct err *err);
void breaker_status(struct breaker *breaker, struct breaker_status *ret_status);

/* Prints what is counted, for a page of metrics; arg is a struct breaker. */
struct metric_page;
void breaker_metrics(struct metric_page *page, void *arg);

/* The keeper says: without a new login nothing works (or it does again). */
void breaker_login(struct breaker *breaker, bool needed);

/* Another credential has come, from somewhere else: what the API said of the old one is over. */
void breaker_renewed(struct breaker *breaker);

/* The API said: no more before until_ms (real time). */
void breaker_limit(struct breaker *breaker, int64_t until_ms);

/* The tasks' share of a usage window is used up until then (real time); 0: it is not. The last call
 * counts. */
void breaker_reserve(struct breaker *breaker, int64_t until_ms);

/* A task had no credential that works; or the API took it. A few refusals in a row, each of another
 * task, open. */
void breaker_refused(struct breaker *breaker);
/* The same, because the API refused the credential of this task ("": not known). */
void breaker_denied(struct breaker *breaker, const char *task);
void breaker_accepted(struct breaker *breaker);

#endif
