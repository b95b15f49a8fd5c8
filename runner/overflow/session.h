/*
 * What a cloud task leaves in the bucket, and under which names: the meeting place of the runner at
 * home (overflow.h) and of `claude-runner job` (runner/worker), which never talk otherwise.
 *
 *     sessions/ID/payload.enc        the sealed request (payload.h); gone once it has been opened
 *     sessions/ID/claim-N.json       who may run attempt N: written once, by the job that starts,
 * or by the home that gives the attempt up; whoever comes second does nothing
 *     sessions/ID/metadata.json      what runs it: execution, attempt, version, when it began
 *     sessions/ID/heartbeat.json     written anew every HEARTBEAT_MS while it runs
 *     sessions/ID/events/OFFSET      pieces of the job's own events file, whole events, each named
 * by the offset at which it begins (20 digits): the next name is known sessions/ID/outputs/PATH
 * what is kept of its files sessions/ID/result.json        how it ended (result.h); nothing comes
 * after it
 *
 * Threads: no state.
 */
#ifndef OVERFLOW_SESSION_H
#define OVERFLOW_SESSION_H

#include "base/buf.h"
#include "base/err.h"
#include "google/google.h"
#include "runner/config/config.h"

#include <stdint.h>

#define SESSION_NAME_SIZE 256
#define SESSION_CHUNK_BYTES (256u << 10) /* a piece of events is sent once it is so long, … */
#define SESSION_CHUNK_MS 1000            /* … or so old */
#define SESSION_HEARTBEAT_MS 30000

/* In the environment of an execution: all that it gets from home without the payload. */
#define SESSION_ENV_TASK "TASK_ID"
#define SESSION_ENV_ATTEMPT "TASK_ATTEMPT"

void session_name(const char *id, const char *what, char ret_name[SESSION_NAME_SIZE]);
void session_claim_name(const char *id, int attempt, char ret_name[SESSION_NAME_SIZE]);
void session_events_name(const char *id, int64_t offset, char ret_name[SESSION_NAME_SIZE]);
/* Appends the name of an output. */
void session_output_name(const char *id, const char *path, struct buf *out);

/* The engine past this machine, as it is configured. */
struct cloud {
    struct google *google;
    char *bucket;
    char *key;            /* of KMS, its full name */
    char *job;            /* of Cloud Run, its full name */
    char *api_key_secret; /* its full name, or NULL */
};

/* The names from the configuration, and the credentials. ERR_CONFIG names every variable that is
 * missing. */
int cloud_open(const struct config *config, struct cloud *ret_cloud, struct err *err);
void cloud_close(struct cloud *cloud);

#endif
