/*
 * Warm executions: one that has run a session's command stays for a while, and runs the next.
 *
 * Theory of operation. The execution stores a result that says how long it stays, and then looks
 * again and again for one object, which is named by the task that it has run:
 *
 *     home        PUT sessions/ID/next/TASK.json {"taskId","attempt"}    ifGenerationMatch=0
 *     execution   GET …                                                  until its time is over,
 * then PUT … {"closed":true}                                  ifGenerationMatch=0
 *
 * Whoever writes it first has decided: home then waits for the claim of the task (folder.h), as of
 * any execution, or asks for a new one. The object only says where a task is to run; that it runs
 * once is the claim's business.
 *
 * Threads: any.
 */
#ifndef OVERFLOW_WARM_H
#define OVERFLOW_WARM_H

#include "base/id.h"
#include "runner/overflow/folder.h"

#define WARM_ENV_IDLE "TASK_IDLE_MS"  /* how long an execution is to stay; missing: not at all */
#define WARM_ENV_LIFE "TASK_LIFE_MS"  /* after so long Cloud Run ends it */
#define WARM_LIFE_MS (60 * 60 * 1000) /* what an execution that may stay gets beyond its task */
#define WARM_NOTE_BYTES_MAX 4096

/* The object's name. */
void warm_name(const char *session, const char *task, char ret_name[FOLDER_NAME_SIZE]);

/* What it says. */
struct warm_note {
    bool closed;
    char task[ID_SIZE];
    int attempt;
};
void warm_print(const struct warm_note *note, struct buf *out);
/* ERR_UPSTREAM for what is none. */
int warm_parse(const char *text, size_t len, struct warm_note *ret_note, struct err *err);

/* --- at home: which there are ---------------------------------------------------------------- */

struct overflow;
struct cloud_task;
struct folder_result;

/* The task's execution stays, as its result says. */
void warm_keep(const struct cloud_task *task, const struct folder_result *result);
/* Gives the task to an execution that stays for its session. 1: its name is in the placement; 0:
 * there is none. */
int warm_give(struct cloud_task *task);
void warm_forget_all(struct overflow *overflow);

#endif
