/*
 * Google's side of a test: the stand-in for its APIs (tests/doubles/google_api.c says what it can
 * be told), with a project in it, that really runs executions.
 */
#ifndef TESTLIB_CLOUD_H
#define TESTLIB_CLOUD_H

#include "runner.h"

#define CLOUD_PROJECT "stand-in"
#define CLOUD_REGION "us-central1"
#define CLOUD_LOCATION "projects/" CLOUD_PROJECT "/locations/" CLOUD_REGION
#define CLOUD_ACCOUNT "runner@" CLOUD_PROJECT ".iam.gserviceaccount.com" /* the key file's */
#define CLOUD_JOB_ACCOUNT "job@" CLOUD_PROJECT ".iam.gserviceaccount.com"

/* What cloud_furnish() makes. */
#define CLOUD_BUCKET "runner-logs"
#define CLOUD_JOB "claude-runner"
#define CLOUD_JOB_NAME CLOUD_LOCATION "/jobs/" CLOUD_JOB
#define CLOUD_KEY_RING "runner"
#define CLOUD_KEY "payload"
#define CLOUD_KEY_NAME                                                                   \
    "projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING "/cryptoKeys" \
    "/" CLOUD_KEY
#define CLOUD_SECRET "anthropic-api-key"

/* Accepted besides those that the token endpoint gives. */
#define CLOUD_TOKEN "ya29.test-token"

struct cloud {
    struct api *api; /* NULL while it is killed */
    char *base;      /* http://127.0.0.1:PORT; the same after cloud_restart() */
    char *dir;
    char *state;     /* its folder */
    char *key_file;  /* a service account's, which asks the stand-in for tokens */
    char *user_file; /* an authorized user's */
    char *args[64];
};

/* Starts it. Executions run `job_program job` (NULL: they fail to start) with what Cloud Run gives
 * them and the NAME=VALUEs of `job_env`, which ends with NULL (or is NULL). */
struct cloud *cloud_new(const char *job_program, const char *const *job_env);
/* The same, furnished, where this shell script stands for the job program. */
struct cloud *cloud_new_script(const char *script, const char *const *job_env);
/* Ends it, and everything that it runs. */
void cloud_free(struct cloud *cloud);

/* SIGKILL: executions go on. Then again, where it was. */
void cloud_kill(struct cloud *cloud);
void cloud_restart(struct cloud *cloud);

/* Makes what a set-up makes: bucket, key, the job's account, a secret (whose value is this), and
 * the job: one hour, no retries. */
void cloud_furnish(struct cloud *cloud, const char *secret);

/* Tells a runner that is not yet started where Google is and what it is called there. */
void cloud_use(const struct cloud *cloud, struct runner *runner);

/* Gives the job the variables of a runner, but what only a service needs. */
void cloud_define_job(const struct cloud *cloud, const struct runner *runner);

/* One request with CLOUD_TOKEN; body is JSON or NULL. */
struct reply *cloud_call(const struct cloud *cloud, const char *method, const char *path,
                         const char *body);

/* POST /_control. */
void cloud_control(const struct cloud *cloud, const char *json);
/* GET /_state. */
cJSON *cloud_state(const struct cloud *cloud);
/* The requests of this method ("run.projects.locations.jobs.run"; NULL: of any) that hold the text
 * (NULL: any), oldest first. */
cJSON *cloud_log(const struct cloud *cloud, const char *id, const char *contains);
/* How many those are. */
size_t cloud_count(const struct cloud *cloud, const char *id, const char *contains);

#endif
