/*
 * A task's events as a story for a person: Claude's text, a line for each tool it uses, a command's
 * output, and how it ended.
 *
 * Threads: one. Ownership: `out` is borrowed; narrate_done() frees the rest.
 */
#ifndef CLIENT_NARRATE_H
#define CLIENT_NARRATE_H

#include "base/buf.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define NARRATE_TOOLS_MAX 64 /* tools that run at once */

struct narrate_tool {
    char id[80];
    char line[512];
    int64_t begun_ms;
};

struct narrate {
    FILE *out; /* destination; borrowed */
    bool colour;
    bool live;   /* events arrive as they happen, so the times of tools are real */
    bool raw;    /* a command: its stdout and stderr are copied to ours */
    bool silent; /* only a command's output is printed */
    int columns;
    struct narrate_tool tools[NARRATE_TOOLS_MAX];
    size_t tool_count;
    char last[200];   /* the beginning of what Claude said last */
    struct json *end; /* data of the event `done`; owned */
    bool pending;     /* the last line, about a running tool, has no line end yet */
    bool unended;     /* a command's output on stdout has no line end yet */
};

void narrate_init(struct narrate *narrate, FILE *out, bool colour);
void narrate_done(struct narrate *narrate);

/* Prints one event; an sse_fn. */
void narrate_event(const char *id, const char *name, const char *data, size_t len, void *arg);

/* Prints the last lines: how it ended, time, turns, cost, id. */
void narrate_end(struct narrate *narrate);

/* Prints a unified diff in colours, without its control characters: for a terminal. */
void narrate_diff(const char *text, size_t len, bool colour, FILE *out);

/* Prints text that somebody else wrote, and ends its last line. Without its control characters when
 * `out` is a terminal. */
void narrate_foreign(const char *text, FILE *out);

/* The escape sequence of a colour, or "" without colours. */
enum narrate_colour { PLAIN, DIM, BOLD, RED, GREEN, YELLOW, CYAN };
const char *narrate_colour(bool colour, enum narrate_colour which);

#endif
