/* The table of parts, and configurations that are replaced while a runner runs. */
#include "testbase.h"

#include "base/buf.h"
#include "base/log.h"
#include "runner/config/in_force.h"
#include "runner/parts/parts.h"
#include "runner/parts/process.h"
#include "runner/parts/runner.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the mechanism ------------------------------------------------------------------------- */

#define ROWS 4

/* Four parts that record what is done to them: "b0 b1 … s0 …". */
struct whole {
    struct parts parts;
    struct buf said;
    int fails_to_build, fails_to_start, does_not_settle; /* -1: none */
};

static int note(void *arg, char what, int row)
{
    struct whole *whole = arg;
    buf_addf(&whole->said, "%c%d ", what, row);
    return 0;
}

#define ROW(n)                                                       \
    static int build##n(void *whole, struct err *err)                \
    {                                                                \
        bool fails = ((struct whole *)whole)->fails_to_build == (n); \
        note(whole, 'b', n);                                         \
        return fails ? err_set(err, ERR_INTERNAL, "no luck") : 0;    \
    }                                                                \
    static int start##n(void *whole, struct err *err)                \
    {                                                                \
        bool fails = ((struct whole *)whole)->fails_to_start == (n); \
        note(whole, 's', n);                                         \
        return fails ? err_set(err, ERR_INTERNAL, "no luck") : 0;    \
    }                                                                \
    static void stop##n(void *whole)                                 \
    {                                                                \
        note(whole, 'x', n);                                         \
    }                                                                \
    static bool settle##n(void *whole)                               \
    {                                                                \
        note(whole, 'q', n);                                         \
        return ((struct whole *)whole)->does_not_settle != (n);      \
    }                                                                \
    static void free##n(void *whole)                                 \
    {                                                                \
        note(whole, 'f', n);                                         \
    }                                                                \
    static void show##n(struct metric_page *page, void *whole)       \
    {                                                                \
        (void)page;                                                  \
        note(whole, 'm', n);                                         \
    }

ROW(0)
ROW(1)
ROW(2)
ROW(3)

static const struct part rows[ROWS] = {
    {"first", build0, start0, stop0, settle0, free0, show0},
    {"second", build1, NULL, NULL, NULL, free1, NULL},
    {"third", NULL, start2, stop2, settle2, NULL, show2},
    {"fourth", build3, start3, stop3, settle3, free3, show3},
};

static void whole_init(struct whole *whole)
{
    *whole = (struct whole){.fails_to_build = -1, .fails_to_start = -1, .does_not_settle = -1};
    buf_init(&whole->said, 1000);
    whole->parts.whole = whole;
    parts_add(&whole->parts, rows, 2);
    parts_add(&whole->parts, rows + 2, ROWS - 2);
    (void)build2, (void)start1, (void)stop1, (void)settle1, (void)free2, (void)show1;
}

static void parts_come_in_order_and_go_in_reverse(void **state)
{
    struct err err;
    struct whole whole;
    (void)state;
    whole_init(&whole);
    assert_true(parts_end(&whole.parts)); /* no part had begun */
    OK(parts_begin(&whole.parts, &err) == 0, &err);
    assert_string_equal(buf_str(&whole.said), "b0 b1 b3 s0 s2 s3 ");
    assert_true(parts_end(&whole.parts));
    assert_string_equal(buf_str(&whole.said), "b0 b1 b3 s0 s2 s3 x3 x2 x0 q3 q2 q0 f3 f1 f0 ");
    assert_true(parts_end(&whole.parts)); /* it happens once */
    assert_string_equal(buf_str(&whole.said), "b0 b1 b3 s0 s2 s3 x3 x2 x0 q3 q2 q0 f3 f1 f0 ");
    buf_done(&whole.said);
}

