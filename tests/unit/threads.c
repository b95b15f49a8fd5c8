/* Threads, locks and assertions. */
#include "testbase.h"

#include "base/check.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- threads ------------------------------------------------------------------------------- */

struct seen {
    char name[THREAD_NAME_SIZE];
    size_t stack_bytes;
};

static void *look_at_self(void *arg)
{
    struct seen *seen = arg;
    pthread_attr_t attr;
    pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstacksize(&attr, &seen->stack_bytes);
    pthread_attr_destroy(&attr);
    return NULL;
}

static void a_thread_has_its_name_and_stack(void **state)
{
    struct err err;
    struct seen seen = {0};
    struct thread thread = {0};
    (void)state;
    OK(thread_start(&thread, "a-name-that-is-far-too-long", 1u << 20, look_at_self, &seen, &err) ==
           0,
       &err);
    assert_true(thread.running);
    thread_join(&thread);
    assert_false(thread.running);
    thread_join(&thread); /* a second join does nothing */
    assert_string_equal(seen.name, "a-name-that-is-");
    assert_int_equal(seen.stack_bytes, 1u << 20);
}

static void *nothing(void *arg)
{
    return arg;
}

static void a_thread_that_cannot_be_started_says_why(void **state)
{
    struct err err = ERR_INIT;
    struct thread thread = {0};
    (void)state;
    errno = ENOENT; /* the errno of an earlier call */
    assert_int_equal(thread_start(&thread, "tiny", 1, nothing, NULL, &err), -1);
    assert_int_equal(err.sys, EINVAL); /* a stack of one byte */
    assert_non_null(strstr(err.msg, "'tiny'"));
    assert_non_null(strstr(err.msg, strerror(EINVAL)));
    assert_false(thread.running);
    thread_join(&thread);
    assert_int_equal(thread_start_detached("tiny", 1, nothing, NULL, &err), -1);
    assert_int_equal(err.sys, EINVAL);
}

/* A thread waits at a door until a test opens it. */
struct door {
    struct lock lock;
    pthread_cond_t moved;
    bool open, passed;
};

static void *pass(void *arg)
{
    struct door *door = arg;
    lock_take(&door->lock);
    while (!door->open)
        lock_wait(&door->moved, &door->lock, 1000);
    door->passed = true;
    pthread_cond_broadcast(&door->moved);
    lock_drop(&door->lock);
    return NULL;
}

static void door_init(struct door *door)
{
    *door = (struct door){0};
    lock_init(&door->lock);
    cond_init(&door->moved);
}

static void door_open(struct door *door)
{
    lock_take(&door->lock);
    door->open = true;
    pthread_cond_broadcast(&door->moved);
    lock_drop(&door->lock);
}

static void joining_takes_no_longer_than_allowed(void **state)
{
    struct err err;
    struct door door;
    struct thread thread = {0};
    (void)state;
    door_init(&door);
    OK(thread_start(&thread, "waits", THREAD_STACK_DEFAULT, pass, &door, &err) == 0, &err);
    assert_false(thread_join_within(&thread, 1));
    assert_true(thread.running);
    door_open(&door);
    assert_true(thread_join_within(&thread, 60000));
    assert_false(thread.running);
    assert_true(thread_join_within(&thread, 0)); /* there is no thread to wait for */
    lock_take(&door.lock);
    assert_true(door.passed);
    lock_drop(&door.lock);
    lock_done(&door.lock);
    pthread_cond_destroy(&door.moved);
}

static void a_detached_thread_runs(void **state)
{
    struct err err;
    struct door door;
    (void)state;
    door_init(&door);
    OK(thread_start_detached("detached", THREAD_STACK_DEFAULT, pass, &door, &err) == 0, &err);
    door_open(&door);
    lock_take(&door.lock);
    while (!door.passed)
        lock_wait(&door.moved, &door.lock, 1000);
    lock_drop(&door.lock);
    lock_done(&door.lock);
    pthread_cond_destroy(&door.moved);
}

/* --- locks --------------------------------------------------------------------------------- */

static struct lock file_lock_here = LOCK_INIT;
static int counted GUARDED_BY(file_lock_here);

static void *try_it(void *arg)
{
    bool *got = arg;
    *got = false;
    if (lock_try(&file_lock_here)) {
        *got = true;
        lock_drop(&file_lock_here);
    }
    return NULL;
}

static void a_lock_is_held_by_one(void **state)
{
    struct err err;
    bool got = true;
    struct thread thread = {0};
    (void)state;
    lock_take(&file_lock_here);
    counted = 1;
    OK(thread_start(&thread, "tries", THREAD_STACK_DEFAULT, try_it, &got, &err) == 0, &err);
    thread_join(&thread);
    assert_false(got);
    lock_drop(&file_lock_here);
    OK(thread_start(&thread, "tries", THREAD_STACK_DEFAULT, try_it, &got, &err) == 0, &err);
    thread_join(&thread);
    assert_true(got);
}

/* --- assertions ---------------------------------------------------------------------------- */

/* Runs fn in a child. Returns the child's wait status, and what it wrote to standard error. */
static int status_of(void (*fn)(void), char *said, size_t size)
{
    int ends[2], status;
    ssize_t n, len = 0;
    const struct rlimit none = {0, 0};
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], said + len, size - 1 - (size_t)len)) > 0)
        len += n;
    said[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void keeps_its_word(void)
{
    REQUIRE(1 + 1 == 2);
}

static void breaks_its_word(void)
{
    REQUIRE(1 + 1 == 3);
}

static void a_broken_promise_ends_the_program_and_says_where(void **state)
{
    char said[1024];
    (void)state;
    assert_int_equal(status_of(keeps_its_word, said, sizeof(said)), 0);
    assert_string_equal(said, "");
    int status = status_of(breaks_its_word, said, sizeof(said));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(said, "threads.c:"));
    assert_non_null(strstr(said, "breaks_its_word()"));
    assert_non_null(strstr(said, "1 + 1 == 3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_has_its_name_and_stack),
        cmocka_unit_test(a_thread_that_cannot_be_started_says_why),
        cmocka_unit_test(joining_takes_no_longer_than_allowed),
        cmocka_unit_test(a_detached_thread_runs),
        cmocka_unit_test(a_lock_is_held_by_one),
        cmocka_unit_test(a_broken_promise_ends_the_program_and_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
