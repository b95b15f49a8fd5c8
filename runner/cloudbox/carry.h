/*
 * A session's box on its way between the bucket and a disk: at home, where its files are read and
 * written, and in an execution, where its commands run.
 *
 *     bucket   state.json, layers ── carry_pull ──▶ DIR/box      what is new of it
 *     bucket   state.json, a layer ◀── carry_push ── DIR/box      what has changed of it
 *
 * DIR/synced.json says which layers the box is made of, and is gone while somebody changes it: what
 * a crash leaves is fetched anew. Nobody else may be in the box meanwhile.
 *
 * Threads: one at a time for a box.
 */
#ifndef CLOUDBOX_CARRY_H
#define CLOUDBOX_CARRY_H

#include "runner/cloudbox/manifest.h"
#include "runner/cloudbox/state.h"

#include <sys/types.h>

/* Where a box lies: DIR/box with its parts, which are there. */
struct carry_place {
    const struct cloud *cloud;
    const char *id;
    const char *dir;
    uid_t uid; /* whose files they are */
    gid_t gid;
    bool (*stopped)(void *arg); /* true to give up; or NULL */
    void *arg;
};

struct carry_count {
    int64_t bytes; /* packed, that went over the network */
    int layers;
};

/* Makes the box what the bucket says. ERR_NOT_FOUND: there is no such session. *ret_state needs no
 * init. ret_count may be NULL. */
int carry_pull(const struct carry_place *place, struct box_state *ret_state,
               struct carry_count *ret_count, struct err *err);

/* To be called before the box is changed; what has changed is found by it. */
int carry_begin(const struct carry_place *place, struct manifest *ret_before, struct err *err);

/* Stores what differs from `before`, then the state, over the generation that it has: all of it or,
 * with ERR_MISMATCH when somebody was first, nothing. */
int carry_push(const struct carry_place *place, const struct manifest *before,
               struct box_state *state, struct carry_count *ret_count, struct err *err);

/* The change is not kept: the next pull brings back what was. */
void carry_forget(const struct carry_place *place);

#endif
