#include "db/db.h"

#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define STATEMENTS_MAX 64
#define BUSY_MS 10000

struct db_stmt {
    sqlite3_stmt *handle;
    const char *sql; /* borrowed: the literal is the key */
    bool busy;
};

struct db {
    sqlite3 *handle;
    struct db_stmt statements[STATEMENTS_MAX];
};

static int db_err(struct db *db, const char *what, struct err *err)
{
    int code = sqlite3_extended_errcode(db->handle);
    enum err_code mine = ERR_INTERNAL;
    int sys = sqlite3_system_errno(db->handle); /* Only SQLITE_FULL names a full disk; other codes
                                                 * need errno. */
    bool full = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    if (code == SQLITE_FULL || (full && (sys == ENOSPC || sys == EDQUOT)))
        mine = ERR_NO_SPACE;
    else if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
        mine = ERR_CONFLICT;
    return err_set(err, mine, "database: %s: %s", what, sqlite3_errmsg(db->handle));
}

/* SQLite makes its files by the umask; the main file's mode decides theirs, so make it first. */
static int make_private(const char *path, struct err *err)
{
    AUTO(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, "cannot open the database '%s'", path);
    return 0;
}

static int set_up(struct db *db, enum db_mode mode, struct err *err)
{
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    const char *pragmas = mode == DB_WRITE
                              ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                "PRAGMA cache_size=-1024; PRAGMA secure_delete=ON;"
                                "PRAGMA foreign_keys=ON; PRAGMA journal_size_limit=16777216;"
                              : "PRAGMA query_only=ON; PRAGMA cache_size=-256;";
    return db_exec(db, pragmas, err);
}

struct db *db_open(const char *path, enum db_mode mode, struct err *err)
{
    if (mode == DB_WRITE && make_private(path, err))
        return NULL;
    AUTO(db) struct db *db = calloc(1, sizeof(*db));
    if (!db) {
        err_sys(err, "database");
        return NULL;
    }
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK) {
        db_err(db, path, err);
        return NULL;
    }
    if (set_up(db, mode, err)) {
        err_wrap(err, "cannot open '%s'", path);
        return NULL;
    }
    return STEAL_PTR(db);
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        sqlite3_finalize(db->statements[i].handle);
    sqlite3_close(db->handle);
    free(db);
}

int db_exec(struct db *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return db_err(db, "statement", err);
    return 0;
}

int db_copy(struct db *db, const char *to, struct err *err)
{
    /* It is the other file that is written. */
    if (db_exec(db, "PRAGMA query_only=OFF", err) || db_run(db, err, "VACUUM INTO ?", "s", to))
        return -1;
    return db_exec(db, "PRAGMA query_only=ON", err);
}

/* The cached statement of this SQL, or a free place for it. */
static struct db_stmt *find_slot(struct db *db, const char *sql)
{
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
        struct db_stmt *stmt = &db->statements[i];
        if (!stmt->sql || (stmt->sql == sql && !stmt->busy))
            return stmt;
    }
    return NULL;
}

static struct db_stmt *prepare(struct db *db, const char *sql, struct err *err)
{
    struct db_stmt *stmt = find_slot(db, sql);
    if (!stmt) {
        err_set(err, ERR_INTERNAL, "database: more than %d statements", STATEMENTS_MAX);
        return NULL;
    }
    if (!stmt->sql) {
        if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt->handle,
                               NULL) != SQLITE_OK) {
            db_err(db, "prepare", err);
            return NULL;
        }
        stmt->sql = sql;
    }
    stmt->busy = true;
    return stmt;
}

static int bind_all(struct db_stmt *stmt, const char *types, va_list ap)
{
    int rc = SQLITE_OK;
    for (int i = 1; types[i - 1] && rc == SQLITE_OK; i++) {
        if (types[i - 1] == 'i') {
            rc = sqlite3_bind_int64(stmt->handle, i, va_arg(ap, int64_t));
        } else if (types[i - 1] == 's') {
            rc = sqlite3_bind_text(stmt->handle, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
        } else {
            const void *data = va_arg(ap, const void *);
            size_t len = va_arg(ap, size_t);
            rc = sqlite3_bind_blob64(stmt->handle, i, data, len, SQLITE_STATIC);
        }
    }
    return rc == SQLITE_OK ? 0 : -1;
}

static struct db_stmt *query_v(struct db *db, struct err *err, const char *sql, const char *types,
                               va_list ap)
{
    struct db_stmt *stmt = prepare(db, sql, err);
    if (stmt && bind_all(stmt, types, ap)) {
        db_err(db, "bind", err);
        db_done(stmt);
        return NULL;
    }
    return stmt;
}

struct db_stmt *db_query(struct db *db, struct err *err, const char *sql, const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    struct db_stmt *stmt = query_v(db, err, sql, types, ap);
    va_end(ap);
    return stmt;
}

int db_step(struct db_stmt *stmt, struct err *err)
{
    REQUIRE(stmt->busy);
    int rc = sqlite3_step(stmt->handle);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    struct db view = {.handle = sqlite3_db_handle(stmt->handle)};
    return db_err(&view, "step", err);
}

void db_done(struct db_stmt *stmt)
{
    if (!stmt)
        return;
    sqlite3_reset(stmt->handle);
    sqlite3_clear_bindings(stmt->handle);
    stmt->busy = false;
}

int db_run(struct db *db, struct err *err, const char *sql, const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    AUTO(db_stmt) struct db_stmt *stmt = query_v(db, err, sql, types, ap);
    va_end(ap);
    return stmt && db_step(stmt, err) >= 0 ? 0 : -1;
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(db->handle);
}

bool db_in_transaction(const struct db *db)
{
    return !sqlite3_get_autocommit(db->handle);
}

int64_t db_int(struct db_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt->handle, column);
}

bool db_is_null(struct db_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt->handle, column) == SQLITE_NULL;
}

const char *db_text(struct db_stmt *stmt, int column)
{
    return (const char *)sqlite3_column_text(stmt->handle, column);
}

const void *db_blob(struct db_stmt *stmt, int column, size_t *ret_len)
{
    const void *data = sqlite3_column_blob(stmt->handle, column);
    *ret_len = (size_t)sqlite3_column_bytes(stmt->handle, column);
    return data;
}

int db_read_start(struct db *db, const char *table, const char *column, int64_t rowid, size_t max,
                  struct buf *out, struct err *err)
{
    sqlite3_blob *blob;
    if (sqlite3_blob_open(db->handle, "main", table, column, rowid, 0, &blob) != SQLITE_OK)
        return db_err(db, column, err);
    size_t len = (size_t)sqlite3_blob_bytes(blob);
    if (len > max)
        len = max;
    char *to = buf_room(out, len);
    int rc = 0;
    if (to && sqlite3_blob_read(blob, to, (int)len, 0) != SQLITE_OK)
        rc = db_err(db, column, err);
    else if (to)
        buf_grew(out, len);
    sqlite3_blob_close(blob);
    return rc ? rc : buf_check(out, column, err);
}
