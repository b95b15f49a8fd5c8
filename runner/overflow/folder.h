/*
 * What a cloud task leaves in the bucket, and under which names: the meeting place of the runner at
 * home (overflow.h) and of `claude-runner job` (runner/worker), which never talk otherwise.
 *
 *     sessions/ID/
 *         payload.enc        the sealed request (payload.h); gone once it has been opened
 *         claim-N.json       who may run attempt N. Written once: by the job that starts, or by the
 *                            home that gives the attempt up. Whoever comes second does nothing
 *         metadata.json      what runs it: execution, attempt, version, when it began
 *         heartbeat.json     written anew every FOLDER_HEARTBEAT_MS while it runs. When another
 *                            has written it, or it has been deleted, the job ends itself and
 *                            writes nothing more
 *         events/OFFSET      pieces of the job's own events file, whole events, each named by the
 *                            offset at which it begins (20 digits): so the next name is known
 *         outputs/PATH       what is kept of its files
 *         before.tgz         the conversation that the task goes on with (travel.h)
 *         conversation.tgz   what it was at the task's end; gone once home has it
 *         outcome.json       what result.json is going to say, with the outputs that follow:
 *                            written before them, in case the execution dies meanwhile. Only of a
 *                            task that leaves outputs
 *         result.json        how it ended (result.h); no output comes after it
 *
 * Attempts of one task share these names: whoever starts attempt N+1 deletes first what attempt N
 * has left, and only after its execution has ended.
 *
 * Threads: no state.
 * Ownership: struct cloud owns its members; returned names are the caller's to free.
 */
#ifndef OVERFLOW_FOLDER_H
#define OVERFLOW_FOLDER_H

#include "base/buf.h"
#include "base/err.h"
#include "google/google.h"
#include "runner/config/config.h"

#include <stdint.h>

#define FOLDER_NAME_SIZE 256
#define FOLDER_CHUNK_BYTES                                                             \
    (256u << 10)             /* most bytes of a piece of events, unless it is one long \
                              * event */
#define FOLDER_CHUNK_MS 1000 /* time between two pieces that are shorter than that */
#define FOLDER_HEARTBEAT_MS 30000

/* Names directly below sessions/ID/: the `what` of folder_name(). */
#define FOLDER_PAYLOAD "payload.enc"
#define FOLDER_METADATA "metadata.json"
#define FOLDER_HEARTBEAT "heartbeat.json"
#define FOLDER_OUTCOME "outcome.json"
#define FOLDER_RESULT "result.json"
#define FOLDER_BEFORE "before.tgz"
#define FOLDER_CONVERSATION "conversation.tgz"

/* Variables of an execution: all that it gets from home besides the payload. */
#define FOLDER_ENV_TASK "TASK_ID"
#define FOLDER_ENV_ATTEMPT "TASK_ATTEMPT"
#define FOLDER_ENV_WEBHOOK "TASK_WEBHOOK" /* "1": the execution hands its webhook in */
#define FOLDER_ENV_CONVERSATION                                      \
    "TASK_CONVERSATION" /* the conversation's name; missing: none is \
                         * kept */

/* Makes a name. id_is_valid() must hold for `id`. With "" for `what` it is the prefix of all names
 * of a task. */
void folder_name(const char *id, const char *what, char ret_name[FOLDER_NAME_SIZE]);
void folder_claim_name(const char *id, int attempt, char ret_name[FOLDER_NAME_SIZE]);
void folder_events_name(const char *id, int64_t offset, char ret_name[FOLDER_NAME_SIZE]);
/* Appends the name of an output. */
void folder_output_name(const char *id, const char *path, struct buf *out);

/* The configured cloud. It owns its members; end it by cloud_close(). */
struct cloud {
    struct google *google;
    char *bucket;
    char *key;            /* of KMS, its full name */
    char *job;            /* of Cloud Run, its full name */
    char *api_key_secret; /* its full name, or NULL */
};

/* Google with the configured credentials and endpoints. The caller frees it by google_free(). */
struct google *cloud_google(const struct config *config, struct err *err);
/* A resource's full name, which the caller frees: as it was given, or completed with the project.
 * NULL when memory ran out. */
char *cloud_full_name(const char *name, const char *project, const char *kind);

/* Reads the names from the configuration, and the credentials. ERR_CONFIG names every variable that
 * is missing. */
int cloud_open(const struct config *config, struct cloud *ret_cloud, struct err *err);
void cloud_close(struct cloud *cloud);
static inline void auto_cloud(struct cloud *cloud)
{
    cloud_close(cloud);
}

#endif
