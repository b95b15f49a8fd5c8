/* Writes: each change is a transaction that is on disk when the function returns. */
#include "base/check.h"
#include "base/clock.h"
#include "runner/store/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct add {
    struct store *store;
    const struct task_new *tasks;
    size_t count;
    struct task_record *records; /* with room for count */
    bool created;
};

/* Puts a task of an earlier group at its index. */
static void put_record(struct task_record *record, void *arg)
{
    struct add *add = arg;
    if (record->run >= 0 && (size_t)record->run < add->count && !add->records[record->run].id[0])
        add->records[record->run] = *record;
    else
        task_record_done(record);
}

/* Returns 1 when the key was used before: then the records are of those tasks. */
static int find_by_key(struct db *db, struct add *add, struct err *err)
{
    const struct task_new *task = add->tasks;
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
    struct task_record first;
    if (!task->group) /* A key exists only as long as its task. */
        return store_read_task(db, db_text(stmt, 1), add->records, err) ? -1 : 1;
    if (store_read_task(db, db_text(stmt, 1), &first, err))
        return -1;
    int rc = store_read_group(db, first.group, put_record, add, err);
    task_record_done(&first);
    return rc ? -1 : 1;
}

/* Refuses a group name that is taken, as for a task's id. */
static int check_group(struct db *db, const char *group, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt = db_query(
        db, err,
        "SELECT 1 FROM tasks WHERE id=?1 UNION ALL SELECT 1 FROM tasks WHERE grp=?1 AND grp<>''"
        " LIMIT 1",
        "s", group);
    int got = stmt ? db_step(stmt, err) : -1;
    return got == 1 ? err_set(err, ERR_CONFLICT, "taskId '%s' is taken", group) : got;
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

static int insert_row(struct db *db, const struct task_new *task, const char *id,
                      const struct buf *sealed, struct task_record *ret_record, struct err *err)
{
    int64_t now_ms = clock_real_ms();
    AUTO(db_stmt)
    struct db_stmt *stmt = db_query(
        db, err,
        "INSERT INTO tasks(id,kind,state,priority,created_ms,retry_interrupted,shared,spec,"
        "secrets,caller,request_id,session,session_kept,executor,stays,grp,run,attempts,"
        "started_ms,place,not_before_ms) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        " RETURNING " RECORD_COLUMNS,
        "ssiiiiisbsssiissiiiii", id, task->kind,
        (int64_t)(task->claimed ? TASK_RUNNING : TASK_PENDING), (int64_t)task->priority,
        task->created_ms ? task->created_ms : now_ms, (int64_t)task->retry_interrupted,
        (int64_t)task->shared, task->request, sealed->data, sealed->len, task->caller,
        task->request_id, task->conversation ? task->conversation : "", (int64_t)task->resume,
        (int64_t)task->executor, task->stays, task->group ? task->group : "", (int64_t)task->run,
        (int64_t)task->claimed, task->claimed ? now_ms : INT64_C(0), (int64_t)PLACE_HERE,
        task->not_before_ms);
    if (!stmt || db_step(stmt, err) != 1)
        return -1;
    store_read_record(stmt, ret_record);
    return 0;
}

static int insert_task(struct db *db, const struct add *add, const struct task_new *task,
                       const char *id, struct task_record *ret_record, struct err *err)
{
    AUTO(buf) struct buf sealed = BUF_INIT(SECRETS_BYTES_MAX);
    if (task->secrets &&
        crypto_seal(add->store->key, id, task->secrets, strlen(task->secrets), &sealed, err))
        return -1;
    if (task->resume && check_conversation(db, task->conversation, err))
        return -1;
    if (insert_row(db, task, id, &sealed, ret_record, err)) {
        if (err->code == ERR_CONFLICT)
            err_set(err, ERR_CONFLICT, "taskId '%s' is taken", id);
        return -1;
    }
    if (task->webhook_url && store_owe_webhook(add->store, db, task, id, err))
        return -1;
    if (!task->idempotency_key || task->run > 0) /* The first task's key is the group's. */
        return 0;
    return db_run(db, err, "INSERT INTO idempotency VALUES(?,?,?,?)", "sbsi", task->idempotency_key,
                  task->body_hash, task->body_hash_len, id, clock_real_ms());
}

static int add_one(struct db *db, struct add *add, size_t index, struct err *err)
{
    char id[ID_SIZE];
    const struct task_new *task = &add->tasks[index];
    if (task->id)
        snprintf(id, sizeof(id), "%s", task->id);
    else
        id_new(id);
    return insert_task(db, add, task, id, &add->records[index], err);
}

static int add_in_db(struct db *db, void *arg, struct err *err)
{
    struct add *add = arg;
    if (add->tasks->idempotency_key) {
        int found = find_by_key(db, add, err);
        if (found != 0)
            return found < 0 ? -1 : 0;
    }
    if (add->tasks->group && !add->tasks->created_ms && check_group(db, add->tasks->group, err))
        return -1;
    if (add->tasks->room && store_check_room(db, add->tasks, add->count, err))
        return -1;
    for (size_t i = 0; i < add->count; i++)
        if (add_one(db, add, i, err))
            return -1;
    add->created = true;
    return 0;
}

int store_add_group(struct store *store, const struct task_new *tasks, size_t count,
                    struct task_record *ret_records, bool *ret_created, struct err *err)
{
    REQUIRE(count > 0);
    struct add add = {.store = store, .tasks = tasks, .count = count};
    add.records = calloc(count, sizeof(*add.records));
    if (!add.records)
        return err_sys(err, "task");
    int rc = db_write(store->writer, add_in_db, &add, err);
    for (size_t i = 0; i < count; i++) {
        if (rc)
            task_record_done(&add.records[i]);
        else
            ret_records[i] = add.records[i];
    }
    free(add.records);
    if (rc == 0)
        *ret_created = add.created;
    return rc;
}

int store_add(struct store *store, const struct task_new *task, struct task_record *ret_record,
              bool *ret_created, struct err *err)
{
    return store_add_group(store, task, 1, ret_record, ret_created, err);
}

/* One UPDATE of one task; `changed` says whether it applied. */
struct change {
    const char *id;
    int64_t now_ms;
    const struct task_end *end;
    unsigned from;
    enum task_state to;
    enum task_place place;
    struct task_record *record; /* NULL: not wanted */
    struct buf *sealed;
    bool refused; /* the task was not begun */
    bool changed;
    bool owed; /* a webhook is due now */
};

static int run_change(struct store *store, db_write_fn *fn, struct change *change, struct err *err)
{
    if (db_write(store->writer, fn, change, err))
        return -1;
    return change->changed ? 1 : 0;
}

/* Claims a task and returns its row and secrets, so that nobody has to read them again. */
static int claim_in_db(struct db *db, void *arg, struct err *err)
{
    size_t len;
    struct change *change = arg;
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err,
                 "UPDATE tasks SET state=?, started_ms=?, attempts=attempts+1, place=?"
                 " WHERE id=? AND " SQL_WAITING " RETURNING " RECORD_COLUMNS ",secrets",
                 "iiis", (int64_t)TASK_RUNNING, change->now_ms, (int64_t)change->place, change->id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got < 0)
        return -1;
    change->changed = got == 1;
    if (!change->changed || !change->record)
        return 0;
    const void *sealed = db_blob(stmt, RECORD_COLUMN_COUNT, &len);
    buf_clear(change->sealed);
    if (buf_add(change->sealed, sealed, len))
        return buf_check(change->sealed, "the task's secrets", err);
    store_read_record(stmt, change->record);
    return 0;
}

