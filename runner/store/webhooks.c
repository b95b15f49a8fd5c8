#include "runner/store/webhooks.h"

#include "runner/store/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_BYTES_MAX 16384

static const char *const names[] = {
#define WEBHOOK_STATE_NAME(name, wire) [name] = (wire),
    WEBHOOK_STATES(WEBHOOK_STATE_NAME)
#undef WEBHOOK_STATE_NAME
};

const char *webhook_state_name(enum webhook_state state)
{
    return names[state];
}

int webhook_state_parse(const char *name, enum webhook_state *ret_state)
{
    for (int i = WEBHOOK_NONE + 1; i < WEBHOOK_STATE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_state = (enum webhook_state)i;
            return 0;
        }
    }
    return -1;
}

void webhook_record_done(struct webhook_record *record)
{
    if (record->url)
        explicit_bzero(record->url, strlen(record->url));
    free(record->url);
    memset(record, 0, sizeof(*record));
}

/* --- receivers -------------------------------------------------------------------------------
 *
 * The column `host` holds "host:port#3fa", so that its indexes lead from receiver to receiver. The
 * digits are of the URL's hash: so few that they tell nothing of it, and that a host to which every
 * URL is another has a bounded number of receivers. Rows of older versions have none, which is 0.
 */

#define RECEIVER_NUMBERS 1024
#define RECEIVER_SIZE (WEBHOOK_HOST_SIZE + 16)

static void print_receiver(const char *host, int number, char text[RECEIVER_SIZE])
{
    snprintf(text, RECEIVER_SIZE, number ? "%s#%03x" : "%s", host, (unsigned)number);
}

