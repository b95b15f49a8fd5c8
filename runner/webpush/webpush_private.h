/*
 * What the files of runner/webpush share. Private to runner/webpush.
 *
 * Threads: functions whose name ends in _locked are called with push->lock held.
 * Ownership: struct push owns its key, subscriptions and letters; returned pointers are borrowed.
 */
#ifndef WEBPUSH_PRIVATE_H
#define WEBPUSH_PRIVATE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/webpush/encrypt.h"
#include "runner/webpush/webpush.h"

#include <pthread.h>

#define PUSH_LETTERS_MAX 128
#define PUSH_TOLD_MAX 16
#define PUSH_ENDPOINT_SIZE 1024
#define PUSH_TOPIC_SIZE 33 /* a push service accepts 32 characters */

struct subscription {
    char id[ID_SIZE];
    char endpoint[PUSH_ENDPOINT_SIZE];
    char origin[300], label[80];
    struct push_peer peer;
    unsigned events;
    int64_t created_ms, sent_ms;
    int failures; /* in a row */
    char error[160];
};

/* A message to one subscription. */
struct letter {
    char subscription[ID_SIZE], topic[PUSH_TOPIC_SIZE];
    char *text; /* NULL: the slot is free */
    bool urgent;
    int tries;
    int64_t made_ms, due_ms; /* mono */
};

/* A present trouble. Used by the thread only. */
struct told {
    char reason[PUSH_TOPIC_SIZE];
    int64_t since_ms;
    bool told, seen;
};

struct push {
    struct push_config config;
    struct thread thread;
    struct told told[PUSH_TOLD_MAX];
    struct lock lock; /* guards the fields below; never held across I/O */
    pthread_cond_t changed;
    bool stopping;
    struct crypto_p256 *key; /* NULL until it is needed; does not change after that */
    struct subscription subscriptions[PUSH_SUBSCRIPTIONS_MAX];
    size_t count;
    struct letter letters[PUSH_LETTERS_MAX];
    int ended; /* ended tasks that must be reported */
    char ended_id[ID_SIZE];
    int64_t ended_due_ms, told_ms, look_ms;
};

/* subscriptions.c. Reads the key and the subscriptions from the store. */
int webpush_load(struct push *push, struct err *err);
/* The runner's key, made and stored when there is none. `push` owns it. Call without the lock. */
struct crypto_p256 *webpush_key(struct push *push, struct err *err);
/* The subscription of that id, or NULL. */
struct subscription *webpush_find_locked(struct push *push, const char *id) HOLDS(push->lock);

/* deliver.c. Sends a letter (without the lock meanwhile), and frees or postpones it. */
void webpush_deliver_locked(struct push *push, struct letter *letter) HOLDS(push->lock);

#endif
