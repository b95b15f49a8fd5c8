#include "base/thread.h"

#include "base/check.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* What a new thread needs to know. The thread frees it. */
struct beginning {
    thread_fn *fn;
    void *arg;
    char name[THREAD_NAME_SIZE];
};

static void *begin(void *arg)
{
    struct beginning beginning = *(struct beginning *)arg;
    free(arg);
    pthread_setname_np(pthread_self(), beginning.name);
    return beginning.fn(beginning.arg);
}

/* pthread functions return their error and leave errno alone. */
static int create(pthread_t *id, struct beginning *beginning, size_t stack_bytes, int detach_state)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc)
        return rc;
    if (stack_bytes != THREAD_STACK_DEFAULT)
        rc = pthread_attr_setstacksize(&attr, stack_bytes);
    if (rc == 0)
        rc = pthread_attr_setdetachstate(&attr, detach_state);
    if (rc == 0)
        rc = pthread_create(id, &attr, begin, beginning);
    pthread_attr_destroy(&attr);
    return rc;
}

static int start(pthread_t *id, const char *name, size_t stack_bytes, int detach_state,
                 thread_fn *fn, void *arg, struct err *err)
{
    struct beginning *beginning = malloc(sizeof(*beginning));
    if (!beginning)
        return err_sys(err, "cannot start the thread '%s'", name);
    *beginning = (struct beginning){.fn = fn, .arg = arg};
    snprintf(beginning->name, sizeof(beginning->name), "%s", name);
    int rc = create(id, beginning, stack_bytes, detach_state);
    if (rc == 0)
        return 0;
    free(beginning);
    errno = rc;
    return err_sys(err, "cannot start the thread '%s'", name);
}

int thread_start(struct thread *thread, const char *name, size_t stack_bytes, thread_fn *fn,
                 void *arg, struct err *err)
{
    REQUIRE(!thread->running);
    if (start(&thread->id, name, stack_bytes, PTHREAD_CREATE_JOINABLE, fn, arg, err))
        return -1;
    thread->running = true;
    return 0;
}

int thread_start_detached(const char *name, size_t stack_bytes, thread_fn *fn, void *arg,
                          struct err *err)
{
    pthread_t id;
    return start(&id, name, stack_bytes, PTHREAD_CREATE_DETACHED, fn, arg, err);
}

void thread_join(struct thread *thread)
{
    if (!thread->running)
        return;
    REQUIRE(!pthread_equal(thread->id, pthread_self()));
    int rc = pthread_join(thread->id, NULL);
    REQUIRE(rc == 0);
    thread->running = false;
}

/* Polls once a millisecond, because ThreadSanitizer (gcc 12) does not know pthread_clockjoin_np. */
bool thread_join_within(struct thread *thread, int64_t timeout_ms)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    int64_t until = clock_mono_ms() + timeout_ms;
    int rc;
    if (!thread->running)
        return true;
    REQUIRE(!pthread_equal(thread->id, pthread_self()));
    while ((rc = pthread_tryjoin_np(thread->id, NULL)) == EBUSY && clock_mono_ms() < until)
        nanosleep(&nap, NULL);
    REQUIRE(rc == 0 || rc == EBUSY);
    thread->running = rc != 0;
    return rc == 0;
}
