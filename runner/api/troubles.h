/*
 * Problems that a runner can have, with what its owner can do about them: a table, and the function
 * that looks for them. Private to runner/api.
 *
 * Threads: any. Ownership: the table is static.
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

/* Finds all present problems without waiting for anything. `login` must have passed
 * note_api_key(). */
void troubles_find(const struct api *api, const struct keeper_status *login,
                   struct troubles *ret_found);

#endif
