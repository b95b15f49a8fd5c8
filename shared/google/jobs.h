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

/* jobs.run has no request id: asked twice it runs twice. So it is never repeated automatically. */
struct jobs_start {
    const char *const *env; /* NAME=VALUE, ends with NULL; merged over the job's own */
    int timeout_s;          /* 0: the job's */
};
/* Starts an execution; ret_name gets its name. After a failure *ret_unsure says that it may have
 * been started nevertheless: look with jobs_find(). */
int jobs_start(struct google *google, const char *job, const struct jobs_start *start,
               char ret_name[RUN_NAME_SIZE], bool *ret_unsure, struct err *err);

enum jobs_state { RUN_PENDING, RUN_RUNNING, RUN_SUCCEEDED, RUN_FAILED, RUN_CANCELLED };

struct jobs_execution {
    char name[RUN_NAME_SIZE];
    enum jobs_state state;
    char reason[64];    /* of its Completed condition: NON_ZERO_EXIT_CODE, … or "" */
    char message[240];  /* that condition's message */
    int64_t created_ms; /* 0: not known; so the next two */
    int64_t started_ms;
    int64_t ended_ms;
    double cpu; /* limits of its container; 0: not known */
    int64_t memory_bytes;
};

int jobs_get(struct google *google, const char *execution, struct jobs_execution *ret_execution,
             struct err *err);

/* Calls fn for each execution of a job whose environment has NAME=VALUE, newest first, until fn
 * returns non-zero. Executions created before since_ms are skipped (0: none). */
int jobs_find(struct google *google, const char *job, const char *name, const char *value,
              int64_t since_ms, int (*fn)(const struct jobs_execution *execution, void *arg),
              void *arg, struct err *err);

/* Asks an execution to end. Returns 0 also when it has already ended. */
int jobs_cancel(struct google *google, const char *execution, struct err *err);

/* The exit code of an execution's task, or -1 when it is not known. */
int jobs_exit_code(struct google *google, const char *execution, int *ret_code, struct err *err);

/* The job's definition as JSON, which the caller frees. ERR_NOT_FOUND when there is no such job. */
int jobs_job_get(struct google *google, const char *job, struct json **ret_job, struct err *err);
/* Creates the job, or changes the existing one, and waits until that is done. */
int jobs_job_put(struct google *google, const char *job, const char *definition, size_t len,
                 bool exists, struct err *err);

/* Reads a quantity of Kubernetes: "1", "500m", "2Gi", "512M", "1e3". -1 for anything else. */
int jobs_quantity(const char *text, double *ret_value);

#endif
