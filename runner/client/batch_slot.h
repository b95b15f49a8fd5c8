/*
 * One running run: its connection, its folder, and the data that has arrived. Private to the files
 * batch*.c.
 *
 * Threads: the batch's one. Ownership: a slot owns its folder, buffers and trees; slot_drop() frees
 * them.
 */
#ifndef CLIENT_BATCH_SLOT_H
#define CLIENT_BATCH_SLOT_H

#include "runner/client/batch.h"

enum slot_phase {
    SLOT_STREAM,     /* follows the task's events */
    SLOT_TRANSCRIPT, /* fetches the conversation, including those of subagents */
    SLOT_LIST,       /* asks for the list of outputs */
    SLOT_FETCH,      /* fetches the outputs one after the other */
};

struct batch_slot {
    struct batch *batch; /* NULL: free */
    struct batch_task *task;
    size_t run;
    enum slot_phase phase;
    struct net_flow *flow; /* NULL: waits for again_ms */
    int64_t again_ms, begun_ms;
    int tries; /* failed tries in a row */
    struct sse sse;
    struct batch_folder folder;
    struct buf body, answer; /* of the request; of an answer that is no stream */
    int status;
    int retry_after_s; /* of the answer; 0: not given */
    char task_id[ID_SIZE], last_id[40];
    char doing[80];
    struct json *end;          /* data of the event `done`; owned */
    struct json *outputs;      /* the list; owned */
    const struct json *output; /* the entry of the list that is being fetched */
    char *output_path;         /* path of its file */
    int output_file;
    char error[240]; /* why the run or its outputs could not be had; else "" */
};

/* Begins a run on a free slot by its first connection. -1 with *err when it cannot begin. */
int slot_begin(struct batch_slot *slot, struct batch *batch, struct batch_task *task, size_t run,
               const struct buf *body, struct err *err);
/* Connects again, when again_ms has come. */
int slot_connect(struct batch_slot *slot, struct err *err);
/* Cancels the flow, and frees the slot and what it made. */
void slot_drop(struct batch_slot *slot);

/* --- called by the slot, in batch_loop.c --- */

/* The run has ended and its outputs are fetched, or slot->error says why not. */
void batch_slot_ended(struct batch_slot *slot);
/* The runner accepts no more runs now: begin this one again later. */
void batch_slot_refused(struct batch_slot *slot);
/* The runner did not answer. */
void batch_slot_unanswered(struct batch_slot *slot);
/* The runner has answered, so it is reachable. */
void batch_answered(struct batch *batch);
/* The batch cannot go on, because of *err. */
void batch_broke(struct batch *batch, const struct err *err);

#endif
