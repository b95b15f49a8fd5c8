/*
 * Mutexes whose rules clang checks (-Wthread-safety; the warning is on in every clang build).
 *
 *     struct lock lock;                         in an object, or at file scope with LOCK_INIT
 *     static void tell_locked(struct breaker *breaker) HOLDS(breaker->lock);
 *
 * A function whose name ends in _locked says HOLDS(the lock): clang then refuses a call without
 * it, a return that keeps it, and a second take. GUARDED_BY(lock) names the lock of a variable;
 * clang checks it for variables at file scope, and for members of a struct where the compiler can
 * (GUARDED_BY_MEMBER; C needs clang 20 and -fexperimental-late-parse-attributes).
 *
 * Order of locks. A thread holds one lock at a time; runner/docs/hacking.md lists the exceptions
 * and their order. ThreadSanitizer's stage of tests/run reports an inversion, also one that did not
 * block.
 *
 * Threads: any.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define LOCK_ATTRIBUTE(x) __attribute__((x))
#else
#define LOCK_ATTRIBUTE(x)
#endif

#define CAPABILITY(name) LOCK_ATTRIBUTE(capability(name))
#define GUARDED_BY(lock) LOCK_ATTRIBUTE(guarded_by(lock))
#define HOLDS(...) LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define TAKES(...) LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define DROPS(...) LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
#define NOT_CHECKED LOCK_ATTRIBUTE(no_thread_safety_analysis)

#if defined(__clang__) && __clang_major__ >= 20 && defined(CR_LATE_PARSE_ATTRIBUTES)
#define GUARDED_BY_MEMBER(lock) GUARDED_BY(lock)
#else
#define GUARDED_BY_MEMBER(lock)
#endif

struct CAPABILITY("mutex") lock {
    pthread_mutex_t mutex;
};

#define LOCK_INIT                 \
    {                             \
        PTHREAD_MUTEX_INITIALIZER \
    }

void lock_init(struct lock *lock);
void lock_done(struct lock *lock);
void lock_take(struct lock *lock) TAKES(*lock);
void lock_drop(struct lock *lock) DROPS(*lock);
/* False when somebody holds it. */
bool lock_try(struct lock *lock) LOCK_ATTRIBUTE(try_acquire_capability(true, *lock));

/* Waits for a signal of the condition (made by cond_init), timeout_ms at most; false when the time
 * was up. The lock is held before and after, not meanwhile. */
bool lock_wait(pthread_cond_t *cond, struct lock *lock, int64_t timeout_ms) HOLDS(*lock);

#endif
