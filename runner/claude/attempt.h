/*
 * One run of a task of kind "claude", from its set-up to its outcome. Private to runner/claude.
 *
 * Threads: the task's own. Ownership: an attempt owns what its fields do not call borrowed.
 */
#ifndef CLAUDE_ATTEMPT_H
#define CLAUDE_ATTEMPT_H

#include "runner/claude/claude.h"
#include "runner/claude/stream_json.h"
#include "runner/request/request.h"
#include "runner/work/work.h"

struct attempt {
    struct task_run *run;
    const struct claude *claude;
    struct task_request *request;
    struct workspace *workspace; /* NULL: a task without a repository */
    struct plan *plan;
    struct tail out;
    struct tail errors;
    struct claude_output stream;
    struct lease *lease;
    struct egress_gate *gate; /* NULL: the jails have the host's network */
    const char *failed_step;  /* the reason when it could not be started; NULL: cli_error */
    struct buf members;       /* of the answer, known before it ran */
    int64_t started_ms;       /* mono: from here its time limit counts */
    bool unflushed;           /* events that their readers have not been told of */
    struct work_result result;
};

/* judge.c: says in *outcome what came of a run that was launched … */
void judge(struct attempt *attempt, struct task_outcome *outcome);
/* … and of one that could not be, for the reason in *err. */
void judge_failed_start(const struct attempt *attempt, const struct err *err,
                        struct task_outcome *outcome);

#endif
