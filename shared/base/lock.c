#include "base/lock.h"

#include "base/check.h"
#include "base/cond.h"

#include <errno.h>

/* Debug builds find a lock that is taken twice by one thread, or dropped by another. */
#ifdef NDEBUG
#define LOCK_KIND PTHREAD_MUTEX_NORMAL
#else
#define LOCK_KIND PTHREAD_MUTEX_ERRORCHECK
#endif

void lock_init(struct lock *lock)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, LOCK_KIND);
    pthread_mutex_init(&lock->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

void lock_done(struct lock *lock)
{
    int rc = pthread_mutex_destroy(&lock->mutex);
    REQUIRE(rc == 0);
}

NOT_CHECKED void lock_take(struct lock *lock)
{
    int rc = pthread_mutex_lock(&lock->mutex);
    REQUIRE(rc == 0);
}

NOT_CHECKED void lock_drop(struct lock *lock)
{
    int rc = pthread_mutex_unlock(&lock->mutex);
    REQUIRE(rc == 0);
}

NOT_CHECKED bool lock_try(struct lock *lock)
{
    int rc = pthread_mutex_trylock(&lock->mutex);
    REQUIRE(rc == 0 || rc == EBUSY);
    return rc == 0;
}

bool lock_wait(pthread_cond_t *cond, struct lock *lock, int64_t timeout_ms)
{
    return cond_wait(cond, &lock->mutex, timeout_ms);
}
