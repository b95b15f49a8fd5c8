/*
 * The breaker: whether tasks that use the runner's own credential may start now.
 *
 * A usage limit or a refused credential concerns all of them; so they wait instead of failing one
 * after the other. It closes by itself: at the reset time that the API gave, once a login works, or
 * after a while with one attempt. A limit survives the process, in a file. The share of a usage
 * window that is kept for the owner (usage.h) holds tasks as a limit does.
 *
 * Threads: any. changed() is called for each change in order, on one thread at a time (the
 * breaker's own or a caller's); it must not call functions that change the breaker. Ownership: the
 * caller of breaker_new() frees it by breaker_free().
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
    bool reserved;    /* LIMIT: only the owner's share is left (breaker_reserve) */
    int64_t limits;   /* how often a usage limit was hit */
    int64_t
        auth_refusals;  /* answers of the API that refused the credential, also after a refresh */
    int64_t refused_ms; /* real time of the last of them; 0: none */
    char refused_task[ID_SIZE]; /* the task that was refused; "": not known */
};

struct breaker *breaker_new(void (*changed)(const struct breaker_status *status, void *arg),
                            void *arg, struct err *err);
void breaker_free(struct breaker *breaker);

/* Restores the limit in the file `path`, and keeps limits there from now on. A file that cannot be
 * read counts as empty. Call once. */
int breaker_remember(struct breaker *breaker, const char *path, struct err *err);
void breaker_status(struct breaker *breaker, struct breaker_status *ret_status);

/* Prints the counters for a page of metrics; arg is a struct breaker. */
struct metric_page;
void breaker_metrics(struct metric_page *page, void *arg);

/* Called by the keeper: nothing works without a new login (or works again). */
void breaker_login(struct breaker *breaker, bool needed);

/* There is another credential from elsewhere: what the API said about the old one no longer
 * counts. */
void breaker_renewed(struct breaker *breaker);

/* The API refuses requests until until_ms (real time). */
void breaker_limit(struct breaker *breaker, int64_t until_ms);

/* The tasks' share of a usage window is used up until until_ms (real time); 0: it is not. The last
 * call counts. */
void breaker_reserve(struct breaker *breaker, int64_t until_ms);

/* A task had no working credential. A few refusals in a row, each of another task, open the
 * breaker; breaker_accepted() ends the row. */
void breaker_refused(struct breaker *breaker);
/* As breaker_refused(), because the API refused the credential of this task ("": not known). */
void breaker_denied(struct breaker *breaker, const char *task);
void breaker_accepted(struct breaker *breaker);

#endif