static void receiver_of(const char *host, const char *url, char text[RECEIVER_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    crypto_sha256(url, strcspn(url, "?#"), digest);
    print_receiver(host, 1 + (digest[0] << 8 | digest[1]) % (RECEIVER_NUMBERS - 1), text);
}

/* Its host, and its number. */
static int read_receiver(const char *text, char host[WEBHOOK_HOST_SIZE])
{
    size_t len = strcspn(text, "#");
    snprintf(host, WEBHOOK_HOST_SIZE, "%.*s", (int)len, text);
    return text[len] ? (int)strtol(text + len + 1, NULL, 16) : 0;
}

/* --- its beginning and its end of waiting -------------------------------------------------- */

static void new_webhook_id(char id[ID_SIZE + 8])
{
    char unique[ID_SIZE];
    id_new(unique);
    snprintf(id, ID_SIZE + 8, "msg_%s", unique);
}

int store_owe_webhook(struct store *store, struct db *db, const struct task_new *task,
                      const char *task_id, struct err *err)
{
    char id[ID_SIZE + 8], receiver[RECEIVER_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(URL_BYTES_MAX);
    new_webhook_id(id);
    if (crypto_seal(store->key, id, task->webhook_url, strlen(task->webhook_url), &sealed, err))
        return -1;
    receiver_of(task->webhook_host, task->webhook_url, receiver);
    return db_run(db, err, "INSERT INTO webhooks(id,task_id,host,url,state) VALUES(?,?,?,?,?)",
                  "sssbi", id, task_id, receiver, sealed.data, sealed.len,
                  (int64_t)WEBHOOK_WAITING);
}

int store_make_webhook_due(struct db *db, const char *task_id, int64_t now_ms, bool *ret_owed,
                           struct err *err)
{
    if (db_run(db, err, "UPDATE webhooks SET state=?, next_ms=? WHERE task_id=? AND state=?",
               "iisi", (int64_t)WEBHOOK_PENDING, now_ms, task_id, (int64_t)WEBHOOK_WAITING))
        return -1;
    *ret_owed = db_changes(db) == 1;
    return 0;
}

int store_renew_webhook(struct store *store, struct db *db, const char *task_id, struct err *err)
{
    size_t len;
    char id[ID_SIZE + 8];
    struct err ignored;
    AUTO(buf_wipe) struct buf url = BUF_INIT(URL_BYTES_MAX);
    AUTO(buf) struct buf sealed = BUF_INIT(URL_BYTES_MAX);
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT id,url FROM webhooks WHERE task_id=?", "s", task_id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got != 1)
        return got;
    const void *old = db_blob(stmt, 1, &len);
    if (crypto_open(store->key, db_text(stmt, 0), old, len, &url, &ignored))
        return 0; /* The URL is lost, and with it the webhook. */
    new_webhook_id(id);
    if (crypto_seal(store->key, id, url.data, url.len, &sealed, err))
        return -1;
    return db_run(db, err, "UPDATE webhooks SET id=?, url=?, state=?, tries=0 WHERE task_id=?",
                  "sbis", id, sealed.data, sealed.len, (int64_t)WEBHOOK_WAITING, task_id);
}

void store_on_webhook(struct store *store, void (*due)(void *arg), void *arg)
{
    store->webhook_due = due;
    store->webhook_arg = arg;
}

void store_tell_webhook(struct store *store)
{
    if (store->webhook_due)
        store->webhook_due(store->webhook_arg);
}

/* --- reading ------------------------------------------------------------------------------- */

#define WEBHOOK_COLUMNS \
    "id,task_id,host,url,state,tries,attempts,next_ms,delivered_ms,last_status,last_error"

static int read_url(const struct store *store, struct db_stmt *stmt, struct webhook_record *record,
                    struct err *err)
{
    size_t len;
    AUTO(buf_wipe) struct buf url = BUF_INIT(URL_BYTES_MAX);
    struct err ignored;
    const void *sealed = db_blob(stmt, 3, &len);
    if (crypto_open(store->key, record->id, sealed, len, &url, &ignored))
        return 0; /* It was sealed under another key file: the URL is lost, but nothing else. */
    record->url = strdup(buf_str(&url));
    return record->url ? 0 : err_sys(err, "webhook");
}

static int read_webhook(const struct store *store, struct db_stmt *stmt,
                        struct webhook_record *record, struct err *err)
{
    *record = (struct webhook_record){
        .state = (enum webhook_state)db_int(stmt, 4),
        .tries = (int)db_int(stmt, 5),
        .attempts = (int)db_int(stmt, 6),
        .next_ms = db_int(stmt, 7),
        .delivered_ms = db_int(stmt, 8),
        .last_status = (int)db_int(stmt, 9),
    };
    snprintf(record->id, sizeof(record->id), "%s", db_text(stmt, 0));
    snprintf(record->task_id, sizeof(record->task_id), "%s", db_text(stmt, 1));
    read_receiver(db_text(stmt, 2), record->host);
    snprintf(record->last_error, sizeof(record->last_error), "%s", db_text(stmt, 10));
    return read_url(store, stmt, record, err);
}

/* Reads the only row of a bound statement. Returns 1, 0 or -1. */
static int read_one(const struct store *store, struct db_stmt *stmt, struct webhook_record *record,
                    struct err *err)
{
    int got = stmt ? db_step(stmt, err) : -1;
    if (got == 1 && read_webhook(store, stmt, record, err))
        got = -1;
    db_done(stmt);
    return got;
}

int store_webhook(struct store *store, const char *task_id, struct webhook_record *ret_record,
                  struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, "SELECT " WEBHOOK_COLUMNS " FROM webhooks WHERE task_id=?", "s", task_id);
    int got = read_one(store, stmt, ret_record, err);
    store_reader_give(store, db);
    if (got == 0)
        return err_set(err, ERR_NOT_FOUND, "the task has no callbackUrl");
    return got < 0 ? -1 : 0;
}

int store_webhook_due(struct store *store, const struct webhook_receiver *receiver, int64_t now_ms,
                      struct webhook_record *ret_record, struct err *err)
{
    char text[RECEIVER_SIZE];
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    print_receiver(receiver->host, receiver->number, text);
    struct db_stmt *stmt =
        db_query(db, err,
                 "SELECT " WEBHOOK_COLUMNS " FROM webhooks"
                 " WHERE state=? AND host=? AND next_ms<=? ORDER BY next_ms, seq LIMIT 1",
                 "isi", (int64_t)WEBHOOK_PENDING, text, now_ms);
    int got = read_one(store, stmt, ret_record, err);
    store_reader_give(store, db);
    return got;
}

int store_webhook_receivers(struct store *store, int64_t now_ms, struct webhook_receiver *ret_found,
                            int max, struct err *err)
{
    /* Goes from receiver to receiver in the index, so that 10,000 rows for one cost no more than
     * one row. */
    static const char sql[] =
        "WITH RECURSIVE h(host) AS (SELECT min(host) FROM webhooks WHERE state=?1 UNION ALL"
        " SELECT (SELECT min(w.host) FROM webhooks w WHERE w.state=?1 AND w.host>h.host) FROM h"
        " WHERE h.host IS NOT NULL),"
        " r AS (SELECT host, (SELECT min(next_ms) FROM webhooks w WHERE w.state=?1"
        " AND w.host=h.host) AS due, (SELECT max(tried_ms) FROM webhooks w WHERE w.host=h.host)"
        " AS tried FROM h WHERE host IS NOT NULL),"
        " n AS (SELECT host, due, tried, row_number() OVER (PARTITION BY"
        " substr(host, 1, instr(host || '#', '#') - 1) ORDER BY max(due, ?2), tried) AS place FROM "
        "r)"
        " SELECT host, due FROM n WHERE place<=?4 ORDER BY max(due, ?2), tried LIMIT ?3";
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(db, err, sql, "iiii", (int64_t)WEBHOOK_PENDING, now_ms,
                                    (int64_t)max, (int64_t)WEBHOOK_HOST_RECEIVERS);
    int got = stmt ? 1 : -1, count = 0;
    while (stmt && (got = db_step(stmt, err)) == 1 && count < max) {
        struct webhook_receiver *found = &ret_found[count++];
        found->number = read_receiver(db_text(stmt, 0), found->host);
        found->due_ms = db_int(stmt, 1);
    }
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : count;
}

int store_webhook_count(struct store *store, int64_t ret_counts[WEBHOOK_STATE_COUNT],
                        struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, "SELECT state, count(*) FROM webhooks GROUP BY state", "");
    int got = stmt ? 1 : -1;
    memset(ret_counts, 0, sizeof(*ret_counts) * WEBHOOK_STATE_COUNT);
    while (stmt && (got = db_step(stmt, err)) == 1) {
        int64_t state = db_int(stmt, 0);
        if (state >= 0 && state < WEBHOOK_STATE_COUNT)
            ret_counts[state] = db_int(stmt, 1);
    }
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}

