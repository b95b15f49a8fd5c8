#include "runner/task/active.h"

#include "base/check.h"
#include "base/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS_MIN 64

int active_init(struct active_table *table)
{
    *table = (struct active_table){.bucket_count = BUCKETS_MIN};
    table->buckets = calloc(table->bucket_count, sizeof(struct active_task *));
    for (int i = 0; i < PRIORITIES; i++)
        for (int class = 0; class < ACTIVE_CLASSES; class ++)
            TAILQ_INIT(&table->queues[i][class]);
    TAILQ_INIT(&table->sleeping);
    return table->buckets ? 0 : -1;
}

void active_done(struct active_table *table)
{
    for (size_t i = 0; table->buckets && i < table->bucket_count; i++)
        while (table->buckets[i])
            active_remove(table, table->buckets[i]);
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

static struct active_task **bucket_of(struct active_table *table, const char *id)
{
    return &table->buckets[hash_of(id) & (table->bucket_count - 1)];
}

static void grow(struct active_table *table)
{
    size_t old_count = table->bucket_count;
    struct active_task **old = table->buckets,
                       **more = calloc(old_count * 2, sizeof(struct active_task *));
    if (!more)
        return; /* The table then has longer chains, but works. */
    table->buckets = more;
    table->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        while (old[i]) {
            struct active_task *active = old[i], **to = bucket_of(table, active->id);
            old[i] = active->next;
            active->next = *to;
            *to = active;
        }
    }
    free(old);
}

struct active_task *active_add(struct active_table *table, const char *id)
{
    struct active_task *active = calloc(1, sizeof(*active));
    if (!active)
        return NULL;
    if (table->count >= table->bucket_count)
        grow(table);
    snprintf(active->id, sizeof(active->id), "%s", id);
    active->wake_fd = -1;
    struct active_task **bucket = bucket_of(table, active->id);
    active->next = *bucket;
    *bucket = active;
    table->count++;
    return active;
}

static struct active_queue *queue_of(struct active_table *table, const struct active_task *active)
{
    return active->sleeps ? &table->sleeping : &table->queues[active->priority][active->class];
}

unsigned active_class(bool shared, const char *stays, enum task_executor executor)
{
    bool away = stays == NULL && executor != EXECUTOR_LOCAL;
    return (shared ? ACTIVE_SHARED : 0u) | (away ? ACTIVE_AWAY : 0u) |
           (executor != EXECUTOR_CLOUD ? ACTIVE_HERE : 0u);
}

/* Copies what the row says about it. */
static void describe(struct active_task *active, const struct task_record *record)
{
    int priority = record->priority;
    snprintf(active->kind, sizeof(active->kind), "%s", record->kind);
    active->priority = priority < 0 ? 0 : priority >= PRIORITIES ? PRIORITIES - 1 : priority;
    active->created_ms = record->created_ms;
    active->not_before_ms = record->not_before_ms;
    active->class = active_class(record->shared, record->stays, record->executor);
    active->memory_mb =
        record->request ? task_memory_asked(record->request, strlen(record->request)) : 0;
}

void active_enqueue(struct active_table *table, struct active_task *active,
                    const struct task_record *record)
{
    REQUIRE(active->state == ACTIVE_ARRIVING && !active->reserved);
    describe(active, record);
    active->order = table->arrivals++;
    active->queued_ms = clock_mono_ms();
    active->state = ACTIVE_QUEUED;
    active->sleeps = active->not_before_ms > clock_real_ms();
    table->asleep += active->sleeps;
    TAILQ_INSERT_TAIL(queue_of(table, active), active, queue);
    table->queued++;
}

int64_t active_wake(struct active_table *table, int64_t real_ms)
{
    int64_t next = -1;
    struct active_task *active = TAILQ_FIRST(&table->sleeping), *after;
    for (; active; active = after) {
        int64_t left = active->not_before_ms - real_ms;
        after = TAILQ_NEXT(active, queue);
        if (left > 0) {
            next = next < 0 || left < next ? left : next;
            continue;
        }
        TAILQ_REMOVE(&table->sleeping, active, queue);
        active->sleeps = false;
        table->asleep--;
        active->queued_ms = clock_mono_ms();
        active->order = table->arrivals++;
        TAILQ_INSERT_TAIL(queue_of(table, active), active, queue);
    }
    return next;
}

struct claimed_task *claimed_new(const struct task_record *record, const char *secrets,
                                 struct err *err)
{
    struct claimed_task *claimed = calloc(1, sizeof(*claimed));
    if (!claimed) {
        err_sys(err, "task");
        return NULL;
    }
    size_t len = secrets ? strlen(secrets) : 0;
    buf_init(&claimed->secrets, len + 1);
    if (task_record_copy(record, &claimed->record, err) == 0 &&
        (len == 0 || buf_add(&claimed->secrets, secrets, len) == 0))
        return claimed;
    claimed_free(claimed);
    return NULL;
}

