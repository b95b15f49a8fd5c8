/* Callers that want the keeper's token, for its tests. */
#ifndef TESTS_KEEPER_SCENE_H
#define TESTS_KEEPER_SCENE_H

#include "keeper_world.h"

#include <pthread.h>

/* --- one for everybody --------------------------------------------------------------------- */

#define CALLERS 32

struct caller {
    pthread_t thread;
    struct world *world;
    struct buf token;
    struct err err;
    int rc;
};

static inline void *want_token(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_token(caller->world->keeper, &caller->token, &caller->err);
    return NULL;
}

static inline void *meet_refusal(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_refused(caller->world->keeper, "access-1", &caller->err);
    return NULL;
}

static inline void call_all(struct world *w, struct caller callers[CALLERS], void *(*run)(void *))
{
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.world = w, .token = BUF_INIT(4096)};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i].thread, NULL);
}

#endif
