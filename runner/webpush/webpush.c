#include "runner/webpush/webpush.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "runner/webpush/webpush_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define STACK_BYTES (512u << 10)
#define LOOK_MS 5000    /* how often troubles are looked for */
#define REST_MS 3600000 /* the same while there is no subscription */
#define SURE_MS 5000    /* a trouble that ends sooner is not reported */
#define GATHER_MS 2000  /* tasks that end within this time are reported together */
#define PAUSE_MS 20000  /* pause between two such messages */
#define TITLE_BYTES 120

/* --- the queue ----------------------------------------------------------------------------- */

static struct letter *free_letter_locked(struct push *push, const char *subscription,
                                         const char *topic) HOLDS(push->lock);
static struct letter *free_letter_locked(struct push *push, const char *subscription,
                                         const char *topic)
{
    struct letter *place = NULL, *oldest = &push->letters[0];
    for (size_t i = 0; i < PUSH_LETTERS_MAX; i++) {
        struct letter *letter = &push->letters[i];
        bool same = letter->text && strcmp(letter->subscription, subscription) == 0 &&
                    strcmp(letter->topic, topic) == 0;
        if (same)
            return letter;
        if (!letter->text && !place)
            place = letter;
        if (letter->made_ms < oldest->made_ms)
            oldest = letter;
    }
    return place ? place : oldest;
}

static void put_letter_locked(struct push *push, const char *subscription, const char *topic,
                              bool urgent, const char *text) HOLDS(push->lock);
static void put_letter_locked(struct push *push, const char *subscription, const char *topic,
                              bool urgent, const char *text)
{
    struct letter *letter = free_letter_locked(push, subscription, topic);
    free(letter->text);
    *letter = (struct letter){.text = strdup(text), .urgent = urgent, .made_ms = clock_mono_ms()};
    letter->due_ms = letter->made_ms;
    snprintf(letter->subscription, sizeof(letter->subscription), "%s", subscription);
    snprintf(letter->topic, sizeof(letter->topic), "%s", topic);
}

/* The text that the console's service worker shows. */
static int print_text(const char *topic, const char *title, const char *body, const char *path,
                      struct buf *out, struct err *err)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "tag", topic);
    json_add_text(&w, "title", title);
    json_add_text(&w, "body", body);
    json_add_text(&w, "path", path);
    json_close(&w);
    return buf_check(out, "the message", err);
}

int webpush_tell(struct push *push, enum push_event event, const char *id, const char *topic,
                 const char *title, const char *body, const char *path, struct err *err)
{
    REQUIRE(topic && title && body);
    int count = 0;
    AUTO(buf) struct buf text = BUF_INIT(PUSH_TEXT_MAX);
    if (print_text(topic, title, body, path, &text, err))
        return -1;
    lock_take(&push->lock);
    for (size_t i = 0; i < push->count; i++) {
        const struct subscription *one = &push->subscriptions[i];
        if (id ? strcmp(one->id, id) != 0 : !(one->events & (unsigned)event))
            continue;
        put_letter_locked(push, one->id, topic, event == PUSH_NEEDS_YOU, buf_str(&text));
        count++;
    }
    pthread_cond_broadcast(&push->changed);
    lock_drop(&push->lock);
    return count;
}

static bool anybody_wants_locked(const struct push *push, enum push_event event) HOLDS(push->lock);
static bool anybody_wants_locked(const struct push *push, enum push_event event)
{
    for (size_t i = 0; i < push->count; i++)
        if (push->subscriptions[i].events & (unsigned)event)
            return true;
    return false;
}

/* --- tasks that have ended ----------------------------------------------------------------- */

void webpush_ended(struct push *push, const char *task_id)
{
    int64_t now = clock_mono_ms();
    lock_take(&push->lock);
    if (anybody_wants_locked(push, PUSH_DONE)) {
        if (push->ended++ == 0) {
            int64_t earliest = push->told_ms ? push->told_ms + PAUSE_MS : 0;
            push->ended_due_ms = now + GATHER_MS > earliest ? now + GATHER_MS : earliest;
        }
        snprintf(push->ended_id, sizeof(push->ended_id), "%s", task_id);
        pthread_cond_broadcast(&push->changed);
    }
    lock_drop(&push->lock);
}

/* The beginning of the prompt, cut between characters. */
static void title_of(const struct task_record *task, char *title, size_t size)
{
    struct err ignored;
    AUTO(json) struct json *request = json_parse(task->request, strlen(task->request), &ignored);
    const char *text = request ? json_text(json_get(request, "prompt")) : NULL;
    if (request && !text)
        text = json_text(json_get(request, "command"));
    snprintf(title, size, "%s", text ? text : task->id);
    size_t n = strlen(title);
    while (n > 0 && n == size - 1 && ((unsigned char)title[n - 1] & 0xc0) == 0x80)
        title[--n] = '\0';
    if (n > 0 && n >= size - 4 && ((unsigned char)title[n - 1] & 0xc0) == 0xc0)
        title[n - 1] = '\0';
}

