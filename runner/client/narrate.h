/*
 * A task's events as a story for a person: what Claude says, a line for each tool it uses, what a
 * command prints, and how it ended.
 *
 * Threads: one.
 */
#ifndef CLIENT_NARRATE_H
#define CLIENT_NARRATE_H

#include "base/buf.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define NARRATE_TOOLS_MAX 64 /* that run at once */

struct narrate_tool {
    char id[80];
    char line[512];
    int64_t begun_ms;
};

struct narrate {
    FILE *out; /* where the story goes; borrowed */
    bool colour;
    bool live;   /* times of tools mean something */
    bool raw;    /* a command: its stdout and stderr go to ours as they are */
    bool silent; /* only what a command prints */
    int columns;
    struct narrate_tool tools[NARRATE_TOOLS_MAX];
    size_t tool_count;
    bool said;        /* some text of Claude's was printed */
    struct json *end; /* what `done` said; owned */
    bool pending;     /* a line about a running tool stands there, without its end */
};

void narrate_init(struct narrate *narrate, FILE *out, bool colour);
void narrate_done(struct narrate *narrate);

/* One event, as a sse_fn. */
void narrate_event(const char *id, const char *name, const char *data, size_t len, void *arg);

/* The last lines: how it ended, time, turns, cost, id. */
void narrate_end(struct narrate *narrate);

/* Colours, or "" without them. */
enum narrate_colour { PLAIN, DIM, BOLD, RED, GREEN, YELLOW, CYAN };
const char *narrate_colour(bool colour, enum narrate_colour which);

#endif