int store_webhook_retrying(struct store *store, int64_t *ret_count, struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err, "SELECT count(*) FROM webhooks WHERE state=? AND tries>0", "i",
                 (int64_t)WEBHOOK_PENDING);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got == 1)
        *ret_count = db_int(stmt, 0);
    db_done(stmt);
    store_reader_give(store, db);
    return got == 1 ? 0 : -1;
}

/* --- tries --------------------------------------------------------------------------------- */

struct noted {
    const char *id;
    const struct webhook_try *try;
};

static int note_in_db(struct db *db, void *arg, struct err *err)
{
    const struct noted *noted = arg;
    const struct webhook_try *try = noted->try;
    if (db_run(db, err,
               "UPDATE webhooks SET state=?1, attempts=attempts+1, tries=tries+1, last_status=?2,"
               " last_error=?3, tried_ms=?4, next_ms=?5,"
               " delivered_ms=iif(?1=?6, ?4, delivered_ms) WHERE id=?7 AND state=?8",
               "iisiiisi", (int64_t)try->state, (int64_t)try->status, try->error, try->now_ms,
               try->next_ms, (int64_t)WEBHOOK_DELIVERED, noted->id, (int64_t)WEBHOOK_PENDING))
        return -1;
    if (try->rest_ms == 0)
        return 0;
    return db_run(db, err,
                  "WITH me(host) AS (SELECT substr(host, 1, instr(host || '#', '#') - 1)"
                  " FROM webhooks WHERE id=?3)"
                  " UPDATE webhooks SET next_ms=?1 WHERE state=?2 AND next_ms<?1"
                  " AND host>=(SELECT host FROM me) AND host<(SELECT host || '$' FROM me)",
                  "iis", try->rest_ms, (int64_t)WEBHOOK_PENDING, noted->id);
}

int store_webhook_note(struct store *store, const char *id, const struct webhook_try *try,
                       struct err *err)
{
    struct noted noted = {id, try};
    return db_write(store->writer, note_in_db, &noted, err);
}

struct pull {
    int64_t now_ms, far_ms;
};

static int pull_in_db(struct db *db, void *arg, struct err *err)
{
    const struct pull *pull = arg;
    return db_run(db, err, "UPDATE webhooks SET next_ms=? WHERE state=? AND next_ms>?", "iii",
                  pull->now_ms, (int64_t)WEBHOOK_PENDING, pull->far_ms);
}

int store_webhook_pull(struct store *store, int64_t now_ms, int64_t far_ms, struct err *err)
{
    struct pull pull = {now_ms, far_ms};
    return db_write(store->writer, pull_in_db, &pull, err);
}

struct again {
    const char *task_id;
    int64_t now_ms;
};

static int redeliver_in_db(struct db *db, void *arg, struct err *err)
{
    const struct again *again = arg;
    if (db_run(db, err,
               "UPDATE webhooks SET state=?1, next_ms=?2, tries=0 WHERE task_id=?3 AND state>=?1",
               "iis", (int64_t)WEBHOOK_PENDING, again->now_ms, again->task_id))
        return -1;
    if (db_changes(db) == 1)
        return 0;
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT 1 FROM webhooks WHERE task_id=?", "s", again->task_id);
    int got = stmt ? db_step(stmt, err) : -1;
    if (got < 0)
        return -1;
    return got ? err_set(err, ERR_CONFLICT,
                         "the task has not ended yet; its webhook is sent when it has")
               : err_set(err, ERR_NOT_FOUND, "the task has no callbackUrl");
}

int store_webhook_redeliver(struct store *store, const char *task_id, int64_t now_ms,
                            struct err *err)
{
    struct again again = {task_id, now_ms};
    if (db_write(store->writer, redeliver_in_db, &again, err))
        return -1;
    store_tell_webhook(store);
    return 0;
}
