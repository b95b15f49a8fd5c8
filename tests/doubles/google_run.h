/*
 * Cloud Run v2: jobs, and executions that really run. An execution is a document "run:…" and a
 * folder executions/ID, in which its supervisor (google_supervise.c, a process of its own, so that
 * an execution outlives the stand-in) keeps state.json.
 *
 * Threads: the caller holds the store's lock.
 */
#ifndef DOUBLES_GOOGLE_RUN_H
#define DOUBLES_GOOGLE_RUN_H

#include "google_call.h"

/* The last part of its name. */
const char *execution_id(const char *key);
/* Starts an execution of the job as its merged template says; its document, borrowed. NULL after a
 * refusal. */
cJSON *execution_start(struct call *call, const char *job_key, const cJSON *job,
                       const cJSON *overrides);
/* What is known of it now, as answered. */
cJSON *execution_show(const char *key, const cJSON *execution);
/* Brings the document of one that has ended up to date; true when it has ended. */
bool execution_refresh(const char *key);
/* Asks its supervisor to end it. */
void execution_cancel(const char *key);
/* Kills it at once, with what it has started, and forgets its folder when `forget`. */
void execution_kill(const char *key, bool forget);
size_t execution_count_running(void);

/* {"name","metadata","done","response"} of a thing that is made or changed at once, but said to
 * take a while. `kind` is the last part of its type. */
cJSON *operation_new(struct call *call, const char *kind, const char *target_key,
                     const char *suffix);

/* Runs as the supervisor of the folder: the exit status. */
int supervise(const char *folder);

#endif
