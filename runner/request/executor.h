/*
 * Where a task may run, as its caller asked. The numbers are stored.
 *
 * Threads: constants.
 */
#ifndef REQUEST_EXECUTOR_H
#define REQUEST_EXECUTOR_H

enum task_executor { EXECUTOR_AUTO, EXECUTOR_LOCAL, EXECUTOR_CLOUD };

#endif
