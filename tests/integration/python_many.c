/*
 * Many runs of Python: nothing leaks, nothing grows, and no two runs draw the same random numbers.
 * PYTHON_RUNS says how many (600; the aim is 10,000).
 */
#include "testing.h"

#include "python.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOON_MS 60000
#define CALLERS 4
#define NUMBERS 3 /* of random, of numpy, and of the kernel */

/* One run's numbers, as text. */
struct drawn {
    char text[NUMBERS][40];
};

static struct runner *the_runner;
static struct drawn *drawn;
static size_t runs;
static atomic_size_t next_run;
static size_t end_run;

static struct runner *shared(void)
{
    static const char *const settings[] = {"PYTHON_SLOTS", "2", NULL};
    struct runner *runner = runner_shared(&the_runner, settings);
    python_needed(runner, "numpy");
    return runner;
}

/* Every fourth run draws numbers of numpy too, which needs another zygote. */
static void draw(size_t index)
{
    const char *code =
        index % 4 ? "import random\nprint(random.random(), 'none', random.SystemRandom().random())"
                  : "import random, numpy\n"
                    "print(random.random(), numpy.random.rand(), random.randint(0, 1 << 60))";
    struct reply *reply = python_run(shared(), code, "\"timeout\":120");
    const char *out = json_text(reply->json, "stdout");
    struct drawn *one = &drawn[index];
    if (sscanf(out, "%39s %39s %39s", one->text[0], one->text[1], one->text[2]) != NUMBERS)
        fail_msg("run %zu: %.1000s", index, reply->body);
    reply_free(reply);
}

static void *draw_many(void *arg)
{
    for (size_t i; (i = atomic_fetch_add(&next_run, 1)) < end_run;)
        draw(i);
    return arg;
}

#define STANDBYS (8 + 4) /* bare, and with numpy */

/* Runs up to number `end` from CALLERS threads, and waits until their processes are gone. */
static void run_until(size_t end)
{
    end_run = end;
    in_threads(CALLERS, draw_many, NULL);
    atomic_store(&next_run, end); /* the callers have counted past the end */
    EVENTUALLY(SOON_MS, python_processes(shared(), "python-standby", NULL, 0) == STANDBYS);
}

/* What must not grow. */
struct held {
    int fds, children;
    long rss_kib, zygotes_kib;
};

static struct held look(void)
{
    pid_t zygotes[8];
    struct held held = {proc_fds(shared()->pid), proc_children(shared()->pid),
                        proc_rss_kib(shared()->pid), 0};
    size_t count = python_processes(shared(), "zygote-", zygotes, COUNT(zygotes));
    for (size_t i = 0; i < count && i < COUNT(zygotes); i++)
        held.zygotes_kib += proc_rss_kib(zygotes[i]);
    return held;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void all_differ(int which, const char *but)
{
    const char **all = calloc(runs, sizeof(*all));
    size_t count = 0;
    for (size_t i = 0; i < runs; i++)
        if (strcmp(drawn[i].text[which], but) != 0)
            all[count++] = drawn[i].text[which];
    assert_true(count >= runs / 4);
    qsort(all, count, sizeof(*all), by_text);
    for (size_t i = 1; i < count; i++)
        if (strcmp(all[i - 1], all[i]) == 0)
            fail_msg("two of %zu runs drew %s", runs, all[i]);
    free(all);
}

static void many_runs_leave_nothing_and_differ(void **state)
{
    (void)state;
    const char *wanted = getenv("PYTHON_RUNS");
    runs = wanted ? strtoul(wanted, NULL, 10) : 600;
    runs = runs < 200 ? 200 : runs;
    drawn = calloc(runs, sizeof(*drawn));
    shared();
    run_until(runs / 4); /* by now, everything that is kept between runs exists */
    const struct held early = look();
    run_until(runs);
    /* connections close, and the launcher's children end, a moment after the last answer */
    EVENTUALLY(SOON_MS, proc_fds(shared()->pid) <= early.fds + CALLERS &&
                            proc_children(shared()->pid) <= early.children);
    const struct held late = look();
    print_message("%zu runs; descriptors %d, %d; children %d, %d; KiB of the runner %ld, %ld; of "
                  "the zygotes %ld, %ld\n",
                  runs, early.fds, late.fds, early.children, late.children, early.rss_kib,
                  late.rss_kib, early.zygotes_kib, late.zygotes_kib);
    assert_true(late.rss_kib <= early.rss_kib + 8192);
    assert_true(late.zygotes_kib <= early.zygotes_kib + 4096);
    all_differ(0, "");
    all_differ(1, "none");
    all_differ(2, "");
    free(drawn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_runs_leave_nothing_and_differ)};
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
