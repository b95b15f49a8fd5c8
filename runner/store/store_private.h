/*
 * The open store and its connections, shared by the files of this room. Private to runner/store.
 *
 * Threads: any for functions that take a struct store; a function that takes a struct db runs
 * inside that connection's transaction, on its thread. Ownership: the store owns its connections;
 * store_reader_take() lends one until store_reader_give().
 */
#ifndef STORE_INSIDE_H
#define STORE_INSIDE_H

#include "crypto/crypto.h"

#include "base/lock.h"
#include "db/db.h"
#include "runner/store/store.h"

#include <pthread.h>

/* Sets of states as conditions on the column `state`, made from the table of states. */
#define SQL_IF_WAITING_WAITING(number) #number ","
#define SQL_IF_WAITING_RUNNING(number)
#define SQL_IF_WAITING_ENDED(number)
#define SQL_IF_ACTIVE_WAITING(number) #number ","
#define SQL_IF_ACTIVE_RUNNING(number) #number ","
#define SQL_IF_ACTIVE_ENDED(number)
#define SQL_IF_ENDED_WAITING(number)
#define SQL_IF_ENDED_RUNNING(number)
#define SQL_IF_ENDED_ENDED(number) #number ","
#define SQL_WAITING_ROW(name, number, wire, phase) SQL_IF_WAITING_##phase(number)
#define SQL_ACTIVE_ROW(name, number, wire, phase) SQL_IF_ACTIVE_##phase(number)
#define SQL_ENDED_ROW(name, number, wire, phase) SQL_IF_ENDED_##phase(number)
/* -1 is not a state: it follows the last comma. */
#define SQL_WAITING "state IN (" TASK_STATES(SQL_WAITING_ROW) "-1)"
#define SQL_ACTIVE "state IN (" TASK_STATES(SQL_ACTIVE_ROW) "-1)"
#define SQL_ENDED "state IN (" TASK_STATES(SQL_ENDED_ROW) "-1)"

#define READERS_MAX 4 /* at once; further callers wait, READER_WAIT_MS at most */
#define READER_WAIT_MS 1000
#define SECRETS_BYTES_MAX (4u << 20)

struct store {
    struct db_writer *writer;
    char *path;
    char instance[ID_SIZE];
    unsigned char key[CRYPTO_KEY_SIZE];
    struct lock lock; /* guards the readers */
    pthread_cond_t returned;
    struct db *readers[READERS_MAX]; /* the idle ones */
    size_t reader_count;
    int taken;
    void (*webhook_due)(void *arg); /* of store_on_webhook() */
    void *webhook_arg;
    void (*ended)(const char *id, void *arg); /* of store_on_end() */
    void *ended_arg;
};

/* The columns that store_read_record() reads, in its order. */
#define RECORD_COLUMNS                                                                       \
    "seq,id,kind,state,reason,priority,attempts,created_ms,started_ms,ended_ms,"             \
    "retry_interrupted,shared,spec,summary,caller,request_id,session,session_kept,executor," \
    "place,stays,grp,run,not_before_ms"
#define RECORD_COLUMN_COUNT 24

void store_read_record(struct db_stmt *stmt, struct task_record *record);

/* Reads one task through this connection, inside its transaction. ERR_NOT_FOUND. */
int store_read_task(struct db *db, const char *id, struct task_record *ret_record, struct err *err);

/* Calls fn for each task of a group, by index. */
int store_read_group(struct db *db, const char *group,
                     void (*fn)(struct task_record *record, void *arg), void *arg, struct err *err);

/* Lend a connection for reading, and take it back. They are few and stay open: SQLite keeps the
 * descriptors of closed ones as long as any connection of the process holds a lock. */
struct db *store_reader_take(struct store *store, struct err *err);
void store_reader_give(struct store *store, struct db *db);

/* Appends the first column of a query's rows, and frees the query. NULL, a query that failed, gives
 * -1 with its err. */
int store_read_ids(struct db_stmt *owned, struct strlist *ids, struct err *err);

/* Adds the webhook of a new task, inside its transaction; it waits for the task's end. */
int store_owe_webhook(struct store *store, struct db *db, const struct task_new *task,
                      const char *task_id, struct err *err);

/* Makes the webhook of an ended task wait for another end, under a new id: receivers take messages
 * of one id for the same. */
int store_renew_webhook(struct store *store, struct db *db, const char *task_id, struct err *err);

/* Makes the webhook of a task due that ends in this transaction; *ret_owed says whether there is
 * one. */
int store_make_webhook_due(struct db *db, const char *task_id, int64_t now_ms, bool *ret_owed,
                           struct err *err);

/* Call after that transaction: calls the function of store_on_webhook(). */
void store_tell_webhook(struct store *store);

/* Whether the caller of `task` has room for `count` more (by_caller.c). ERR_RATE when not. */
int store_check_room(struct db *db, const struct task_new *task, size_t count, struct err *err);

#endif
