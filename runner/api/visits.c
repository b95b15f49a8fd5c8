#include "runner/api/visits.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"

#include <stdlib.h>
#include <string.h>

struct link {
    char token[ID_TOKEN_SIZE];
    unsigned char secret[CRYPTO_SHA256_SIZE];
    int64_t until_ms; /* mono; 0: free */
};

struct visits {
    struct lock lock;
    struct link links[LINKS_MAX];
    struct visit items[VISITS_MAX]; /* a slot is free when until_ms is 0 */
};

struct visits *visits_new(void)
{
    struct visits *visits = calloc(1, sizeof(*visits));
    if (visits)
        lock_init(&visits->lock);
    return visits;
}

void visits_free(struct visits *visits)
{
    if (!visits)
        return;
    lock_done(&visits->lock);
    explicit_bzero(visits->items, sizeof(visits->items));
    explicit_bzero(visits->links, sizeof(visits->links));
    free(visits);
}

void visits_add_digest(struct visits *visits, const unsigned char secret[CRYPTO_SHA256_SIZE],
                       int64_t idle_ms, struct visit *ret_visit)
{
    REQUIRE(secret && ret_visit);
    struct visit visit = {.until_ms = clock_mono_ms() + (idle_ms ? idle_ms : VISIT_MS),
                          .idle_ms = idle_ms};
    id_token(visit.cookie);
    id_token(visit.csrf);
    memcpy(visit.secret, secret, sizeof(visit.secret));
    lock_take(&visits->lock);
    struct visit *place = &visits->items[0];
    for (size_t i = 1; i < VISITS_MAX; i++)
        if (visits->items[i].until_ms < place->until_ms)
            place = &visits->items[i];
    *place = visit;
    lock_drop(&visits->lock);
    *ret_visit = visit;
}

void visits_add(struct visits *visits, const char *secret, int64_t idle_ms, struct visit *ret_visit)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    crypto_sha256(secret, strlen(secret), digest);
    visits_add_digest(visits, digest, idle_ms, ret_visit);
}

/* --- links --------------------------------------------------------------------------------- */

void visits_link(struct visits *visits, const char *secret, char ret_token[ID_TOKEN_SIZE])
{
    struct link link = {.until_ms = clock_mono_ms() + LINK_MS};
    id_token(link.token);
    crypto_sha256(secret, strlen(secret), link.secret);
    lock_take(&visits->lock);
    struct link *place = &visits->links[0];
    for (size_t i = 1; i < LINKS_MAX; i++)
        if (visits->links[i].until_ms < place->until_ms)
            place = &visits->links[i];
    *place = link;
    lock_drop(&visits->lock);
    memcpy(ret_token, link.token, sizeof(link.token));
}

bool visits_take_link(struct visits *visits, const char *token,
                      unsigned char ret_secret[CRYPTO_SHA256_SIZE])
{
    bool found = false;
    int64_t now = clock_mono_ms();
    lock_take(&visits->lock);
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *link = &visits->links[i];
        if (!crypto_equal(token, strlen(token), link->token, ID_TOKEN_SIZE - 1) ||
            now >= link->until_ms)
            continue;
        memcpy(ret_secret, link->secret, sizeof(link->secret));
        explicit_bzero(link, sizeof(*link));
        found = true;
    }
    lock_drop(&visits->lock);
    return found;
}

/* --- visits -------------------------------------------------------------------------------- */

/* Finds a visit. All are compared, so that the time taken tells nothing. */
static struct visit *find_locked(struct visits *visits, const char *cookie) HOLDS(visits->lock);
static struct visit *find_locked(struct visits *visits, const char *cookie)
{
    struct visit *found = NULL;
    int64_t now = clock_mono_ms();
    size_t len = strlen(cookie);
    for (size_t i = 0; i < VISITS_MAX; i++) {
        struct visit *visit = &visits->items[i];
        if (crypto_equal(cookie, len, visit->cookie, ID_TOKEN_SIZE - 1) && now < visit->until_ms)
            found = visit;
    }
    return found;
}

bool visits_find(struct visits *visits, const char *cookie, struct visit *ret_visit)
{
    lock_take(&visits->lock);
    struct visit *found = find_locked(visits, cookie);
    if (found) {
        if (found->idle_ms)
            found->until_ms = clock_mono_ms() + found->idle_ms;
        *ret_visit = *found;
    }
    lock_drop(&visits->lock);
    return found != NULL;
}

void visits_remove(struct visits *visits, const char *cookie)
{
    lock_take(&visits->lock);
    struct visit *found = find_locked(visits, cookie);
    if (found)
        explicit_bzero(found, sizeof(*found));
    lock_drop(&visits->lock);
}
