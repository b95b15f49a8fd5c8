/*
 * What Claude Code prints with --output-format stream-json, understood line by line.
 *
 * Every line becomes one event: the line itself when it is JSON, else {"type":"text","content":…}.
 * The result line decides success, by its fields alone: an exit status or a word in the text never
 * does, and neither does a secret: the line is understood before its secrets are taken out.
 *
 * Threads: one at a time.
 */
#ifndef CLAUDE_STREAM_JSON_H
#define CLAUDE_STREAM_JSON_H

#include "base/buf.h"
#include "base/lines.h"
#include "base/redact.h"
#include "runner/oauth/usage.h"

#include <stdbool.h>
#include <stdint.h>

typedef void claude_output_event_fn(const char *json, size_t len, void *arg);

struct claude_output {
    struct redact_set *redact; /* borrowed */
    claude_output_event_fn *event;
    void *arg;
    struct lines lines;
    struct buf scratch; /* the line, as strict JSON */
    struct buf clean;   /* the same without secrets, when there were any */

    bool began;     /* a line has arrived */
    bool truncated; /* a line was too long */

    /* From the result line: */
    bool have_result;
    bool is_error;
    char subtype[48];
    int64_t api_status; /* 0: none */
    int64_t num_turns;  /* -1: not given */
    struct buf output;
    struct buf members; /* ,"sessionId":…,"usage":… as the answer has them */

    char command[64];     /* the slash command in the prompt, set by the owner; "": none */
    bool command_unknown; /* the CLI says that it has no such command */

    /* From earlier lines: */
    char last_error[48];    /* "authentication_failed", "rate_limit", … */
    int64_t limit_reset_ms; /* when a usage limit that was hit ends; 0: none was hit */
    bool have_windows;      /* the account's windows were reported; the reader may reset it */
    struct usage_reading windows[USAGE_WINDOWS];
};

void claude_output_init(struct claude_output *stream, struct redact_set *redact,
                        claude_output_event_fn *event, void *arg);
void claude_output_done(struct claude_output *stream);
/* Notes the slash command at the start of a prompt, if there is one. Call before the first line. */
void claude_output_command(struct claude_output *stream, const char *prompt);

void claude_output_feed(struct claude_output *stream, const char *data, size_t len);
void claude_output_finish(struct claude_output *stream);

#endif
