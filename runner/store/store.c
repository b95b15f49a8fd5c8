#include "runner/store/store.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "crypto/crypto.h"
#include "db/db.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define READERS_MAX 4
#define SECRETS_BYTES_MAX (4u << 20)

struct store {
    struct db_writer *writer;
    char *path;
    char instance[ID_SIZE];
    unsigned char key[CRYPTO_KEY_SIZE];
    pthread_mutex_t lock; /* of the readers that nobody uses */
    struct db *readers[READERS_MAX];
    size_t reader_count;
};

static const struct {
    const char *name;
    bool active;
} states[] = {
#define STATE_ROW(name, wire, active) [name] = {wire, active},
    TASK_STATES(STATE_ROW)
#undef STATE_ROW
};

const char *task_state_name(enum task_state state)
{
    return states[state].name;
}

bool task_state_is_active(enum task_state state)
{
    return states[state].active;
}

int task_state_parse(const char *name, enum task_state *ret_state)
{
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        if (strcmp(states[i].name, name) == 0) {
            *ret_state = (enum task_state)i;
            return 0;
        }
    }
    return -1;
}

void task_record_done(struct task_record *record)
{
    free(record->spec);
    free(record->summary);
    free(record->caller);
    free(record->request_id);
    memset(record, 0, sizeof(*record));
}

/* --- opening ------------------------------------------------------------------------------- */

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tasks("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " state INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL,"
    " started_ms INTEGER NOT NULL DEFAULT 0, ended_ms INTEGER NOT NULL DEFAULT 0,"
    " retry_interrupted INTEGER NOT NULL, spec TEXT NOT NULL, secrets BLOB,"
    " summary TEXT, caller TEXT, request_id TEXT);"
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks(state, seq);"
    "CREATE INDEX IF NOT EXISTS tasks_by_kind ON tasks(kind, seq);"
    "CREATE TABLE IF NOT EXISTS outputs(task_id TEXT PRIMARY KEY, body TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS idempotency("
    " key TEXT PRIMARY KEY, body_hash BLOB NOT NULL, task_id TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version=1;";

static int migrate(struct db *db, struct err *err)
{
    AUTO(db_stmt) struct db_stmt *stmt = db_query(db, err, "PRAGMA user_version", "");
    if (!stmt || db_step(stmt, err) < 0)
        return -1;
    int64_t version = db_int(stmt, 0);
    if (version > SCHEMA_VERSION)
        return err_set(err, ERR_CONFIG,
                       "the database is of version %lld, written by a newer runner; this one "
                       "knows %d",
                       (long long)version, SCHEMA_VERSION);
    db_done(STEAL_PTR(stmt));
    return version == SCHEMA_VERSION ? 0 : db_exec(db, schema, err);
}

static int load_instance(struct store *store, struct db *db, struct err *err)
{
    char fresh[ID_SIZE];
    id_new(fresh);
    if (db_run(db, err, "INSERT OR IGNORE INTO facts VALUES('instance', ?)", "s", fresh))
        return -1;
    AUTO(db_stmt)
    struct db_stmt *stmt = db_query(db, err, "SELECT value FROM facts WHERE name='instance'", "");
    if (!stmt || db_step(stmt, err) < 0)
        return -1;
    snprintf(store->instance, sizeof(store->instance), "%s", db_text(stmt, 0));
    return 0;
}

static int load_key(struct store *store, const char *dir, struct err *err)
{
    AUTO(str) char *path = path_join(dir, "secret.key");
    AUTO(buf) struct buf key = BUF_INIT(4096);
    if (!path)
        return err_sys(err, "key file");
    int rc = file_read(path, &key, err);
    if (rc && err->code == ERR_NOT_FOUND) {
        id_random(store->key, sizeof(store->key));
        return file_replace(path, store->key, sizeof(store->key), 0600, err);
    }
    if (rc == 0 && key.len != sizeof(store->key))
        rc = err_set(err, ERR_CONFIG, "'%s' is %zu bytes long, not %zu", path, key.len,
                     sizeof(store->key));
    if (rc == 0)
        memcpy(store->key, key.data, sizeof(store->key));
    return rc;
}

static int open_parts(struct store *store, const char *dir, struct err *err)
{
    store->path = path_join(dir, "runner.db");
    if (!store->path)
        return err_sys(err, "store");
    AUTO(db) struct db *db = db_open(store->path, DB_WRITE, err);
    if (!db || migrate(db, err) || load_instance(store, db, err) || load_key(store, dir, err))
        return -1;
    store->writer = db_writer_new(db);
    if (!store->writer)
        return err_sys(err, "store");
    STEAL_PTR(db);
    return 0;
}

struct store *store_open(const char *dir, struct err *err)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store) {
        err_sys(err, "store");
        return NULL;
    }
    pthread_mutex_init(&store->lock, NULL);
    if (open_parts(store, dir, err)) {
        store_close(store);
        return NULL;
    }
    return store;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < store->reader_count; i++)
        db_close(store->readers[i]);
    db_writer_free(store->writer);
    explicit_bzero(store->key, sizeof(store->key));
    pthread_mutex_destroy(&store->lock);
    free(store->path);
    free(store);
}

