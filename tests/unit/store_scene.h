/* The place that a store's tests work in, and short ways to add, end and list tasks. */
#ifndef TESTS_STORE_SCENE_H
#define TESTS_STORE_SCENE_H

#include "testbase.h"

#include "runner/store/store.h"
#include "runner/store/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANARY "canary-that-must-not-be-on-the-disk"

struct place {
    char *dir;
    struct store *store;
};

static inline void reopen(struct place *place)
{
    struct err err;
    store_close(place->store);
    place->store = store_open(place->dir, &err);
    OK(place->store, &err);
}

static inline int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    place->dir = tmp_dir_new();
    reopen(place);
    *state = place;
    return 0;
}

static inline int tear_down(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    tmp_dir_free(place->dir);
    free(place);
    return 0;
}

static inline struct task_new task_of(const char *id)
{
    return (struct task_new){.id = id, .kind = "claude", .priority = 5, .request = "{}"};
}

static inline void add(const struct place *place, const char *id)
{
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(id);
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
    assert_true(created);
}

static inline enum task_state state_of(const struct place *place, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(place->store, id, &record, &err) == 0, &err);
    return record.state;
}

static inline int end_as(const struct place *place, const char *id, unsigned from,
                         enum task_state state)
{
    struct err err;
    const struct task_end end = {.state = state,
                                 .reason = "r",
                                 .summary = "{}",
                                 .output = "out",
                                 .output_len = 3,
                                 .now_ms = 7};
    int rc = store_end(place->store, id, from, &end, &err);
    OK(rc >= 0, &err);
    return rc;
}

/* --- secrets ------------------------------------------------------------------------------- */

static inline bool on_disk(const struct place *place, const char *text)
{
    static const char *const files[] = {"runner.db", "runner.db-wal", "runner.db-shm",
                                        "secret.key"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        size_t size = 0;
        AUTO(str) char *path = textf("%s/%s", place->dir, files[i]);
        AUTO(str) char *bytes = read_file(path, &size);
        if (bytes && memmem(bytes, size, text, strlen(text)))
            return true;
    }
    return false;
}

/* --- webhooks: helpers --------------------------------------------------------------------- */

struct seen_webhook {
    enum webhook_state state;
    int64_t next_ms;
    int tries, attempts;
    char id[ID_SIZE], url[200];
};

static inline struct seen_webhook webhook_of(const struct place *place, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(place->store, task_id, &record, &err) == 0, &err);
    struct seen_webhook seen = {
        record.state, record.next_ms, record.tries, record.attempts, "", ""};
    snprintf(seen.id, sizeof(seen.id), "%s", record.id);
    snprintf(seen.url, sizeof(seen.url), "%s", record.url);
    return seen;
}

/* A task with a callbackUrl; the host is what stands between "https://" and the next slash. */
static inline void owe(const struct place *place, const char *id, const char *url)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str) char *host = strndup(url + 8, strcspn(url + 8, "/"));
    struct task_new task = task_of(id);
    task.webhook_url = url;
    task.webhook_host = host;
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
}

/* --- lists --------------------------------------------------------------------------------- */

struct listed {
    char text[256];
    int stop_after;
    int64_t last;
};

static inline int list_one(const struct task_record *record, void *arg)
{
    struct listed *listed = arg;
    size_t len = strlen(listed->text);
    snprintf(listed->text + len, sizeof(listed->text) - len, "%s%s", len ? " " : "", record->id);
    listed->last = record->seq;
    return --listed->stop_after == 0;
}

static inline struct listed list(const struct place *place, struct store_filter filter)
{
    struct err err;
    struct listed listed = {.stop_after = -1};
    OK(store_list(place->store, &filter, list_one, &listed, &err) == 0, &err);
    return listed;
}

#endif
