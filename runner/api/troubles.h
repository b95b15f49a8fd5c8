/*
 * What can be the matter with a runner, and what its owner does about it: a table, and who looks.
 *
 * Threads: any. Private to runner/api.
 */
#ifndef API_TROUBLES_H
#define API_TROUBLES_H

#include "runner/api/api.h"

#define TROUBLES_MAX 16

struct trouble {
    const char *reason; /* a word of api.md */
    const char *remedy; /* a sentence or two for the owner */
};

struct troubles {
    const struct trouble *items[TROUBLES_MAX];
    size_t count;
};

/* Looks at everything; nothing in it waits. `login` is as note_api_key() left it. */
void troubles_find(const struct api *api, const struct keeper_status *login,
                   struct troubles *ret_found);

#endif