const char *store_instance(const struct store *store)
{
    return store->instance;
}

/* --- reading ------------------------------------------------------------------------------- */

static struct db *take_reader(struct store *store, struct err *err)
{
    struct db *db = NULL;
    pthread_mutex_lock(&store->lock);
    if (store->reader_count > 0)
        db = store->readers[--store->reader_count];
    pthread_mutex_unlock(&store->lock);
    return db ? db : db_open(store->path, DB_READ, err);
}

static void give_reader(struct store *store, struct db *db)
{
    pthread_mutex_lock(&store->lock);
    if (store->reader_count < READERS_MAX) {
        store->readers[store->reader_count++] = db;
        db = NULL;
    }
    pthread_mutex_unlock(&store->lock);
    db_close(db);
}

static char *copy_text(struct db_stmt *stmt, int column)
{
    const char *text = db_text(stmt, column);
    return text ? strdup(text) : NULL;
}

#define RECORD_COLUMNS                                                           \
    "seq,id,kind,state,reason,priority,attempts,created_ms,started_ms,ended_ms," \
    "retry_interrupted,spec,summary,caller,request_id"

static void read_record(struct db_stmt *stmt, struct task_record *record)
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
        .spec = copy_text(stmt, 11),
        .summary = copy_text(stmt, 12),
        .caller = copy_text(stmt, 13),
        .request_id = copy_text(stmt, 14),
    };
    snprintf(record->id, sizeof(record->id), "%s", db_text(stmt, 1));
    snprintf(record->kind, sizeof(record->kind), "%s", db_text(stmt, 2));
    snprintf(record->reason, sizeof(record->reason), "%s", db_text(stmt, 4));
}

static int get_from(struct db *db, const char *id, struct task_record *ret_record, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT " RECORD_COLUMNS " FROM tasks WHERE id=?", "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got < 0)
        return -1;
    if (got == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no task '%s'", id);
    read_record(stmt, ret_record);
    return 0;
}

int store_get(struct store *store, const char *id, struct task_record *ret_record, struct err *err)
{
    struct db *db = take_reader(store, err);
    if (!db)
        return -1;
    int rc = get_from(db, id, ret_record, err);
    give_reader(store, db);
    return rc;
}

