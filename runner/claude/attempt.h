/*
 * One run of a task of kind "claude", from its set-up to its outcome. Private to runner/claude.
 *
 * Threads: the task's own. Ownership: an attempt owns what its fields do not call borrowed.
 */
#ifndef CLAUDE_ATTEMPT_H
#define CLAUDE_ATTEMPT_H

#include "runner/claude/claude.h"
#include "runner/claude/stream_json.h"
#include "runner/inputs/layers.h"
#include "runner/request/request.h"
#include "runner/work/work.h"

struct attempt {
    struct task_run *run;
    const struct claude *claude;
    struct task_request *request;
    struct workspace *workspace; /* NULL: a task without a repository */
    struct input_layers *inputs; /* NULL: none */
    struct gitgate_pass *pass;   /* for git in the workspace; NULL without a repository */
    struct session_guest *guest; /* NULL: it does not work in a session */
    uid_t user;                  /* the user that the session lends; 0: none */
    int wake_fd;                 /* borrowed: readable when a wait for its programs must check for a
                                  * stop */
    struct walls_run places;     /* paths of its files; borrowed from the run and the guest */
    struct plan *plan;
    struct tail out;
    struct tail errors;
    struct claude_output stream;
    struct lease *lease;
    struct egress_gate *gate; /* NULL: the jails have the host's network */
    const char *failed_step;  /* the task's reason when it could not be started; NULL: cli_error */
    struct buf members;       /* members of the answer that are known before it ran */
    int64_t started_ms;       /* mono: its time limit counts from here */
    int64_t files_ms;         /* real, by the file system's clock: before any of its programs ran */
    bool unflushed;           /* there are events that readers have not been told of */
    struct work_result result;
};

/* claude.c: what can end its programs: a cancel, the runner, or the end of its session. */
struct work_stop attempt_stop(struct attempt *attempt);

/* judge.c: sets *outcome for a run that was launched. */
void judge(struct attempt *attempt, struct task_outcome *outcome);
/* judge.c: sets *outcome for a run that could not be launched, because of *err. */
void judge_failed_start(const struct attempt *attempt, const struct err *err,
                        struct task_outcome *outcome);

#endif
