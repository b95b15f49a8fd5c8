#include "runner/task/live.h"

#include "base/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS_MIN 64

int live_init(struct live_table *table)
{
    *table = (struct live_table){.bucket_count = BUCKETS_MIN};
    table->buckets = calloc(table->bucket_count, sizeof(struct live *));
    for (int i = 0; i < PRIORITIES; i++)
        for (int class = 0; class < LIVE_CLASSES; class ++)
            TAILQ_INIT(&table->queues[i][class]);
    return table->buckets ? 0 : -1;
}

void live_done(struct live_table *table)
{
    for (size_t i = 0; table->buckets && i < table->bucket_count; i++)
        while (table->buckets[i])
            live_remove(table, table->buckets[i]);
    free(table->buckets);
}

/* FNV-1a: ids are random or the caller's own, and the table is small. */
static uint64_t hash_of(const char *id)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * UINT64_C(1099511628211);
    return hash;
}

static struct live **bucket_of(struct live_table *table, const char *id)
{
    return &table->buckets[hash_of(id) & (table->bucket_count - 1)];
}

static void grow(struct live_table *table)
{
    size_t old_count = table->bucket_count;
    struct live **old = table->buckets, **more = calloc(old_count * 2, sizeof(struct live *));
    if (!more)
        return; /* longer chains, nothing worse */
    table->buckets = more;
    table->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        while (old[i]) {
            struct live *live = old[i], **to = bucket_of(table, live->id);
            old[i] = live->next;
            live->next = *to;
            *to = live;
        }
    }
    free(old);
}

struct live *live_add(struct live_table *table, const char *id)
{
    struct live *live = calloc(1, sizeof(*live));
    if (!live)
        return NULL;
    if (table->count >= table->bucket_count)
        grow(table);
    snprintf(live->id, sizeof(live->id), "%s", id);
    live->wake_fd = -1;
    struct live **bucket = bucket_of(table, live->id);
    live->next = *bucket;
    *bucket = live;
    table->count++;
    return live;
}

static struct live_queue *queue_of(struct live_table *table, const struct live *live)
{
    return &table->queues[live->priority][live->class];
}

/* What its row says of it. */
static void describe(struct live *live, const struct task_record *record)
{
    int priority = record->priority;
    bool away = record->stays == NULL && record->executor != EXECUTOR_LOCAL;
    snprintf(live->kind, sizeof(live->kind), "%s", record->kind);
    live->priority = priority < 0 ? 0 : priority >= PRIORITIES ? PRIORITIES - 1 : priority;
    live->created_ms = record->created_ms;
    live->class = (record->shared ? LIVE_SHARED : 0u) | (away ? LIVE_AWAY : 0u) |
                  (record->executor != EXECUTOR_CLOUD ? LIVE_HERE : 0u);
}

void live_enqueue(struct live_table *table, struct live *live, const struct task_record *record)
{
    describe(live, record);
    live->order = table->arrivals++;
    live->queued_ms = clock_mono_ms();
    live->state = LIVE_QUEUED;
    TAILQ_INSERT_TAIL(queue_of(table, live), live, queue);
    table->queued++;
}

void live_adopt(struct live_table *table, struct live *live, const struct task_record *record)
{
    describe(live, record);
    live->state = LIVE_RUNNING;
    live->place = record->place;
    live->adopted = true;
    table->running[live->place]++;
}

struct live *live_find(struct live_table *table, const char *id)
{
    struct live *live = *bucket_of(table, id);
    while (live && strcmp(live->id, id) != 0)
        live = live->next;
    return live;
}

void live_remove(struct live_table *table, struct live *live)
{
    struct live **at = bucket_of(table, live->id);
    while (*at != live)
        at = &(*at)->next;
    *at = live->next;
    table->count--;
    if (live->state == LIVE_QUEUED) {
        TAILQ_REMOVE(queue_of(table, live), live, queue);
        table->queued--;
    } else if (live->state == LIVE_RUNNING) {
        table->running[live->place]--;
    }
    if (live->wake_fd >= 0)
        close(live->wake_fd);
    free(live);
}

/* The oldest of one priority among the classes in `allowed`, or NULL. */
static struct live *first_of(const struct live_table *table, int priority, unsigned allowed)
{
    struct live *first = NULL;
    for (unsigned class = 0; class < LIVE_CLASSES; class ++) {
        struct live *live = TAILQ_FIRST(&table->queues[priority][class]);
        if (live && (allowed >> class & 1) && (!first || live->order < first->order))
            first = live;
    }
    return first;
}

struct live *live_take(struct live_table *table, unsigned allowed, int64_t waits_since,
                       enum task_place place)
{
    for (int i = PRIORITIES - 1; i >= 0; i--) {
        struct live *live = first_of(table, i, allowed);
        if (!live || live->queued_ms > waits_since)
            continue;
        TAILQ_REMOVE(queue_of(table, live), live, queue);
        live->state = LIVE_RUNNING;
        live->place = place;
        table->queued--;
        table->running[place]++;
        return live;
    }
    return NULL;
}

int64_t live_waits_since(const struct live_table *table, unsigned allowed)
{
    int64_t since = -1;
    for (int i = 0; i < PRIORITIES; i++) {
        const struct live *live = first_of(table, i, allowed);
        if (live && (since < 0 || live->queued_ms < since))
            since = live->queued_ms;
    }
    return since;
}

void live_put_back(struct live_table *table, struct live *live)
{
    TAILQ_INSERT_HEAD(queue_of(table, live), live, queue);
    live->state = LIVE_QUEUED;
    live->adopted = false;
    live->queued_ms = clock_mono_ms();
    if (live->wake_fd >= 0)
        close(live->wake_fd);
    live->wake_fd = -1;
    table->queued++;
    table->running[live->place]--;
}
