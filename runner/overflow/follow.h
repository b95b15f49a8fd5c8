/*
 * Following an execution beside its events: whether it lives, whether its time is over, and asking
 * it to end. Private to runner/overflow.
 *
 * Theory of operation. Three witnesses say that work goes on: the pieces of its events, Cloud Run,
 * and the heartbeat in the bucket. While Cloud Run says that the execution runs and the heartbeat
 * moves, whatever is missing is still to come: a job hands in its outputs and its result after its
 * last event, and that takes as long as it takes. An execution whose heartbeat stands still is
 * asked to end, which makes it hand in what it has.
 *
 * Threads: the task's own.
 */
#ifndef OVERFLOW_FOLLOW_H
#define OVERFLOW_FOLLOW_H

#include "runner/overflow/cloud_task.h"

/* Call before the first look. */
void cloud_task_follow(struct cloud_task *task);

/* Looks when a look is due, and asks the execution to end once nobody wants it any more or its time
 * is over. True when it was asked to end and had the time for it; task->ended says that Cloud Run
 * has reported its end. */
bool cloud_task_look(struct cloud_task *task);

/* Says that a piece of its events has arrived, so it is alive. */
void cloud_task_seen_alive(struct cloud_task *task);

/* Says that the last event has arrived: from now on only looks show anything. */
void cloud_task_follow_closely(struct cloud_task *task);

#endif
