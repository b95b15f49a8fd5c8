#include "base/clock.h"
#include "base/lock.h"
#include "google/identity.h"
#include "google/limits.h"

#include <string.h>

static bool is_alive_locked(const struct token_cache *cache) HOLDS(cache->lock);
static bool is_alive_locked(const struct token_cache *cache)
{
    return cache->text && clock_mono_ms() < cache->end_ms;
}

static void forget_locked(struct token_cache *cache) HOLDS(cache->lock);
static void forget_locked(struct token_cache *cache)
{
    if (cache->text)
        explicit_bzero(cache->text, strlen(cache->text));
    free(cache->text);
    cache->text = NULL;
}

static void keep_locked(struct token_cache *cache, struct buf *token, int64_t life_ms)
    HOLDS(cache->lock);
static void keep_locked(struct token_cache *cache, struct buf *token, int64_t life_ms)
{
    int64_t now = clock_mono_ms();
    int64_t early = TOKEN_EARLY_MS < life_ms / 2 ? TOKEN_EARLY_MS : life_ms / 2;
    forget_locked(cache);
    cache->text = buf_steal(token);
    cache->end_ms = now + life_ms;
    cache->early_ms = cache->end_ms - early;
    cache->failure = (struct err){0};
}

/* Asks for a token without the lock, on behalf of every waiting caller. */
static void refresh_locked(struct identity *identity) HOLDS(identity->cache.lock);
static void refresh_locked(struct identity *identity)
{
    struct token_cache *cache = &identity->cache;
    struct err err = ERR_INIT;
    int64_t life_ms = 0;
    AUTO(buf_wipe) struct buf token = BUF_INIT(TOKEN_BYTES_MAX);
    int total_ms = is_alive_locked(&identity->cache) ? TOKEN_PATIENCE_MS : TOKEN_MS;
    cache->asking = true;
    lock_drop(&identity->cache.lock);
    int rc = identity_ask(identity, total_ms, &token, &life_ms, &err);
    lock_take(&identity->cache.lock);
    cache->asking = false;
    cache->round++;
    if (rc == 0) {
        keep_locked(&identity->cache, &token, life_ms);
    } else {
        cache->failure = err;
        cache->early_ms = clock_mono_ms() + TOKEN_PAUSE_MS; /* Only matters while the old token is
                                                             * valid. */
    }
    pthread_cond_broadcast(&cache->changed);
}

/* Waits until the caller that asks has an answer, good or bad. */
static void await_locked(struct token_cache *cache) HOLDS(cache->lock);
static void await_locked(struct token_cache *cache)
{
    unsigned round = cache->round;
    while (cache->asking && cache->round == round)
        if (!lock_wait(&cache->changed, &cache->lock, 2 * TOKEN_MS))
            return;
}

/* Gets a token or a failure. A faster caller may have used a new token, seen it refused and dropped
 * it before this one could use it, so this tries once more. */
static void obtain_locked(struct identity *identity) HOLDS(identity->cache.lock);
static void obtain_locked(struct identity *identity)
{
    struct token_cache *cache = &identity->cache;
    for (int tries = 0; tries < 3 && !cache->text; tries++) {
        if (cache->asking)
            await_locked(&identity->cache);
        else
            refresh_locked(identity);
        if (cache->failure.code != ERR_NONE)
            return;
    }
}

int identity_token(struct identity *identity, struct buf *out, struct err *err)
{
    struct token_cache *cache = &identity->cache;
    int rc = -1;
    lock_take(&identity->cache.lock);
    if (!is_alive_locked(&identity->cache)) {
        forget_locked(&identity->cache);
        obtain_locked(identity); /* Used even when its life ends at once. */
    } else if (clock_mono_ms() >= cache->early_ms && !cache->asking) {
        refresh_locked(identity);
    }
    if (cache->text)
        rc = buf_adds(out, cache->text) ? buf_check(out, "the access token", err) : 0;
    else if (cache->failure.code != ERR_NONE)
        *err = cache->failure;
    else
        err_set(err, ERR_TIMEOUT, "no access token came in time");
    lock_drop(&identity->cache.lock);
    return rc;
}

void identity_drop(struct identity *identity, const char *token)
{
    struct token_cache *cache = &identity->cache;
    lock_take(&cache->lock);
    bool same = cache->text && strcmp(cache->text, token) == 0;
    if (same)
        forget_locked(cache);
    lock_drop(&cache->lock);
}