static void a_failure_names_the_part_and_frees_what_is_there(void **state)
{
    static const struct {
        int build, start;
        const char *error, *said;
    } cases[] = {
        {0, -1, "first: no luck", "b0 f0 "},
        {1, -1, "second: no luck", "b0 b1 x0 q0 f1 f0 "},
        {3, -1, "fourth: no luck", "b0 b1 b3 x2 x0 q2 q0 f3 f1 f0 "},
        {-1, 0, "first: no luck", "b0 b1 b3 s0 x3 x2 x0 q3 q2 q0 f3 f1 f0 "},
        {-1, 2, "third: no luck", "b0 b1 b3 s0 s2 x3 x2 x0 q3 q2 q0 f3 f1 f0 "},
        {-1, 3, "fourth: no luck", "b0 b1 b3 s0 s2 s3 x3 x2 x0 q3 q2 q0 f3 f1 f0 "},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        struct whole whole;
        whole_init(&whole);
        whole.fails_to_build = cases[i].build;
        whole.fails_to_start = cases[i].start;
        assert_int_equal(parts_begin(&whole.parts, &err), -1);
        assert_string_equal(err.msg, cases[i].error);
        assert_true(parts_end(&whole.parts));
        assert_string_equal(buf_str(&whole.said), cases[i].said);
        buf_done(&whole.said);
    }
}

static void nothing_is_freed_while_a_part_is_stuck(void **state)
{
    struct err err;
    struct whole whole;
    (void)state;
    whole_init(&whole);
    whole.does_not_settle = 2;
    OK(parts_begin(&whole.parts, &err) == 0, &err);
    assert_false(parts_end(&whole.parts));
    assert_string_equal(buf_str(&whole.said), "b0 b1 b3 s0 s2 s3 x3 x2 x0 q3 q2 ");
    buf_done(&whole.said);
}

static void parts_show_their_metrics(void **state)
{
    struct whole whole;
    struct metric_source sources[5];
    (void)state;
    whole_init(&whole);
    parts_metrics(&whole.parts, sources, COUNT_OF(sources));
    for (size_t i = 0; sources[i].print; i++)
        sources[i].print(NULL, sources[i].arg);
    assert_string_equal(buf_str(&whole.said), "m0 m2 m3 ");
    buf_done(&whole.said);
}

/* --- configurations in force --------------------------------------------------------------- */

#define SLACK_BYTES (256u << 10) /* memory that malloc keeps; 100 configurations take megabytes */

static struct config *config_of(const char *secret)
{
    struct err err;
    AUTO(config_report) struct config_report report = {0};
    AUTO(str) char *line = textf("RUNNER_SECRET=%s", secret);
    AUTO(str) char *text = strdup(line);
    char *env[] = {text, (char[]){"HOME=/nonexistent"}, (char[]){"RUNNER_STATE_DIR=/nonexistent"},
                   NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    OK(config, &err);
    return config;
}

static void a_configuration_lasts_as_long_as_somebody_uses_it(void **state)
{
    struct config_in_force in_force;
    (void)state;
    config_in_force_init(&in_force, config_of("0123456789abcdef-first"));
    const struct config *held = config_ref(&in_force);
    config_replace(&in_force, config_of("0123456789abcdef-second"));
    const struct config *now = config_ref(&in_force);
    assert_ptr_not_equal(held, now);
    assert_string_equal(held->secrets.items[0].value, "0123456789abcdef-first");
    assert_string_equal(now->secrets.items[0].value, "0123456789abcdef-second");
    assert_int_equal(CONFIG_GET(&in_force, port), now->port);
    config_unref(held);
    config_in_force_done(&in_force);
    assert_string_equal(now->secrets.items[0].value, "0123456789abcdef-second");
    config_unref(now);
}

static void a_thousand_configurations_leave_nothing_behind(void **state)
{
    struct config_in_force in_force;
    (void)state;
    config_in_force_init(&in_force, config_of("0123456789abcdef"));
    for (int i = 0; i < 10; i++)
        config_replace(&in_force, config_of("0123456789abcdef"));
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 1000; i++) {
        AUTO(config_ref) const struct config *held = config_ref(&in_force);
        (void)held;
        config_replace(&in_force, config_of("0123456789abcdef"));
    }
    size_t after = mallinfo2().uordblks;
    assert_true(after < before + SLACK_BYTES);
    config_in_force_done(&in_force);
}

static bool out_of_memory; /* for redact_add() */
int __real_redact_add(struct redact_set *set, const char *secret);
int __wrap_redact_add(struct redact_set *set, const char *secret);

int __wrap_redact_add(struct redact_set *set, const char *secret)
{
    return out_of_memory ? -1 : __real_redact_add(set, secret);
}

