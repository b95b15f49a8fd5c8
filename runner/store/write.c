/* Writing, each change in a transaction that is on disk when the function returns. */
#include "base/clock.h"
#include "runner/store/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct add {
    struct store *store;
    const struct task_new *task;
    struct task_record *record;
    bool *created;
};

/* 1 when the key was used before: then the record is that task's. */
static int find_by_key(struct db *db, const struct add *add, struct err *err)
{
    const struct task_new *task = add->task;
    size_t len;
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT body_hash, task_id FROM idempotency WHERE key=?", "s",
                 task->idempotency_key);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got != 1)
        return got;
    const void *hash = db_blob(stmt, 0, &len);
    if (len != task->body_hash_len || memcmp(hash, task->body_hash, len) != 0)
        return err_set(err, ERR_CONFLICT,
                       "this Idempotency-Key was used before with another request");
    return store_read_task(db, db_text(stmt, 1), add->record, err) ? -1 : 1;
}

/* A conversation belongs to one task at a time, from its submission to its end. */
static int check_conversation(struct db *db, const char *conversation, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err,
                 "SELECT max(session_kept), max(CASE WHEN " SQL_ACTIVE " THEN id END) FROM tasks"
                 " WHERE session=? AND session<>''",
                 "s", conversation);
    if (!stmt || db_step(stmt, err) < 0)
        return -1;
    const char *user = db_text(stmt, 1);
    if (user)
        return err_set(err, ERR_CONFLICT, "the session '%s' is in use by the task '%s'",
                       conversation, user);
    if (!db_int(stmt, 0))
        return err_set(err, ERR_NOT_FOUND, "no task has left a session '%s'", conversation);
    return 0;
}

static int insert_task(struct db *db, const struct add *add, const char *id, struct err *err)
{
    const struct task_new *task = add->task;
    AUTO(buf) struct buf sealed = BUF_INIT(SECRETS_BYTES_MAX);
    if (task->secrets &&
        crypto_seal(add->store->key, id, task->secrets, strlen(task->secrets), &sealed, err))
        return -1;
    if (task->resume && check_conversation(db, task->conversation, err))
        return -1;
    if (db_run(db, err,
               "INSERT INTO tasks(id,kind,state,priority,created_ms,retry_interrupted,shared,spec,"
               "secrets,caller,request_id,session,session_kept,executor,stays)"
               " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
               "ssiiiiisbsssiis", id, task->kind, (int64_t)TASK_PENDING, (int64_t)task->priority,
               clock_real_ms(), (int64_t)task->retry_interrupted, (int64_t)task->shared,
               task->request, sealed.data, sealed.len, task->caller, task->request_id,
               task->conversation ? task->conversation : "", (int64_t)task->resume,
               (int64_t)task->executor, task->stays)) {
        if (err->code == ERR_CONFLICT)
            err_set(err, ERR_CONFLICT, "taskId '%s' is taken", id);
        return -1;
    }
    if (task->webhook_url && store_owe_webhook(add->store, db, task, id, err))
        return -1;
    if (!task->idempotency_key)
        return 0;
    return db_run(db, err, "INSERT INTO idempotency VALUES(?,?,?,?)", "sbsi", task->idempotency_key,
                  task->body_hash, task->body_hash_len, id, clock_real_ms());
}

static int add_in_db(struct db *db, void *arg, struct err *err)
{
    struct add *add = arg;
    char id[ID_SIZE];
    if (add->task->idempotency_key) {
        int found = find_by_key(db, add, err);
        if (found != 0) {
            *add->created = false;
            return found < 0 ? -1 : 0;
        }
    }
    if (add->task->id)
        snprintf(id, sizeof(id), "%s", add->task->id);
    else
        id_new(id);
    if (insert_task(db, add, id, err))
        return -1;
    *add->created = true;
    return store_read_task(db, id, add->record, err);
}

int store_add(struct store *store, const struct task_new *task, struct task_record *ret_record,
              bool *ret_created, struct err *err)
{
    struct task_record record = {0};
    bool created = false;
    struct add add = {store, task, &record, &created};
    if (db_write(store->writer, add_in_db, &add, err)) {
        task_record_done(&record);
        return -1;
    }
    *ret_record = record;
    *ret_created = created;
    return 0;
}

/* One UPDATE on one task; changed says whether it applied. */
struct change {
    const char *id;
    int64_t now_ms;
    const struct task_end *end;
    unsigned from;
    enum task_state to;
    enum task_place place;
    bool changed;
    bool owed; /* a webhook is due now */
};

static int run_change(struct store *store, db_write_fn *fn, struct change *change, struct err *err)
{
    if (db_write(store->writer, fn, change, err))
        return -1;
    return change->changed ? 1 : 0;
}

static int claim_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    if (db_run(db, err,
               "UPDATE tasks SET state=?, started_ms=?, attempts=attempts+1, place=?"
               " WHERE id=? AND " SQL_WAITING,
               "iiis", (int64_t)TASK_RUNNING, change->now_ms, (int64_t)change->place, change->id))
        return -1;
    change->changed = db_changes(db) == 1;
    return 0;
}

int store_claim(struct store *store, const char *id, enum task_place place, int64_t now_ms,
                struct err *err)
{
    struct change change = {.id = id, .place = place, .now_ms = now_ms};
    return run_change(store, claim_in_db, &change, err);
}

static int end_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    const struct task_end *end = change->end;
    if (db_run(db, err,
               "UPDATE tasks SET state=?, reason=?, summary=?, ended_ms=?,"
               " session_kept=session_kept | ?, secrets=NULL WHERE id=? AND " SQL_ACTIVE
               " AND (? >> state) & 1",
               "issiisi", (int64_t)end->state, end->reason, end->summary, end->now_ms,
               (int64_t)end->conversation_kept, change->id, (int64_t)change->from))
        return -1;
    change->changed = db_changes(db) == 1;
    if (!change->changed)
        return 0;
    if (store_make_webhook_due(db, change->id, end->now_ms, &change->owed, err))
        return -1;
    if (!end->output)
        return 0;
    return db_run(db, err, "INSERT OR REPLACE INTO outputs VALUES(?,?)", "sb", change->id,
                  end->output, end->output_len);
}

int store_end(struct store *store, const char *id, unsigned from, const struct task_end *end,
              struct err *err)
{
    struct change change = {.id = id, .from = from, .end = end};
    int rc = run_change(store, end_in_db, &change, err);
    if (rc == 1 && change.owed)
        store_tell_webhook(store);
    return rc;
}

static int requeue_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    if (db_run(db, err, "UPDATE tasks SET state=?, started_ms=0, place=0 WHERE id=? AND state=?",
               "isi", (int64_t)change->to, change->id, (int64_t)TASK_RUNNING))
        return -1;
    change->changed = db_changes(db) == 1;
    return 0;
}

int store_requeue(struct store *store, const char *id, enum task_state state, struct err *err)
{
    struct change change = {.id = id, .to = state};
    return run_change(store, requeue_in_db, &change, err);
}

static int pause_in_db(struct db *db, void *arg, struct err *err)
{
    const struct change *change = arg;
    return db_run(db, err,
                  "UPDATE tasks SET state=?1 WHERE " SQL_WAITING " AND state<>?1 AND shared=1", "i",
                  (int64_t)change->to);
}

int store_pause(struct store *store, enum task_state state, struct err *err)
{
    struct change change = {.to = state};
    return db_write(store->writer, pause_in_db, &change, err);
}
