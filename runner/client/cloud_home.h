/*
 * --cloud: straight to Cloud Run Jobs, with no runner anywhere.
 *
 * Theory of operation. What places a task in the cloud, follows it, finds it again after a crash
 * and brings its outputs home is the runner's own (runner/overflow). So --cloud starts a runner of
 * its own, beside us, on a free port of this machine, under a secret that nobody else knows, with
 * its state in a folder that is kept with the results; it ends with us, whatever ends us:
 *
 *     batch --cloud ──HTTP──> claude-runner attached ──> bucket, KMS, Cloud Run
 *                             state in DIR/.cloud (root's in /var/tmp)
 *
 * After kill -9 the next one waits for that runner to be gone and takes up DIR/.cloud: executions
 * that went on are adopted, and the Idempotency-Keys of the batch find their tasks. Nothing of a
 * task runs on this machine: each request says executor "cloud", and what cannot go there is
 * refused by name.
 *
 * Google's variables are a runner's (GCP_PROJECT_ID, CLOUDRUN_JOB_NAME, GCS_LOGS_BUCKET, …): from
 * the environment, or from ~/.config/claude-runner/cloud.env.
 *
 * Threads: one. The thread that opens it must live as long as it does: the runner ends with it.
 */
#ifndef CLIENT_CLOUD_HOME_H
#define CLIENT_CLOUD_HOME_H

#include "runner/client/settings.h"

#include <sys/types.h>

struct cloud_home {
    pid_t pid; /* 0: none */
    char *dir; /* directory of its state */
    bool ours; /* dir is removed when it is closed */
    char name[200];
};

/* Checks that Google's variables are set. ERR_CONFIG names the missing ones; with a cloud.env the
 * runner itself reports them. */
int cloud_home_check(struct err *err);
/* Starts the runner with its state in dir/.cloud (dir NULL: a temporary directory), and fills
 * to->url and to->secret. */
int cloud_home_open(struct cloud_home *home, const char *dir, struct settings *to, struct err *err);
/* Ends the runner. over: everything is done, so its state is removed. */
void cloud_home_close(struct cloud_home *home, bool over);

#endif
