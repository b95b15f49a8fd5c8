/* Counts tasks by the caller who submitted them. */
#include "runner/store/store_private.h"

#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct caller_tasks *find(struct caller_tasks *all, size_t max, size_t *count,
                                 const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    if (*count == max)
        return NULL;
    struct caller_tasks *fresh = &all[(*count)++];
    memset(fresh, 0, sizeof(*fresh));
    snprintf(fresh->name, sizeof(fresh->name), "%s", name);
    return fresh;
}

void store_on_end(struct store *store, void (*ended)(const char *id, void *arg), void *arg)
{
    store->ended = ended;
    store->ended_arg = arg;
}

int store_callers(struct store *store, struct caller_tasks *ret_tasks, size_t max,
                  size_t *ret_count, struct err *err)
{
    size_t count = 0;
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    struct db_stmt *stmt =
        db_query(db, err,
                 "SELECT caller, state, count(*) FROM tasks WHERE caller<>'' AND seq>"
                 "(SELECT max(seq) FROM tasks)-20000 GROUP BY caller, state",
                 "");
    int got = stmt ? 1 : -1;
    while (stmt && (got = db_step(stmt, err)) == 1) {
        int64_t state = db_int(stmt, 1);
        struct caller_tasks *tasks = find(ret_tasks, max, &count, db_text(stmt, 0));
        if (tasks && state >= 0 && state < TASK_STATE_COUNT)
            tasks->counts[state] = db_int(stmt, 2);
    }
    db_done(stmt);
    store_reader_give(store, db);
    *ret_count = count;
    return got < 0 ? -1 : 0;
}

/* --- room ---------------------------------------------------------------------------------- */

static int64_t count_active(struct db *db, const char *caller, struct err *err)
{
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT count(*) FROM tasks WHERE state<=? AND caller=?", "is",
                 (int64_t)TASK_RUNNING, caller);
    return stmt && db_step(stmt, err) == 1 ? db_int(stmt, 0) : -1;
}

/* What an ended task has cost. */
static double cost_of(const char *summary)
{
    size_t len;
    const char *raw =
        summary ? json_raw_member(summary, strlen(summary), "total_cost_usd", &len) : NULL;
    return raw ? strtod(raw, NULL) : 0;
}

/* The caller's tasks from the newest back to where nothing counts any more. */
static int look_back(struct db *db, const char *caller, const struct store_room *room,
                     int64_t *ret_minute, double *ret_usd, struct err *err)
{
    int64_t oldest = room->day_usd > 0 ? room->day_from_ms : room->minute_from_ms;
    int got;
    AUTO(db_stmt)
    struct db_stmt *stmt =
        db_query(db, err, "SELECT created_ms, caller, summary FROM tasks ORDER BY seq DESC", "");
    while ((got = stmt ? db_step(stmt, err) : -1) == 1 && db_int(stmt, 0) >= oldest) {
        const char *whose = db_text(stmt, 1);
        if (!whose || strcmp(whose, caller) != 0)
            continue;
        *ret_minute += db_int(stmt, 0) >= room->minute_from_ms;
        *ret_usd += cost_of(db_text(stmt, 2));
    }
    return got < 0 ? -1 : 0;
}

int store_check_room(struct db *db, const struct task_new *task, size_t count, struct err *err)
{
    const struct store_room *room = task->room;
    int64_t minute = 0, active = room->active_max > 0 ? count_active(db, task->caller, err) : 0;
    double usd = 0;
    if (active < 0)
        return -1;
    if (room->active_max > 0 && active + (int64_t)count > room->active_max)
        return err_set(err, ERR_RATE, "'%.60s' may have %d tasks at once, and has %lld",
                       task->caller, room->active_max, (long long)active);
    if (room->minute_max == 0 && room->day_usd <= 0)
        return 0;
    if (look_back(db, task->caller, room, &minute, &usd, err))
        return -1;
    if (room->minute_max > 0 && minute + (int64_t)count > room->minute_max)
        return err_set(err, ERR_RATE, "'%.60s' may begin %d tasks in a minute, and has begun %lld",
                       task->caller, room->minute_max, (long long)minute);
    if (room->day_usd > 0 && usd >= room->day_usd)
        return err_set(err, ERR_RATE,
                       "'%.60s' may spend $%.2f in 24 hours, and its tasks have cost $%.2f",
                       task->caller, room->day_usd, usd);
    return 0;
}