static void tell_ended(struct push *push, int count, const char *id)
{
    struct err err;
    char title[64], body[TITLE_BYTES], path[ID_SIZE + 16];
    AUTO(task_record) struct task_record task = {0};
    if (count == 1 && store_get(push->config.store, id, &task, &err) == 0) {
        snprintf(title, sizeof(title), "%s",
                 task.state == TASK_COMPLETED ? "Done"
                 : task.state == TASK_FAILED  ? "Failed"
                                              : "Cancelled");
        title_of(&task, body, sizeof(body));
        snprintf(path, sizeof(path), "/#/tasks/%s", id);
    } else {
        snprintf(title, sizeof(title), "%d tasks have ended", count);
        snprintf(body, sizeof(body), "The last was %s.", id);
        snprintf(path, sizeof(path), "/#/tasks");
    }
    if (webpush_tell(push, PUSH_DONE, NULL, "done", title, body, path, &err) < 0)
        log_warn("push", "%s", err.msg);
}

/* --- what is the matter -------------------------------------------------------------------- */

static struct told *find_told(struct push *push, const char *reason)
{
    struct told *place = NULL;
    for (size_t i = 0; i < PUSH_TOLD_MAX; i++) {
        if (strcmp(push->told[i].reason, reason) == 0)
            return &push->told[i];
        if (!push->told[i].reason[0] && !place)
            place = &push->told[i];
    }
    if (place) {
        *place = (struct told){.since_ms = clock_mono_ms()};
        snprintf(place->reason, sizeof(place->reason), "%s", reason);
    }
    return place;
}

/* Reports troubles that are new and last; forgets those that are over. */
static void look(struct push *push)
{
    struct err err;
    struct push_trouble troubles[PUSH_TOLD_MAX];
    size_t count = push->config.troubles(troubles, PUSH_TOLD_MAX, push->config.arg);
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < PUSH_TOLD_MAX; i++)
        push->told[i].seen = false;
    for (size_t i = 0; i < count; i++) {
        struct told *told = find_told(push, troubles[i].reason);
        if (!told)
            continue;
        told->seen = true;
        if (told->told || now - told->since_ms < SURE_MS)
            continue;
        told->told = true;
        if (webpush_tell(push, PUSH_NEEDS_YOU, NULL, troubles[i].reason, "Claude Runner needs you",
                         troubles[i].remedy, "/", &err) < 0)
            log_warn("push", "%s", err.msg);
    }
    for (size_t i = 0; i < PUSH_TOLD_MAX; i++)
        if (!push->told[i].seen)
            push->told[i].reason[0] = '\0';
}

/* --- the thread ---------------------------------------------------------------------------- */

static struct letter *first_letter_locked(struct push *push) HOLDS(push->lock);
static struct letter *first_letter_locked(struct push *push)
{
    struct letter *first = NULL;
    for (size_t i = 0; i < PUSH_LETTERS_MAX; i++)
        if (push->letters[i].text && (!first || push->letters[i].due_ms < first->due_ms))
            first = &push->letters[i];
    return first;
}

/* Does one thing that is due, without the lock. Returns the time until something else is due. */
static int64_t step_locked(struct push *push) HOLDS(push->lock);
static int64_t step_locked(struct push *push)
{
    int64_t now = clock_mono_ms(), wait = REST_MS;
    struct letter *letter = first_letter_locked(push);
    if (letter && letter->due_ms <= now) {
        webpush_deliver_locked(push, letter);
        return 0;
    }
    if (letter)
        wait = letter->due_ms - now;
    if (push->ended > 0 && push->ended_due_ms <= now) {
        int count = push->ended;
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "%s", push->ended_id);
        push->ended = 0;
        push->told_ms = now;
        lock_drop(&push->lock);
        tell_ended(push, count, id);
        lock_take(&push->lock);
        return 0;
    }
    if (push->ended > 0 && push->ended_due_ms - now < wait)
        wait = push->ended_due_ms - now;
    if (!anybody_wants_locked(push, PUSH_NEEDS_YOU))
        return wait;
    if (now >= push->look_ms) {
        push->look_ms = now + LOOK_MS;
        lock_drop(&push->lock);
        look(push);
        lock_take(&push->lock);
        return 0;
    }
    return push->look_ms - now < wait ? push->look_ms - now : wait;
}

static void *work(void *arg)
{
    struct push *push = arg;
    lock_take(&push->lock);
    while (!push->stopping) {
        int64_t wait = step_locked(push);
        if (wait > 0 && !push->stopping)
            lock_wait(&push->changed, &push->lock, wait);
    }
    lock_drop(&push->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

struct push *webpush_new(const struct push_config *config, struct err *err)
{
    REQUIRE(config->troubles);
    struct push *push = calloc(1, sizeof(*push));
    if (!push) {
        err_sys(err, "push");
        return NULL;
    }
    push->config = *config;
    lock_init(&push->lock);
    cond_init(&push->changed);
    if (webpush_load(push, err)) {
        webpush_free(push);
        return NULL;
    }
    return push;
}

int webpush_start(struct push *push, struct err *err)
{
    return thread_start(&push->thread, "push", STACK_BYTES, work, push, err);
}

void webpush_stop(struct push *push)
{
    if (!push)
        return;
    lock_take(&push->lock);
    push->stopping = true;
    pthread_cond_broadcast(&push->changed);
    lock_drop(&push->lock);
    thread_join(&push->thread);
}

void webpush_free(struct push *push)
{
    if (!push)
        return;
    webpush_stop(push);
    for (size_t i = 0; i < PUSH_LETTERS_MAX; i++)
        free(push->letters[i].text);
    crypto_p256_free(push->key);
    pthread_cond_destroy(&push->changed);
    lock_done(&push->lock);
    free(push);
}
