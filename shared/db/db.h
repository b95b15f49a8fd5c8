/*
 * SQLite: connections with a statement cache, and one writer that commits for many.
 *
 * Theory of operation. Readers use connections of their own (WAL: they never wait for the writer).
 * All writes of a database go through one db_writer. A caller's function joins the queue. The
 * caller that finds nobody committing takes the whole queue, runs it in one transaction with a
 * savepoint for each function, commits once, and wakes the others. So one fsync serves all callers
 * that arrived meanwhile, and a lone caller needs no second thread.
 *
 * Threads: a connection belongs to one thread at a time; db_write() may be called from any.
 *
 * Ownership: db_open() and db_writer_new() return objects that the caller frees; a statement goes
 * back to its connection by db_done().
 */
#ifndef DB_DB_H
#define DB_DB_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct db_stmt;
struct db_writer;

enum db_mode { DB_WRITE, DB_READ };

/* Opens a database (DB_WRITE makes a missing one, 0600), in WAL mode with synchronous=FULL. */
struct db *db_open(const char *path, enum db_mode mode, struct err *err);
void db_close(struct db *db);
DEFINE_AUTO(db, struct db *, db_close)

/* Runs statements without arguments or rows. */
int db_exec(struct db *db, const char *sql, struct err *err);

/* Writes what a DB_READ connection sees into a new database file, while others write. */
int db_copy(struct db *db, const char *to, struct err *err);

/* Prepares (once per connection: `sql` must be a string literal) and binds. `types` has a letter
 * per argument: i int64_t, s text (NULL is null), b blob (const void *, size_t; NULL is null).
 * Text and blobs must live until the statement is done. The statement must be ended by
 * db_done() or AUTO(db_stmt). */
struct db_stmt *db_query(struct db *db, struct err *err, const char *sql, const char *types, ...);
/* Returns 1 with a row, 0 at the end, or -1. */
int db_step(struct db_stmt *stmt, struct err *err);
void db_done(struct db_stmt *stmt);
DEFINE_AUTO(db_stmt, struct db_stmt *, db_done)

/* Runs a statement that returns no rows. Returns 0, or -1; ERR_CONFLICT when a unique key is
 * taken. */
int db_run(struct db *db, struct err *err, const char *sql, const char *types, ...);
/* Rows changed by the last db_run. */
int64_t db_changes(const struct db *db);

bool db_in_transaction(const struct db *db);

int64_t db_int(struct db_stmt *stmt, int column);
bool db_is_null(struct db_stmt *stmt, int column);
/* NULL for null; valid until the next step. */
const char *db_text(struct db_stmt *stmt, int column);
const void *db_blob(struct db_stmt *stmt, int column, size_t *ret_len);

/* Appends the first `max` bytes at most of one text or blob, without reading the rest. */
int db_read_start(struct db *db, const char *table, const char *column, int64_t rowid, size_t max,
                  struct buf *out, struct err *err);

/* Takes over `db`. */
struct db_writer *db_writer_new(struct db *db);
void db_writer_free(struct db_writer *writer);

typedef int db_write_fn(struct db *db, void *arg, struct err *err);

/* Runs fn inside a transaction and returns once that is committed and on disk. When fn returns -1,
 * its changes are undone (but not those of others in the same transaction) and its error is
 * returned. */
int db_write(struct db_writer *writer, db_write_fn *fn, void *arg, struct err *err);

#endif
