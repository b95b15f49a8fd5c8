#include "runner/api/replay.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define KEEP_MS 86400000

struct entry {
    char *name; /* caller and key; NULL: free */
    unsigned char hash[REPLAY_HASH_SIZE];
    int64_t since_ms;
    int status; /* 0: not answered yet */
    char *body;
    size_t len;
};

struct replay {
    struct lock lock;
    struct entry entries[REPLAY_ENTRIES];
    size_t bytes;
};

struct replay *replay_new(void)
{
    struct replay *replay = calloc(1, sizeof(*replay));
    if (replay)
        lock_init(&replay->lock);
    return replay;
}

static void drop(struct replay *replay, struct entry *entry)
{
    replay->bytes -= entry->len;
    free(entry->name);
    free(entry->body);
    *entry = (struct entry){0};
}

void replay_free(struct replay *replay)
{
    if (!replay)
        return;
    for (size_t i = 0; i < REPLAY_ENTRIES; i++)
        drop(replay, &replay->entries[i]);
    lock_done(&replay->lock);
    free(replay);
}

static struct entry *find(struct replay *replay, const char *name)
{
    for (size_t i = 0; i < REPLAY_ENTRIES; i++)
        if (replay->entries[i].name && strcmp(replay->entries[i].name, name) == 0)
            return &replay->entries[i];
    return NULL;
}

/* The oldest entry that has an answer. */
static struct entry *oldest(struct replay *replay)
{
    struct entry *found = NULL;
    for (size_t i = 0; i < REPLAY_ENTRIES; i++) {
        struct entry *entry = &replay->entries[i];
        if (entry->name && entry->status && (!found || entry->since_ms < found->since_ms))
            found = entry;
    }
    return found;
}

static struct entry *make(struct replay *replay, const char *name)
{
    struct entry *entry = NULL;
    for (size_t i = 0; i < REPLAY_ENTRIES && !entry; i++)
        if (!replay->entries[i].name)
            entry = &replay->entries[i];
    if (!entry && (entry = oldest(replay)))
        drop(replay, entry);
    if (entry)
        entry->name = strdup(name);
    return entry && entry->name ? entry : NULL;
}

static char *name_of(const char *caller, const char *key)
{
    char *name = NULL;
    return asprintf(&name, "%s\n%s", caller, key) < 0 ? NULL : name;
}

static int look(struct replay *replay, const char *name, const unsigned char *hash,
                enum replay_state *ret_state, int *ret_status, struct buf *out, struct err *err)
{
    struct entry *entry = find(replay, name);
    if (entry && entry->status && clock_mono_ms() - entry->since_ms > KEEP_MS) {
        drop(replay, entry);
        entry = NULL;
    }
    if (entry && memcmp(entry->hash, hash, REPLAY_HASH_SIZE) != 0)
        return err_set(err, ERR_CONFLICT,
                       "this Idempotency-Key was used before with another request");
    if (entry && !entry->status)
        return err_set(err, ERR_CONFLICT, "the request with this Idempotency-Key is not done yet");
    if (entry) {
        *ret_state = REPLAY_DONE;
        *ret_status = entry->status;
        buf_add(out, entry->body, entry->len);
        return 0;
    }
    if (!(entry = make(replay, name)))
        return err_set(err, ERR_BUSY, "too many requests with an Idempotency-Key are under way");
    memcpy(entry->hash, hash, REPLAY_HASH_SIZE);
    entry->since_ms = clock_mono_ms();
    *ret_state = REPLAY_NEW;
    return 0;
}

int replay_begin(struct replay *replay, const char *caller, const char *key,
                 const unsigned char hash[REPLAY_HASH_SIZE], enum replay_state *ret_state,
                 int *ret_status, struct buf *out, struct err *err)
{
    AUTO(str) char *name = name_of(caller, key);
    if (!name)
        return err_sys(err, "Idempotency-Key");
    lock_take(&replay->lock);
    int rc = look(replay, name, hash, ret_state, ret_status, out, err);
    lock_drop(&replay->lock);
    return rc;
}

void replay_end(struct replay *replay, const char *caller, const char *key, int status,
                const char *body, size_t len)
{
    REQUIRE(caller && key);
    AUTO(str) char *name = name_of(caller, key);
    lock_take(&replay->lock);
    struct entry *entry = name ? find(replay, name) : NULL;
    if (entry && status && len < REPLAY_BYTES_MAX / 4 && (entry->body = str_copy(body, len))) {
        entry->status = status;
        entry->len = len;
        replay->bytes += len;
    } else if (entry) {
        drop(replay, entry);
    }
    while (replay->bytes > REPLAY_BYTES_MAX && (entry = oldest(replay)))
        drop(replay, entry);
    lock_drop(&replay->lock);
}
