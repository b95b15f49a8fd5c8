/* Deletes tasks whose time is over. */
#include "base/check.h"
#include "base/strlist.h"
#include "runner/store/store_private.h"
#include "runner/store/webhooks.h"

static int list_ended(struct store *store, int64_t before_ms, int limit, struct strlist *ids,
                      struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt = db_query(
        db, err,
        "SELECT id FROM tasks WHERE " SQL_ENDED " AND ended_ms>0 AND ended_ms<? AND NOT EXISTS"
        "(SELECT 1 FROM webhooks w WHERE w.task_id=tasks.id AND w.state=?) ORDER BY seq"
        " LIMIT ?",
        "iii", before_ms, (int64_t)WEBHOOK_PENDING, (int64_t)limit);
    int rc = store_read_ids(stmt, ids, err);
    store_reader_give(store, db);
    return rc;
}

static int expire_in_db(struct db *db, void *arg, struct err *err)
{
    const struct strlist *ids = arg;
    for (size_t i = 0; i < ids->count; i++)
        if (db_run(db, err, "DELETE FROM tasks WHERE id=? AND " SQL_ENDED, "s", ids->items[i]) ||
            db_run(db, err, "DELETE FROM webhooks WHERE task_id=?", "s", ids->items[i]) ||
            db_run(db, err, "DELETE FROM outputs WHERE task_id=?", "s", ids->items[i]) ||
            db_run(db, err, "DELETE FROM placements WHERE task_id=?", "s", ids->items[i]) ||
            db_run(db, err, "DELETE FROM idempotency WHERE task_id=?", "s", ids->items[i]))
            return -1;
    return 0;
}

int store_expire(struct store *store, int64_t before_ms, int limit,
                 int (*gone)(const char *id, void *arg), void *arg, struct err *err)
{
    REQUIRE(gone && limit > 0);
    AUTO(strlist) struct strlist all = STRLIST_INIT;
    AUTO(strlist) struct strlist ids = STRLIST_INIT;
    if (list_ended(store, before_ms, limit, &all, err))
        return -1;
    for (size_t i = 0; i < all.count; i++)
        if (gone(all.items[i], arg) == 0)
            strlist_add(&ids, all.items[i]);
    if (ids.count > 0 && db_write(store->writer, expire_in_db, &ids, err))
        return -1;
    return (int)all.count;
}
