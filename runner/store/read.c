/* Reads, on connections of their own. */
#include "base/lock.h"
#include "runner/store/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes a connection. A caller that has waited READER_WAIT_MS gets an extra one: it may hold one
 * itself, and to wait on would be a deadlock. */
struct db *store_reader_take(struct store *store, struct err *err)
{
    struct db *db = NULL;
    bool patient = true;
    lock_take(&store->lock);
    while (store->taken >= READERS_MAX && patient)
        patient = lock_wait(&store->returned, &store->lock, READER_WAIT_MS);
    store->taken++;
    if (store->reader_count > 0)
        db = store->readers[--store->reader_count];
    lock_drop(&store->lock);
    if (!db && !(db = db_open(store->path, DB_READ, err)))
        store_reader_give(store, NULL);
    return db;
}

void store_reader_give(struct store *store, struct db *db)
{
    lock_take(&store->lock);
    store->taken--;
    if (db && store->reader_count < READERS_MAX) {
        store->readers[store->reader_count++] = db;
        db = NULL;
    }
    pthread_cond_signal(&store->returned);
    lock_drop(&store->lock);
    db_close(db);
}

int store_read_ids(struct db_stmt *owned, struct strlist *ids, struct err *err)
{
    AUTO(db_stmt) struct db_stmt *stmt = owned;
    int got = -1;
    while (stmt && (got = db_step(stmt, err)) == 1)
        if (strlist_add(ids, db_text(stmt, 0)))
            return err_sys(err, "tasks");
    return got;
}

static char *copy_text(struct db_stmt *stmt, int column)
{
    const char *text = db_text(stmt, column);
    return text ? strdup(text) : NULL;
}

void store_read_record(struct db_stmt *stmt, struct task_record *record)
{
    *record = (struct task_record){
        .seq = db_int(stmt, 0),
        .state = (enum task_state)db_int(stmt, 3),
        .priority = (int)db_int(stmt, 5),
        .attempts = (int)db_int(stmt, 6),
        .created_ms = db_int(stmt, 7),
        .started_ms = db_int(stmt, 8),
        .ended_ms = db_int(stmt, 9),
        .retry_interrupted = db_int(stmt, 10) != 0,
        .shared = db_int(stmt, 11) != 0,
        .request = copy_text(stmt, 12),
        .summary = copy_text(stmt, 13),
        .caller = copy_text(stmt, 14),
        .request_id = copy_text(stmt, 15),
        .executor = (enum task_executor)db_int(stmt, 18),
        .place = (enum task_place)db_int(stmt, 19),
        .stays = copy_text(stmt, 20),
        .conversation_kept = db_int(stmt, 17) != 0,
        .run = (int)db_int(stmt, 22),
        .not_before_ms = db_int(stmt, 23),
    };
    snprintf(record->id, sizeof(record->id), "%s", db_text(stmt, 1));
    snprintf(record->kind, sizeof(record->kind), "%s", db_text(stmt, 2));
    snprintf(record->reason, sizeof(record->reason), "%s", db_text(stmt, 4));
    snprintf(record->conversation, sizeof(record->conversation), "%s", db_text(stmt, 16));
    snprintf(record->group, sizeof(record->group), "%s", db_text(stmt, 21));
}

int store_read_group(struct db *db, const char *group,
                     void (*fn)(struct task_record *record, void *arg), void *arg, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt = db_query(
        db, err, "SELECT " RECORD_COLUMNS " FROM tasks WHERE grp=? AND grp<>'' ORDER BY run", "s",
        group);
    int got = stmt ? 1 : -1;
    while (stmt && (got = db_step(stmt, err)) == 1) {
        struct task_record record;
        store_read_record(stmt, &record);
        fn(&record, arg);
    }
    return got < 0 ? -1 : 0;
}

int store_read_task(struct db *db, const char *id, struct task_record *ret_record, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT " RECORD_COLUMNS " FROM tasks WHERE id=?", "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got < 0)
        return -1;
    if (got == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no task '%s'", id);
    store_read_record(stmt, ret_record);
    return 0;
}

int store_get(struct store *store, const char *id, struct task_record *ret_record, struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    int rc = store_read_task(db, id, ret_record, err);
    store_reader_give(store, db);
    return rc;
}

