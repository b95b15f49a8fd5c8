/*
 * Cloud Run v2: executions of one job. `job` is projects/P/locations/L/jobs/J; an execution's name
 * begins with it.
 *
 * Threads: any.
 */
#ifndef GOOGLE_JOBS_H
#define GOOGLE_JOBS_H

#include "google/google.h"

#define RUN_NAME_SIZE 512

/* jobs.run has no request id: asked twice it runs twice. So it is never asked again by itself. */
struct jobs_start {
    const char *const *env; /* NAME=VALUE, ends with NULL; merged over the job's own */
    int timeout_s;          /* 0: the job's */
};
/* Starts an execution; its name goes to ret_name. After a failure *ret_unsure says that it may have
 * been started all the same: look with jobs_find(). */
int jobs_start(struct google *google, const char *job, const struct jobs_start *start,
               char ret_name[RUN_NAME_SIZE], bool *ret_unsure, struct err *err);

enum jobs_state { RUN_PENDING, RUN_RUNNING, RUN_SUCCEEDED, RUN_FAILED, RUN_CANCELLED };

struct jobs_execution {
    char name[RUN_NAME_SIZE];
    enum jobs_state state;
    char reason[64];    /* of its Completed condition: NON_ZERO_EXIT_CODE, … or "" */
    char message[240];  /* the same's words */
    int64_t created_ms; /* 0: not said; so the next two */
    int64_t started_ms;
    int64_t ended_ms;
    double cpu; /* limits of its container, 0: not said */
    int64_t memory_bytes;
};

int jobs_get(struct google *google, const char *execution, struct jobs_execution *ret_execution,
             struct err *err);

/* The executions of a job whose environment has NAME=VALUE, newest first: calls fn for each until
 * it returns non-zero. Those created before since_ms are not looked at (0: all). */
int jobs_find(struct google *google, const char *job, const char *name, const char *value,
              int64_t since_ms, int (*fn)(const struct jobs_execution *execution, void *arg),
              void *arg, struct err *err);

/* Asks an execution to end. 0 also when it has already. */
int jobs_cancel(struct google *google, const char *execution, struct err *err);

/* The exit code of an execution's task, or -1 when it is not said. */
int jobs_exit_code(struct google *google, const char *execution, int *ret_code, struct err *err);

/* The job's definition as JSON. ERR_NOT_FOUND. */
int jobs_job_get(struct google *google, const char *job, struct json **ret_job, struct err *err);
/* Creates it, or changes what is there, and waits until that is done. */
int jobs_job_put(struct google *google, const char *job, const char *definition, size_t len,
                 bool exists, struct err *err);

/* Kubernetes' quantities: "1", "500m", "2Gi", "512M", "1e3". -1 for something else. */
int jobs_quantity(const char *text, double *ret_value);

#endif
