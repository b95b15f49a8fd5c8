/*
 * The system prompt of SYSTEM_PROMPT_FILE, read again when the file changes. When the file is
 * missing, too long, blank or not text, the log says so once and the last valid text stays in
 * force. Without one, tasks that bring no prompt of their own are refused: they must not run
 * without the operator's prompt.
 *
 * Threads: any. Ownership: the caller of system_prompt_new() frees it by system_prompt_free().
 */
#ifndef API_SYSTEM_PROMPT_H
#define API_SYSTEM_PROMPT_H

#include "base/err.h"

struct system_prompt;

struct system_prompt *system_prompt_new(void);
void system_prompt_free(struct system_prompt *prompt);

/* The text in force, which the caller frees; NULL when path is NULL. -1 when there is none although
 * path is set. */
int system_prompt_get(struct system_prompt *prompt, const char *path, char **ret_text,
                      struct err *err);

#endif
