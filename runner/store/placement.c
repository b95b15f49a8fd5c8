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
    REQUIRE(placement->phase <= PLACEMENT_ENDED);
    struct placing placing = {id, placement};
    return db_write(store->writer, set_in_db, &placing, err);
}

/* --- results that come late ------------------------------------------------------------------ */

int store_lost(struct store *store, int64_t after_ms, int limit, struct strlist *ids,
               struct err *err)
{
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err,
                 "SELECT t.id FROM placements p JOIN tasks t ON t.id=p.task_id WHERE p.phase>=?"
                 " AND t.state=? AND t.ended_ms>? ORDER BY t.ended_ms DESC LIMIT ?",
                 "iiii", (int64_t)PLACEMENT_LOST, (int64_t)TASK_FAILED, after_ms, (int64_t)limit);
    int rc = store_read_ids(stmt, ids, err);
    store_reader_give(store, db);
    return rc;
}

struct resuming {
    struct store *store;
    const char *id;
    bool changed;
};

static int resume_in_db(struct db *db, void *arg, struct err *err)
{
    struct resuming *resuming = arg;
    if (db_run(db, err,
               "UPDATE tasks SET state=?1, reason='', ended_ms=0, session=iif(EXISTS(SELECT 1 FROM"
               " tasks later WHERE later.session=tasks.session AND later.seq>tasks.seq AND"
               " later.session<>''), '', session) WHERE id=?2 AND state=?3 AND EXISTS(SELECT 1 FROM"
               " placements p WHERE p.task_id=?2 AND p.phase>=?4)",
               "isii", (int64_t)TASK_RUNNING, resuming->id, (int64_t)TASK_FAILED,
               (int64_t)PLACEMENT_LOST))
        return -1;
    resuming->changed = db_changes(db) == 1;
    if (!resuming->changed)
        return 0;
    return db_run(db, err, "UPDATE placements SET phase=? WHERE task_id=?", "is",
                  (int64_t)PLACEMENT_STARTED, resuming->id) ||
                   store_renew_webhook(resuming->store, db, resuming->id, err)
               ? -1
               : 0;
}

int store_resume(struct store *store, const char *id, struct err *err)
{
    struct resuming resuming = {.store = store, .id = id};
    if (db_write(store->writer, resume_in_db, &resuming, err))
        return -1;
    return resuming.changed ? 1 : 0;
}
