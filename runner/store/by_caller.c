/* Counts tasks by the caller who submitted them. */
#include "runner/store/store_private.h"

#include <stdio.h>
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
