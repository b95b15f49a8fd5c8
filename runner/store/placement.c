/* Stores how far each task has come on its way into the cloud. */
#include "runner/store/store_private.h"

#include "base/check.h"

#include <stdio.h>

static int read_placement(struct db *db, const char *id, struct store_placement *placement,
                          struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT attempt,phase,asked_ms,execution FROM placements WHERE task_id=?",
                 "s", id);
    int got = stmt ? db_step(stmt, err) : -1;
    *placement = (struct store_placement){0};
    if (got != 1)
        return got;
    placement->attempt = (int)db_int(stmt, 0);
    placement->phase = (enum placement_phase)db_int(stmt, 1);
    placement->asked_ms = db_int(stmt, 2);
    snprintf(placement->execution, sizeof(placement->execution), "%s", db_text(stmt, 3));
    return 0;
}

int store_placement(struct store *store, const char *id, struct store_placement *ret_placement,
                    struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    int rc = read_placement(db, id, ret_placement, err);
    store_reader_give(store, db);
    return rc;
}

struct placing {
    const char *id;
    const struct store_placement *placement;
};

static int set_in_db(struct db *db, void *arg, struct err *err)
{
    const struct placing *placing = arg;
    const struct store_placement *placement = placing->placement;
    return db_run(db, err, "INSERT OR REPLACE INTO placements VALUES(?,?,?,?,?)", "siiis",
                  placing->id, (int64_t)placement->attempt, (int64_t)placement->phase,
                  placement->asked_ms, placement->execution);
}

int store_set_placement(struct store *store, const char *id,
                        const struct store_placement *placement, struct err *err)
{
    REQUIRE(placement->phase <= PLACEMENT_STARTED);
    struct placing placing = {id, placement};
    return db_write(store->writer, set_in_db, &placing, err);
}