void claimed_free(struct claimed_task *claimed)
{
    if (!claimed)
        return;
    task_record_done(&claimed->record);
    buf_wipe(&claimed->secrets);
    free(claimed);
}

void active_reserve(struct active_table *table, struct active_task *active,
                    const struct task_new *task)
{
    REQUIRE(active->state == ACTIVE_ARRIVING && !active->reserved);
    active->reserved = true;
    active->place = PLACE_HERE;
    snprintf(active->kind, sizeof(active->kind), "%s", task->kind);
    active->memory_mb = task_memory_asked(task->request, strlen(task->request));
    table->running[active->place]++;
}

void active_start(struct active_task *active, struct claimed_task *claimed)
{
    REQUIRE(active->reserved && claimed);
    describe(active, &claimed->record);
    active->reserved = false;
    active->state = ACTIVE_RUNNING;
    active->started_ms = claimed->record.started_ms;
    active->claimed = claimed;
}

void active_adopt(struct active_table *table, struct active_task *active,
                  const struct task_record *record)
{
    REQUIRE(active->state == ACTIVE_ARRIVING && !active->reserved);
    describe(active, record);
    active->state = ACTIVE_RUNNING;
    active->place = record->place;
    active->adopted = true;
    table->running[active->place]++;
}

struct active_task *active_find(struct active_table *table, const char *id)
{
    struct active_task *active = *bucket_of(table, id);
    while (active && strcmp(active->id, id) != 0)
        active = active->next;
    return active;
}

void active_remove(struct active_table *table, struct active_task *active)
{
    struct active_task **at = bucket_of(table, active->id);
    while (*at != active)
        at = &(*at)->next;
    *at = active->next;
    table->count--;
    if (active->state == ACTIVE_QUEUED) {
        TAILQ_REMOVE(queue_of(table, active), active, queue);
        table->queued--;
        table->asleep -= active->sleeps;
    } else if (active->state == ACTIVE_RUNNING || active->reserved) {
        table->running[active->place]--;
    }
    claimed_free(active->claimed);
    if (active->wake_fd >= 0)
        close(active->wake_fd);
    free(active);
}

/* The first task of a queue that fits: the very first, or a later one that names no memory. */
static struct active_task *first_fitting(const struct active_queue *queue, struct active_fit *fit)
{
    struct active_task *active = TAILQ_FIRST(queue);
    for (bool first = true; fit && active; active = TAILQ_NEXT(active, queue), first = false) {
        if ((first || active->memory_mb == 0) &&
            task_memory_fits(&fit->memory, fit->promised_mb, active->memory_mb))
            return active;
        fit->left_some = true;
    }
    return active;
}

/* The oldest of one priority among the classes in `allowed`, or NULL. */
static struct active_task *first_of(const struct active_table *table, int priority,
                                    unsigned allowed, struct active_fit *fit)
{
    struct active_task *first = NULL;
    for (unsigned class = 0; class < ACTIVE_CLASSES; class ++) {
        struct active_task *active =
            allowed >> class & 1 ? first_fitting(&table->queues[priority][class], fit) : NULL;
        if (active && (!first || active->order < first->order))
            first = active;
    }
    return first;
}

struct active_task *active_take(struct active_table *table, unsigned allowed, int64_t waits_since,
                                enum task_place place, struct active_fit *fit)
{
    for (int i = PRIORITIES - 1; i >= 0; i--) {
        struct active_task *active = first_of(table, i, allowed, fit);
        if (!active || active->queued_ms > waits_since)
            continue;
        TAILQ_REMOVE(queue_of(table, active), active, queue);
        active->state = ACTIVE_RUNNING;
        active->place = place;
        table->queued--;
        table->running[place]++;
        return active;
    }
    return NULL;
}

int64_t active_promised_mb(const struct active_table *table)
{
    int64_t sum = 0;
    for (size_t i = 0; i < table->bucket_count; i++)
        for (const struct active_task *at = table->buckets[i]; at; at = at->next)
            if ((at->state == ACTIVE_RUNNING || at->reserved) && at->place == PLACE_HERE)
                sum += at->memory_mb;
    return sum;
}

int64_t active_waits_since(const struct active_table *table, unsigned allowed)
{
    int64_t since = -1;
    for (int i = 0; i < PRIORITIES; i++) {
        const struct active_task *active = first_of(table, i, allowed, NULL);
        if (active && (since < 0 || active->queued_ms < since))
            since = active->queued_ms;
    }
    return since;
}

void active_put_back(struct active_table *table, struct active_task *active)
{
    REQUIRE(active->state == ACTIVE_RUNNING);
    TAILQ_INSERT_HEAD(queue_of(table, active), active, queue);
    active->state = ACTIVE_QUEUED;
    active->adopted = false;
    active->queued_ms = clock_mono_ms();
    if (active->wake_fd >= 0)
        close(active->wake_fd);
    active->wake_fd = -1;
    table->queued++;
    table->running[active->place]--;
}
