/* The store's states, and opening it. */
#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/store/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {
#define STATE_ROW(name, number, wire, phase) [name] = (wire),
    TASK_STATES(STATE_ROW)
#undef STATE_ROW
};
_Static_assert(COUNT_OF(state_names) == TASK_STATE_COUNT &&
                   TASK_ALL_STATES == (1u << TASK_STATE_COUNT) - 1,
               "the numbers of the states count up from 0, each once");

const char *task_state_name(enum task_state state)
{
    REQUIRE(state < TASK_STATE_COUNT);
    return state_names[state];
}

bool task_state_is_active(enum task_state state)
{
    return task_state_in(state, TASK_ACTIVE_STATES);
}

const char *task_place_name(enum task_place place)
{
    REQUIRE(place < PLACE_COUNT);
    static const char *const names[PLACE_COUNT] = {[PLACE_HERE] = "local", [PLACE_AWAY] = "cloud"};
    return names[place];
}

int task_state_parse(const char *name, enum task_state *ret_state)
{
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *ret_state = (enum task_state)i;
            return 0;
        }
    }
    return -1;
}

int task_record_copy(const struct task_record *record, struct task_record *ret_copy,
                     struct err *err)
{
    AUTO(task_record) struct task_record copy = *record;
    char **const texts[] = {&copy.stays, &copy.request, &copy.summary, &copy.caller,
                            &copy.request_id};
    bool whole = true;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *text = *texts[i];
        *texts[i] = text ? strdup(text) : NULL;
        whole &= !text || *texts[i];
    }
    if (!whole)
        return err_sys(err, "task");
    *ret_copy = copy;
    memset(&copy, 0, sizeof(copy));
    return 0;
}

void task_record_done(struct task_record *record)
{
    free(record->stays);
    free(record->request);
    free(record->summary);
    free(record->caller);
    free(record->request_id);
    memset(record, 0, sizeof(*record));
}

/* The steps that turn a database of one version into the next. A released step must not change:
 * databases were made by it. */
static const char *const schemas[] = {
    "CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tasks("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " state INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL,"
    " started_ms INTEGER NOT NULL DEFAULT 0, ended_ms INTEGER NOT NULL DEFAULT 0,"
    " retry_interrupted INTEGER NOT NULL, shared INTEGER NOT NULL, spec TEXT NOT NULL, secrets "
    "BLOB,"
    " summary TEXT, caller TEXT, request_id TEXT);"
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks(state, seq);"
    "CREATE INDEX IF NOT EXISTS tasks_by_kind ON tasks(kind, seq);"
    "CREATE TABLE IF NOT EXISTS outputs(task_id TEXT PRIMARY KEY, body TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS idempotency("
    " key TEXT PRIMARY KEY, body_hash BLOB NOT NULL, task_id TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version=1;",
    "ALTER TABLE tasks ADD COLUMN executor INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE tasks ADD COLUMN place INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE tasks ADD COLUMN stays TEXT;"
    "CREATE TABLE placements(task_id TEXT PRIMARY KEY, attempt INTEGER NOT NULL,"
    " phase INTEGER NOT NULL, asked_ms INTEGER NOT NULL, execution TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE webhooks("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " task_id TEXT NOT NULL UNIQUE, host TEXT NOT NULL, url BLOB NOT NULL, state INTEGER NOT NULL,"
    " tries INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,"
    " next_ms INTEGER NOT NULL DEFAULT 0, tried_ms INTEGER NOT NULL DEFAULT 0,"
    " delivered_ms INTEGER NOT NULL DEFAULT 0, last_status INTEGER NOT NULL DEFAULT 0,"
    " last_error TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX webhooks_due ON webhooks(state, host, next_ms);"
    "CREATE INDEX webhooks_tried ON webhooks(host, tried_ms);"
    "ALTER TABLE tasks ADD COLUMN session TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE tasks ADD COLUMN session_kept INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX tasks_by_session ON tasks(session) WHERE session<>'';"
    "PRAGMA user_version=2;",
    "ALTER TABLE outputs ADD COLUMN errors TEXT;"
    "ALTER TABLE tasks ADD COLUMN grp TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE tasks ADD COLUMN run INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX tasks_by_group ON tasks(grp, run) WHERE grp<>'';"
    "PRAGMA user_version=3;",
    ("ALTER TABLE tasks ADD COLUMN not_before_ms INTEGER NOT NULL DEFAULT 0;"
     "PRAGMA user_version=4;"),
};

#define SCHEMA_VERSION ((int)COUNT_OF(schemas))

/* Takes one step, completely or not at all. */
static int step_up(struct db *db, const char *schema, struct err *err)
{
    struct err ignored;
    if (db_exec(db, "BEGIN IMMEDIATE", err))
        return -1;
    if (db_exec(db, schema, err) == 0 && db_exec(db, "COMMIT", err) == 0)
        return 0;
    if (db_in_transaction(db))
        db_exec(db, "ROLLBACK", &ignored);
    return -1;
}

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
    for (; version < SCHEMA_VERSION; version++)
        if (step_up(db, schemas[version], err))
            return err_wrap(err, "cannot bring the database from version %lld to the next",
                            (long long)version);
    return 0;
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
    lock_init(&store->lock);
    cond_init(&store->returned);
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
    pthread_cond_destroy(&store->returned);
    lock_done(&store->lock);
    free(store->path);
    free(store);
}

const char *store_instance(const struct store *store)
{
    return store->instance;
}
