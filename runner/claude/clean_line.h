/*
 * Takes secrets out of a line of the CLI's JSON without changing what the line means.
 *
 * Only the values of strings are redacted. Numbers, ids, the words that decide an outcome, and the
 * names of members stay as they are, whatever a secret's value is. The one exception are names in
 * what tools and schemas fill in (a tool's input, a structured answer): a name there that is more
 * than a plain word is redacted like a value.
 *
 * Threads: no state of its own.
 */
#ifndef CLAUDE_CLEAN_LINE_H
#define CLAUDE_CLEAN_LINE_H

#include "base/buf.h"
#include "base/redact.h"

/* Appends the line, which has passed json_check(), to out without secrets: JSON of the same shape.
 * Returns true when there was a secret, else false with *out untouched. */
bool clean_line(struct redact_set *set, const char *line, size_t len, struct buf *out);

#endif
