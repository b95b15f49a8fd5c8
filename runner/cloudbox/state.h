/*
 * A cloud session in the bucket, beside what tasks leave there (overflow/folder.h):
 *
 *     sessions/ID/
 *         state.json             what the session is now: written over the generation that was read
 *                                only, so that of two who change it one is told. It names its
 *                                layers, so that all of it changes at once
 *         workspace/NAME.tgz     a layer: files of the box that differ from those of the layers
 *                                before it
 *         workspace/NAME.gone    the names that are gone in it, each with a NUL at its end
 *         next/TASK.json         what a warm execution does after that task (overflow/warm.h)
 *
 * state.json is the replaced sandbox's own: session_id, cwd, env_vars, background_pids (always
 * empty: nothing outlives an execution), created_at, last_updated; `shells` and `workspace` are
 * ours, and may be missing.
 *
 * Threads: no shared state.
 */
#ifndef CLOUDBOX_STATE_H
#define CLOUDBOX_STATE_H

#include "base/auto.h"
#include "base/id.h"
#include "runner/overflow/folder.h"
#include "json/json.h"

#include <stdbool.h>

#define BOX_LAYERS_MAX 64
#define BOX_STATE_BYTES_MAX (8u << 20)

struct box_layer {
    char name[ID_SIZE];
    int64_t bytes; /* packed */
    bool gone;     /* it has a list of names */
};

struct box_state {
    char *cwd;                       /* of the default shell; never NULL */
    char *env;                       /* what that exports: a JSON object of strings; never NULL */
    char *shells;                    /* where each is: a JSON object of strings; never NULL */
    char *created_at, *last_updated; /* as written; "" when missing */
    char last_task[ID_SIZE];         /* that wrote it, or "" */
    struct box_layer layers[BOX_LAYERS_MAX];
    size_t layer_count;
    int64_t generation; /* that it was read as; STORAGE_ABSENT: of none */
};

/* A new one, made now. */
int box_state_init(struct box_state *state, struct err *err);
void box_state_done(struct box_state *state);
static inline void auto_box_state(struct box_state *state)
{
    box_state_done(state);
}

void box_state_print(const struct box_state *state, const char *id, struct buf *out);
/* ERR_UPSTREAM for what is none: a command may have had its hands on it. *ret_state needs no init,
 * and owns nothing after a failure. */
int box_state_parse(const char *text, size_t len, struct box_state *ret_state, struct err *err);

/* ERR_NOT_FOUND when the session is not in the bucket. */
int box_state_get(const struct cloud *cloud, const char *id, struct box_state *ret_state,
                  struct err *err);
/* Over the generation that it was read as, else ERR_MISMATCH; then it has the new one. */
int box_state_put(const struct cloud *cloud, const char *id, struct box_state *state,
                  struct err *err);

/* "sessions/ID/workspace/NAME" + ending (".tgz", ".gone") */
void box_layer_name(const char *id, const struct box_layer *layer, const char *ending,
                    char ret_name[FOLDER_NAME_SIZE]);

/* Removes all of a session's objects; what a task of the same id has left stays. */
int box_state_remove(const struct cloud *cloud, const char *id, struct err *err);

#endif
