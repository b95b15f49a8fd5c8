/*
 * What a task shows of its conversation: the CLI's own transcript, line by line, without the task's
 * secrets, followed by its subagents' transcripts. Private to runner/claude.
 *
 * Threads: the task's own. Ownership: everything is borrowed.
 */
#ifndef CLAUDE_TRANSCRIPT_H
#define CLAUDE_TRANSCRIPT_H

#include "base/err.h"
#include "base/redact.h"

/* Writes keep_dir/TRANSCRIPT_FILE from the kept conversation (conversation.h). A subagent's line
 * becomes {"type":"subagent_transcript","agent":…,"entry":line}. */
int transcript_keep(const char *state_dir, const char *conversation, const char *keep_dir,
                    struct redact_set *redact, struct err *err);

#endif
