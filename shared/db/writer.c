#include "db/db.h"

#include "base/check.h"
#include "base/lock.h"

#include <pthread.h>
#include <stdlib.h>

#define BATCH_MAX 256

struct job {
    db_write_fn *fn;
    void *arg;
    struct err *err;
    int rc;
    bool done;
    struct job *next;
};

struct db_writer {
    struct db *db;
    struct lock lock;
    pthread_cond_t changed;
    struct job *first;
    struct job **end;
    bool leading; /* somebody runs a batch, without the lock */
};

struct db_writer *db_writer_new(struct db *db)
{
    REQUIRE(db);
    struct db_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return NULL;
    writer->db = db;
    writer->end = &writer->first;
    lock_init(&writer->lock);
    pthread_cond_init(&writer->changed, NULL);
    return writer;
}

void db_writer_free(struct db_writer *writer)
{
    if (!writer)
        return;
    db_close(writer->db);
    pthread_cond_destroy(&writer->changed);
    lock_done(&writer->lock);
    free(writer);
}

/* False when the transaction has ended unexpectedly: then nothing of it may be committed. */
static bool run_job(struct db *db, struct job *job)
{
    struct err ignored;
    if (db_exec(db, "SAVEPOINT job", job->err)) {
        job->rc = -1;
        return db_in_transaction(db);
    }
    job->rc = job->fn(db, job->arg, job->err);
    if (!db_in_transaction(db)) /* a full disk ends the transaction, not the statement */
        return false;
    if (job->rc < 0 && db_exec(db, "ROLLBACK TO job", &ignored))
        return false;
    return db_exec(db, "RELEASE job", &ignored) == 0;
}

static void fail_all(struct job *batch, const struct err *err)
{
    for (struct job *job = batch; job; job = job->next) {
        if (job->rc < 0)
            continue;
        job->rc = -1;
        *job->err = *err;
    }
}

static void run_batch(struct db *db, struct job *batch)
{
    struct err err, ignored;
    static const struct err lost = {ERR_INTERNAL, 0, "database: the transaction was lost"};
    if (db_exec(db, "BEGIN IMMEDIATE", &err)) {
        fail_all(batch, &err);
        return;
    }
    for (struct job *job = batch; job; job = job->next) {
        if (run_job(db, job))
            continue;
        if (db_in_transaction(db))
            db_exec(db, "ROLLBACK", &ignored);
        fail_all(batch, job->rc < 0 ? job->err : &lost);
        return;
    }
    if (db_exec(db, "COMMIT", &err)) {
        fail_all(batch, &err);
        db_exec(db, "ROLLBACK", &ignored);
    }
}

static struct job *take_batch_locked(struct db_writer *writer) HOLDS(writer->lock);
static struct job *take_batch_locked(struct db_writer *writer)
{
    struct job *batch = writer->first, **cut = &writer->first;
    for (int i = 0; i < BATCH_MAX && *cut; i++)
        cut = &(*cut)->next;
    writer->first = *cut;
    *cut = NULL;
    if (!writer->first)
        writer->end = &writer->first;
    return batch;
}

static void lead_locked(struct db_writer *writer) HOLDS(writer->lock);
static void lead_locked(struct db_writer *writer)
{
    struct job *batch = take_batch_locked(writer);
    writer->leading = true;
    lock_drop(&writer->lock);
    run_batch(writer->db, batch);
    lock_take(&writer->lock);
    writer->leading = false;
    while (batch) {
        struct job *next = batch->next; /* The owner of a finished job may return at once and free
                                         * it. */
        batch->done = true;
        batch = next;
    }
    pthread_cond_broadcast(&writer->changed);
}

int db_write(struct db_writer *writer, db_write_fn *fn, void *arg, struct err *err)
{
    REQUIRE(fn);
    struct job job = {.fn = fn, .arg = arg, .err = err};
    lock_take(&writer->lock);
    *writer->end = &job;
    writer->end = &job.next;
    while (!job.done) {
        if (writer->leading)
            pthread_cond_wait(&writer->changed, &writer->lock.mutex);
        else
            lead_locked(writer);
    }
    lock_drop(&writer->lock);
    return job.rc;
}
