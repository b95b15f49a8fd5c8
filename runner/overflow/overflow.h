/*
 * Tasks that run in the cloud: placed exactly once, followed into the same events log, ended in the
 * same words as those at home.
 *
 * Theory of operation. overflow_run() is what the engine calls for a task in the cloud lane; the
 * task is claimed in the store by then. It goes straight down:
 *
 *     place   seal the request into the bucket, note in the store that an execution is asked for,
 *             ask for it. When the answer is lost, look: at the executions, at the claim in the
 *             bucket. Whoever writes the claim first has the attempt; when that is us, nobody will
 *             ever run it.
 *     relay   read the pieces of the job's events, in order, into the task's own log
 *     end     the result in the bucket, or what Cloud Run says of an execution that left none
 *     late    a task that was given up is finished all the same when its result comes (late.h)
 *
 * The process may end between any two steps. The next one adopts the task: the store says how far
 * placing had come, a file beside the events how far relaying.
 *
 * Threads: any.
 * Ownership: the caller of overflow_new() frees it by overflow_free(), and the tree of
 * overflow_outputs() by json_free(); cloud_copy_end() frees a copy.
 */
#ifndef OVERFLOW_OVERFLOW_H
#define OVERFLOW_OVERFLOW_H

#include "base/metric.h"
#include "runner/config/in_force.h"
#include "runner/inputs/inputs.h"
#include "runner/overflow/folder.h"
#include "runner/repo/repos.h"
#include "runner/request/request.h"
#include "runner/store/store.h"
#include "runner/task/engine.h"

#include <stdatomic.h>

/* What the service at Google knows of tasks that several instances see (runner/replica). */
struct overflow_shared {
    /* Another instance took the task; *ret_secrets: with secrets, which are not here. */
    bool (*adopted)(const char *id, int64_t *ret_created_ms, bool *ret_secrets, void *arg);
    /* Somebody has cancelled it. */
    bool (*cancelled)(const char *id, void *arg);
    /* There is an execution for it. */
    void (*placed)(const char *id, void *arg);
    void *arg;
};

struct overflow;

struct overflow_config {
    struct config_in_force *config; /* borrowed, as everything here */
    const struct cloud *cloud;
    struct store *store;
    struct engine *engine; /* its cloud lane is held when the cloud refuses */
    struct inputs *inputs; /* inputs of tasks, which are uploaded when needed */
    struct repos *repos;   /* provides the owner's credentials for a task's repository */
    const struct overflow_shared *shared; /* NULL: the tasks are ours alone */
};

struct overflow *overflow_new(const struct overflow_config *config, struct err *err);
void overflow_free(struct overflow *overflow);

/* From now on results that come after their task was given up are taken in. Call after
 * engine_start(). */
int overflow_start(struct overflow *overflow, struct err *err);

/* Before the first task: they are not ours alone. */
void overflow_share(struct overflow *overflow, const struct overflow_shared *shared);

/* How long after its end the result of a task that was given up may still come: 0, or a while when
 * its execution has ended, or days when that is not known. */
#define OVERFLOW_ENDED_MS 600000
int64_t overflow_late_ms(enum placement_phase phase);

/* The run() of an executor, for tasks of any kind; arg is a struct overflow. */
void overflow_run(struct task_run *run, struct task_outcome *outcome, void *arg);

/* Why a request of that kind cannot go to the cloud, as a static text, or NULL when it can. */
const char *overflow_stays(const struct config *config, const struct task_kind *kind,
                           const struct task_request *request);

struct overflow_status {
    bool reachable; /* false: the last attempts to use the cloud failed */
    char error[240];
    int64_t since_ms;               /* real */
    int64_t started, lost, refused; /* executions since the start */
    int64_t reused;                 /* tasks that a warm one took */
};
void overflow_status(struct overflow *overflow, struct overflow_status *ret_status);

/* Prints metrics; arg is a struct overflow, or NULL: then there are no samples. */
void overflow_metrics(struct metric_page *page, void *arg);

/* The outputs of a cloud task, [{"path","size"},…], from the list beside its events in keep_dir.
 * The caller frees the tree. NULL with ERR_NOT_FOUND when there is no list. */
struct json *overflow_outputs(const char *keep_dir, struct err *err);

/* The size of one output. ERR_NOT_FOUND when it is not listed. */
int overflow_find_output(const char *keep_dir, const char *path, int64_t *ret_size,
                         struct err *err);

/* Reads `len` bytes of an output from the bucket (-1: to its end, and then checks its checksum), on
 * the caller's thread, piece by piece. write() returns -1 to give up. */
struct overflow_sink {
    int (*write)(const char *data, size_t len, void *arg);
    void *arg;
};
int overflow_read(struct overflow *overflow, const char *id, const char *path, int64_t from,
                  int64_t len, const struct overflow_sink *sink, struct err *err);

/* Stores an output in keep_dir/outputs while it is sent to a caller: make the copy, feed it, and
 * end it with whether it is complete. After an error there simply is no copy. NULL when there is no
 * room. A thread of its own writes. */
struct cloud_copy;
struct cloud_copy *cloud_copy_new(const char *keep_dir, const char *path, int64_t size);
/* Waits until the piece before has been written, and has this one written: `data` is borrowed until
 * the next call. */
void cloud_copy_add(struct cloud_copy *copy, const char *data, size_t len);
/* Frees the copy; true when the output is stored here now. NULL is allowed. */
bool cloud_copy_end(struct cloud_copy *copy, bool whole);
/* Deletes an output, which is stored here, from the bucket. */
void overflow_drop(struct overflow *overflow, const char *id, const char *path);

#endif
