/*
 * One run that is under way: its connection, its folder, what has come so far. Private to the files
 * batch*.c.
 *
 * Threads: the batch's one.
 */
#ifndef CLIENT_BATCH_SLOT_H
#define CLIENT_BATCH_SLOT_H

#include "runner/client/batch.h"

enum slot_phase {
    SLOT_STREAM,     /* follows the task's events */
    SLOT_TRANSCRIPT, /* fetches the conversation, with those of subagents in it */
    SLOT_LIST,       /* asks which outputs there are */
    SLOT_FETCH,      /* fetches one after the other */
};

struct batch_slot {
    struct batch *batch; /* NULL: free */
    struct batch_task *task;
    size_t run;
    enum slot_phase phase;
    struct net_flow *flow; /* NULL: waits for again_ms */
    int64_t again_ms, begun_ms;
    int tries; /* in vain, one after the other */
    struct sse sse;
    struct batch_folder folder;
    struct buf body, answer; /* of the request; of an answer that is no stream */
    int status;
    int retry_after_s; /* of the answer; 0: it said nothing */
    char task_id[ID_SIZE], last_id[40];
    char doing[80];
    struct json *end;          /* what `done` said; owned */
    struct json *outputs;      /* the list; owned */
    const struct json *output; /* of it: the one that is fetched */
    char *output_path;         /* what is fetched goes there */
    int output_file;
    char error[240]; /* the run could not be had, or its outputs; "" */
};

/* Begins a run on a free slot: its first connection. -1 when it cannot be begun (*err). */
int slot_begin(struct batch_slot *slot, struct batch *batch, struct batch_task *task, size_t run,
               const struct buf *body, struct err *err);
/* Connects again, for a slot whose again_ms has come. */
int slot_connect(struct batch_slot *slot, struct err *err);
/* Frees a slot and what it made; the flow is broken off. */
void slot_drop(struct batch_slot *slot);

/* --- told by the slot, in batch_loop.c --- */

/* All is there: the run has ended, its outputs are fetched, or slot->error says why not. */
void batch_slot_ended(struct batch_slot *slot);
/* The runner takes no more now: the run is to begin again, later. */
void batch_slot_refused(struct batch_slot *slot);
/* The runner did not answer. */
void batch_slot_unanswered(struct batch_slot *slot);
/* An answer came: the runner is there. */
void batch_answered(struct batch *batch);
/* Nothing can go on: *err says why. */
void batch_broke(struct batch *batch, const struct err *err);

#endif