/* Appends one blob (or text) column of one row; nothing when the row is not there. */
static int read_blob(struct store *store, const char *sql, const char *id, struct buf *out,
                     struct err *err)
{
    struct db *db = take_reader(store, err);
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
    give_reader(store, db);
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

int store_output(struct store *store, const char *id, struct buf *out, struct err *err)
{
    return read_blob(store, "SELECT body FROM outputs WHERE task_id=?", id, out, err);
}

int store_list(struct store *store, const struct store_filter *filter,
               int (*fn)(const struct task_record *record, void *arg), void *arg, struct err *err)
{
    static const char newest[] =
        "SELECT " RECORD_COLUMNS " FROM tasks WHERE (?1=0 OR (?1 >> state) & 1)"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4 ORDER BY seq DESC LIMIT ?5";
    static const char oldest[] =
        "SELECT " RECORD_COLUMNS " FROM tasks WHERE (?1=0 OR (?1 >> state) & 1)"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4 ORDER BY seq LIMIT ?5";
    static const char active[] =
        "SELECT " RECORD_COLUMNS " FROM tasks WHERE state<4 AND (?1 >> state) & 1"
        " AND (?2 IS NULL OR kind=?2) AND (?3=0 OR seq<?3) AND seq>?4 ORDER BY seq LIMIT ?5";
    const unsigned all_active = (1u << TASK_COMPLETED) - 1;
    const char *sql = !filter->oldest_first                               ? newest
                      : filter->states && !(filter->states & ~all_active) ? active
                                                                          : oldest;
    struct db *db = take_reader(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(db, err, sql, "isiii", (int64_t)filter->states, filter->kind,
                                    filter->before, filter->after, (int64_t)filter->limit);
    int got = stmt ? 1 : -1, stop = 0;
    while (!stop && stmt && (got = db_step(stmt, err)) == 1) {
        AUTO(task_record) struct task_record record;
        read_record(stmt, &record);
        stop = fn(&record, arg);
    }
    db_done(stmt);
    give_reader(store, db);
    return got < 0 ? -1 : 0;
}

int store_count(struct store *store, int64_t ret_counts[TASK_STATE_COUNT], struct err *err)
{
    struct db *db = take_reader(store, err);
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
    give_reader(store, db);
    return got < 0 ? -1 : 0;
}

/* --- writing ------------------------------------------------------------------------------- */

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
    return get_from(db, db_text(stmt, 1), add->record, err) ? -1 : 1;
}

static int insert_task(struct db *db, const struct add *add, const char *id, struct err *err)
{
    const struct task_new *task = add->task;
    AUTO(buf) struct buf sealed = BUF_INIT(SECRETS_BYTES_MAX);
    if (task->secrets &&
        crypto_seal(add->store->key, id, task->secrets, strlen(task->secrets), &sealed, err))
        return -1;
    if (db_run(db, err,
               "INSERT INTO tasks(id,kind,state,priority,created_ms,retry_interrupted,spec,secrets,"
               "caller,request_id) VALUES(?,?,?,?,?,?,?,?,?,?)",
               "ssiiiisbss", id, task->kind, (int64_t)TASK_PENDING, (int64_t)task->priority,
               clock_real_ms(), (int64_t)task->retry_interrupted, task->spec, sealed.data,
               sealed.len, task->caller, task->request_id)) {
        if (err->code == ERR_CONFLICT)
            err_set(err, ERR_CONFLICT, "taskId '%s' is taken", id);
        return -1;
    }
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
    return get_from(db, id, add->record, err);
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
    bool changed;
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
               "UPDATE tasks SET state=3, started_ms=?, attempts=attempts+1"
               " WHERE id=? AND state<3",
               "is", change->now_ms, change->id))
        return -1;
    change->changed = db_changes(db) == 1;
    return 0;
}

int store_claim(struct store *store, const char *id, int64_t now_ms, struct err *err)
{
    struct change change = {.id = id, .now_ms = now_ms};
    return run_change(store, claim_in_db, &change, err);
}

static int end_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    const struct task_end *end = change->end;
    if (db_run(db, err,
               "UPDATE tasks SET state=?, reason=?, summary=?, ended_ms=?,"
               " secrets=NULL WHERE id=? AND state<4 AND (? >> state) & 1",
               "issisi", (int64_t)end->state, end->reason, end->summary, end->now_ms, change->id,
               (int64_t)change->from))
        return -1;
    change->changed = db_changes(db) == 1;
    if (!change->changed || !end->output)
        return 0;
    return db_run(db, err, "INSERT OR REPLACE INTO outputs VALUES(?,?)", "sb", change->id,
                  end->output, end->output_len);
}

int store_end(struct store *store, const char *id, unsigned from, const struct task_end *end,
              struct err *err)
{
    struct change change = {.id = id, .from = from, .end = end};
    return run_change(store, end_in_db, &change, err);
}

static int requeue_in_db(struct db *db, void *arg, struct err *err)
{
    struct change *change = arg;
    if (db_run(db, err, "UPDATE tasks SET state=0, started_ms=0 WHERE id=? AND state=3", "s",
               change->id))
        return -1;
    change->changed = db_changes(db) == 1;
    return 0;
}

int store_requeue(struct store *store, const char *id, struct err *err)
{
    struct change change = {.id = id};
    return run_change(store, requeue_in_db, &change, err);
}
