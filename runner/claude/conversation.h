/*
 * What lasts of the CLI's conversations, for tasks that go on with one.
 *
 * Theory of operation. The CLI writes a conversation below CLAUDE_CONFIG_DIR, as
 * projects/<slug>/<conversation>.jsonl and, beside it, a folder <conversation>/ with what subagents
 * said and tools printed at length; the slug is made of the working directory. When a task ends
 * these are moved to the state directory, and copied back for the task that goes on:
 *
 *     run/<conversation>/config/projects/ ── save: rename ──▶ conversations/<conversation>/
 *                                    ◀── restore: copy ──
 *
 * A save exchanges two directories, so that a crash leaves the old one or the new one, and a task
 * that dies half way leaves what it had begun with. Who may use a conversation when is the store's
 * business (store_add).
 *
 * Threads: any, one at a time for a conversation.
 */
#ifndef CLAUDE_CONVERSATION_H
#define CLAUDE_CONVERSATION_H

#include "base/err.h"
#include "runner/task/engine.h"

#include <stdbool.h>
#include <sys/types.h>

#define CONVERSATION_TRANSCRIPT_MAX (64 << 20) /* bytes; a longer transcript is not kept */
#define CONVERSATION_BYTES_MAX                                    \
    (128 << 20) /* with the folder; a larger conversation is kept \
                 * without it */
#define CONVERSATION_FILES_MAX 10000

/* Keeps the conversation in a run's directory. Call when no process of the task is left. Returns 1
 * when there is a conversation to continue now (this one or, when this one cannot be kept, the one
 * kept before), else 0. -1 with *err when this one could not be kept and there was none before. */
int conversation_save(const char *state_dir, const char *conversation, const char *run_dir,
                      struct err *err);

/* Copies a conversation into a run's directory, for this user. *ret_transcript is the path of its
 * transcript there, which the caller frees. ERR_NOT_FOUND when the conversation does not exist. */
int conversation_restore(const char *state_dir, const char *conversation, const char *run_dir,
                         uid_t uid, gid_t gid, char **ret_transcript, struct err *err);

#endif
