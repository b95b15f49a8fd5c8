/*
 * The system prompt of SYSTEM_PROMPT_FILE, read again when the file changes.
 *
 * A file that is gone, too long, blank or no text is told in the log, once, and the last good text
 * stays in force; without one, tasks that bring no prompt of their own are refused rather than run
 * without what the operator wanted said.
 *
 * Threads: any.
 */
#ifndef API_SYSTEM_PROMPT_H
#define API_SYSTEM_PROMPT_H

#include "base/err.h"

struct system_prompt;

struct system_prompt *system_prompt_new(void);
void system_prompt_free(struct system_prompt *prompt);

/* The text in force (free() it), or NULL with path NULL. -1: there is none and should be. */
int system_prompt_get(struct system_prompt *prompt, const char *path, char **ret_text,
                      struct err *err);

#endif