int store_claim(struct store *store, const char *id, enum task_place place, int64_t now_ms,
                struct task_record *ret_record, struct buf *sealed, struct err *err)
{
    REQUIRE(place < PLACE_COUNT && (sealed || !ret_record));
    struct task_record record = {0};
    struct change change = {.id = id,
                            .place = place,
                            .now_ms = now_ms,
                            .record = ret_record ? &record : NULL,
                            .sealed = sealed};
    int rc = run_change(store, claim_in_db, &change, err);
    if (rc == 1 && ret_record)
        *ret_record = record;
    else
        task_record_done(&record);
    return rc;
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
    return db_run(db, err, "INSERT OR REPLACE INTO outputs(task_id,body,errors) VALUES(?,?,?)",
                  "sbb", change->id, end->output, end->output_len, end->errors, end->errors_len);
}

int store_end(struct store *store, const char *id, unsigned from, const struct task_end *end,
              struct err *err)
{
    REQUIRE(task_state_in(end->state, TASK_ENDED_STATES));
    struct change change = {.id = id, .from = from, .end = end};
    int rc = run_change(store, end_in_db, &change, err);
    if (rc == 1 && change.owed)
        store_tell_webhook(store);
    if (rc == 1 && store->ended)
        store->ended(id, store->ended_arg);
    return rc;
}

static int requeue_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    if (db_run(db, err,
               "UPDATE tasks SET state=?, started_ms=0, place=0, attempts=attempts-?"
               " WHERE id=? AND state=?",
               "iisi", (int64_t)change->to, (int64_t)change->refused, change->id,
               (int64_t)TASK_RUNNING))
        return -1;
    change->changed = db_changes(db) == 1;
    return 0;
}

int store_requeue(struct store *store, const char *id, enum task_state state, struct err *err)
{
    REQUIRE(task_state_in(state, TASK_WAITING_STATES));
    struct change change = {.id = id, .to = state};
    return run_change(store, requeue_in_db, &change, err);
}

int store_refuse(struct store *store, const char *id, struct err *err)
{
    struct change change = {.id = id, .to = TASK_PENDING, .refused = true};
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
    REQUIRE(task_state_in(state, TASK_WAITING_STATES));
    struct change change = {.to = state};
    return db_write(store->writer, pause_in_db, &change, err);
}