/* Appends one blob (or text) column of one row; nothing when there is no such row. */
static int read_blob(struct store *store, const char *sql, const char *id, struct buf *out,
                     struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(db, err, sql, "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got == 1) {
        size_t len;
        const void *data = db_blob(stmt, 0, &len);
        if (buf_add(out, data, len))
            got = buf_check(out, "what the task left", err);
    }
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

int store_secrets(struct store *store, const char *id, struct buf *out, struct err *err)
{
    AUTO(buf) struct buf sealed = BUF_INIT(SECRETS_BYTES_MAX);
    if (read_blob(store, "SELECT secrets FROM tasks WHERE id=?", id, &sealed, err))
        return -1;
    if (sealed.len == 0)
        return 0;
    return crypto_open(store->key, id, sealed.data, sealed.len, out, err);
}

int store_unseal(struct store *store, const char *id, const struct buf *sealed, struct buf *out,
                 struct err *err)
{
    return sealed->len == 0 ? 0 : crypto_open(store->key, id, sealed->data, sealed->len, out, err);
}

/* True when the row was sealed with another key. */
static bool is_unreadable(const struct store *store, struct db_stmt *stmt)
{
    struct err err;
    size_t len;
    AUTO(buf_wipe) struct buf open = BUF_INIT(SECRETS_BYTES_MAX);
    const void *sealed = db_blob(stmt, 1, &len);
    return crypto_open(store->key, db_text(stmt, 0), sealed, len, &open, &err) &&
           err.code == ERR_MISMATCH;
}

int store_unreadable(struct store *store, int (*fn)(const char *id, void *arg), void *arg,
                     struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(
        db, err, "SELECT id,secrets FROM tasks WHERE " SQL_WAITING " AND secrets IS NOT NULL", "");
    int got = stmt ? 1 : -1, stop = 0;
    while (!stop && stmt && (got = db_step(stmt, err)) == 1)
        stop = is_unreadable(store, stmt) && fn(db_text(stmt, 0), arg);
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

int store_output_start(struct store *store, const char *id, size_t max, struct buf *out,
                       int64_t *ret_whole, struct err *err)
{
    int64_t rowid = 0;
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, "SELECT rowid, length(body) FROM outputs WHERE task_id=?", "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    *ret_whole = 0;
    if (got == 1) {
        rowid = db_int(stmt, 0);
        *ret_whole = db_int(stmt, 1);
    }
    db_done(stmt);
    if (got == 1 && db_read_start(db, "outputs", "body", rowid, max, out, err))
        got = -1;
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

static int add_column(struct db_stmt *stmt, int column, struct buf *out, struct err *err)
{
    size_t len;
    const void *data = db_blob(stmt, column, &len);
    return buf_add(out, data, len) ? buf_check(out, "what the task left", err) : 0;
}

int store_output(struct store *store, const char *id, struct buf *output, struct buf *errors,
                 struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, "SELECT body, errors FROM outputs WHERE task_id=?", "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got == 1 &&
        (add_column(stmt, 0, output, err) || (errors && add_column(stmt, 1, errors, err))))
        got = -1;
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

#define WITH_MORE                                                                             \
    " AND (?6=0 OR EXISTS(SELECT 1 FROM webhooks w WHERE w.task_id=tasks.id AND w.state=?6))" \
    " AND (?7 IS NULL OR (grp=?7 AND grp<>''))"

int store_list(struct store *store, const struct store_filter *filter,
               int (*fn)(const struct task_record *record, void *arg), void *arg, struct err *err)
{
    static const char newest[] =
        "SELECT " RECORD_COLUMNS " FROM tasks WHERE (?1=0 OR (?1 >> state) & 1)"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4" WITH_MORE
        " ORDER BY seq DESC LIMIT ?5";
    static const char oldest[] =
        "SELECT " RECORD_COLUMNS " FROM tasks WHERE (?1=0 OR (?1 >> state) & 1)"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4" WITH_MORE
        " ORDER BY seq LIMIT ?5";
    static const char active[] =
        "SELECT " RECORD_COLUMNS " FROM tasks INDEXED BY tasks_by_state WHERE " SQL_ACTIVE
        " AND (?1 >> state) & 1"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4" WITH_MORE
        " ORDER BY seq LIMIT ?5";
    const char *sql = !filter->oldest_first                                       ? newest
                      : filter->states && !(filter->states & ~TASK_ACTIVE_STATES) ? active
                                                                                  : oldest;
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, sql, "isiiiis", (int64_t)filter->states, filter->kind, filter->before,
                 filter->after, (int64_t)filter->limit, (int64_t)filter->webhook, filter->group);
    int got = stmt ? 1 : -1, stop = 0;
    while (!stop && stmt && (got = db_step(stmt, err)) == 1) {
        AUTO(task_record) struct task_record record;
        store_read_record(stmt, &record);
        stop = fn(&record, arg);
    }
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

int store_has_conversation(struct store *store, const char *conversation, struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(
        db, err, "SELECT 1 FROM tasks WHERE session=? AND session<>'' LIMIT 1", "s", conversation);
    int got = stmt ? db_step(stmt, err) : -1;
    db_done(stmt);
    store_reader_give(store, db);
    return got;
}

int store_count(struct store *store, int64_t ret_counts[TASK_STATE_COUNT], struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(db, err, "SELECT state,count(*) FROM tasks GROUP BY state", "");
    int got = stmt ? 1 : -1;
    memset(ret_counts, 0, sizeof(*ret_counts) * TASK_STATE_COUNT);
    while (stmt && (got = db_step(stmt, err)) == 1) {
        int64_t state = db_int(stmt, 0);
        if (state >= 0 && state < TASK_STATE_COUNT)
            ret_counts[state] = db_int(stmt, 1);
    }
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}