static void a_reload_that_fails_frees_its_configuration(void **state)
{
    struct err err;
    struct runner runner = {.secrets = redact_new()};
    (void)state;
    config_in_force_init(&runner.config, config_of("0123456789abcdef"));
    const struct config *before = config_ref(&runner.config);
    out_of_memory = true;
    size_t used = mallinfo2().uordblks;
    for (int i = 0; i < 100; i++)
        assert_int_equal(runner_reconfigure(&runner, config_of("0123456789abcdef"), &err), -1);
    assert_true(mallinfo2().uordblks < used + SLACK_BYTES);
    out_of_memory = false;
    const struct config *after = config_ref(&runner.config);
    assert_ptr_equal(before, after);
    config_unref(before);
    config_unref(after);
    config_in_force_done(&runner.config);
    redact_free(runner.secrets);
}

/* --- the log ------------------------------------------------------------------------------- */

/* Makes `fd` the standard error; returns the one before. */
static int swap_stderr(int fd)
{
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO);
    close(fd);
    return before;
}

static void a_log_that_nobody_rotates_is_rotated(void **state)
{
    (void)state;
    struct stat st;
    AUTO(str) char *dir = tmp_dir_new();
    AUTO(str) char *path = textf("%s/runner.log", dir);
    AUTO(str) char *old = textf("%s/runner.log.1", dir);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    int before = swap_stderr(fd);
    for (int i = 0; i < 3; i++) {
        dprintf(STDERR_FILENO, "line %d\n", i);
        process_rotate_log(100);
        assert_int_equal(access(old, F_OK), -1);
        process_rotate_log(7);
        dprintf(STDERR_FILENO, "next\n");
        AUTO(str) char *was = read_file(old, NULL);
        AUTO(str) char *expected = textf("%sline %d\n", i ? "next\n" : "", i);
        assert_string_equal(was, expected);
        unlink(old);
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* what others have moved stays theirs */
    assert_int_equal(rename(path, old), 0);
    process_rotate_log(1);
    assert_int_equal(access(path, F_OK), -1);
    close(swap_stderr(before));
    tmp_dir_free(strdup(dir));
}

static struct config *config_with_format(const char *format)
{
    struct err err;
    AUTO(config_report) struct config_report report = {0};
    AUTO(str) char *line = textf("LOG_FORMAT=%s", format);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"}, (char[]){"HOME=/tmp"}, line, NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    assert_non_null(config);
    return config;
}

static void journald_gets_priorities(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        bool journal;
        const char *begins;
    } cases[] = {{"auto", true, "<3>test: said"},
                 {"text", true, "<3>test: said"},
                 {"json", true, "{\"time\""},
                 {"auto", false, "{\"time\""}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int ends[2];
        char said[200] = "";
        struct stat st;
        AUTO(config) struct config *config = config_with_format(cases[i].format);
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(fstat(ends[1], &st), 0);
        AUTO(str)
        char *stream = textf("%llu:%llu", (unsigned long long)st.st_dev,
                             (unsigned long long)st.st_ino + !cases[i].journal);
        setenv("JOURNAL_STREAM", stream, 1);
        int before = swap_stderr(ends[1]);
        process_open_log(config, NULL);
        log_error("test", "said");
        close(swap_stderr(before));
        assert_true(read(ends[0], said, sizeof(said) - 1) > 0);
        close(ends[0]);
        if (strncmp(said, cases[i].begins, strlen(cases[i].begins)) != 0)
            fail_msg("case %zu: %s", i, said);
    }
    unsetenv("JOURNAL_STREAM");
    log_open(STDERR_FILENO, LOG_INFO, LOG_TEXT, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_come_in_order_and_go_in_reverse),
        cmocka_unit_test(a_failure_names_the_part_and_frees_what_is_there),
        cmocka_unit_test(nothing_is_freed_while_a_part_is_stuck),
        cmocka_unit_test(parts_show_their_metrics),
        cmocka_unit_test(a_configuration_lasts_as_long_as_somebody_uses_it),
        cmocka_unit_test(a_thousand_configurations_leave_nothing_behind),
        cmocka_unit_test(a_reload_that_fails_frees_its_configuration),
        cmocka_unit_test(a_log_that_nobody_rotates_is_rotated),
        cmocka_unit_test(journald_gets_priorities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
