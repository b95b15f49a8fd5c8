/*
 * The launcher and process trees: `unit-proc SITUATION` brings itself into a situation of a host
 * (root with namespaces; a user with them; neither) and runs the same cases in each tier that the
 * host then has. As root it also sees what only root can: dropping to another user.
 */
#include "proc_scene.h"

#include "base/buf.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* --- cases --------------------------------------------------------------------------------- */

static void the_tier_is_one_the_host_allows(void **state)
{
    (void)state;
    print_message("tier: %s of %s\n", jail_tier_name(tier),
                  jail_tier_name(launcher_tier(launcher)));
}

static void tells_how_a_program_ended(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
    } cases[] = {
        {"exit 0", 0},
        {"exit 7", 7 << 8},
        {"exit 255", 255 << 8},
        {"kill -KILL $$", SIGKILL},
        {"kill -TERM $$", SIGTERM},
        {"kill -SEGV $$", SIGSEGV},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct run run = start(cases[i].script);
        await_end(run.child);
        assert_int_equal(child_status(run.child) & ~0x80, cases[i].status);
        assert_true(child_pid(run.child) > 0);
        run_done(&run);
    }
}

static void says_which_step_of_a_start_failed(void **state)
{
    (void)state;
    AUTO(str) char *text_file = textf("%s/plain", scratch);
    write_bytes(text_file, "no program\n", 11);
    chmod(text_file, 0755);
    const struct {
        const char *program;
        const char *cwd;
        const char *step;
        int sys;
    } cases[] = {
        {"/nonexistent", "/", "exec", ENOENT},
        {"/etc/passwd", "/", "exec", EACCES},
        {text_file, "/", "exec", ENOEXEC},
        {"/bin/true", "/nonexistent", "working directory", ENOENT},
        {"/bin/true", "/etc/passwd", "working directory", ENOTDIR},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        AUTO(plan) struct plan *plan = plan_of((const char *const[]){cases[i].program, NULL});
        const int stdio[3] = {0, 1, 2};
        free(plan->cwd);
        plan->cwd = strdup(cases[i].cwd);
        assert_null(launcher_spawn(launcher, plan, stdio, &err));
        if (!strstr(err.msg, cases[i].step) || err.sys != cases[i].sys)
            fail_msg("case %zu: %s (%d)", i, err.msg, err.sys);
    }
}

static void refuses_an_argument_that_the_kernel_would_not_take(void **state)
{
    (void)state;
    struct err err;
    AUTO(plan) struct plan *plan = plan_of((const char *const[]){"/bin/true", NULL});
    AUTO(str) char *huge = malloc(200001);
    memset(huge, 'x', 200000);
    huge[200000] = '\0';
    strlist_add(&plan->argv, huge);
    assert_null(launcher_spawn(launcher, plan, (const int[3]){0, 1, 2}, &err));
    assert_int_equal(err.sys, E2BIG);
}

static void connects_the_three_standard_streams(void **state)
{
    (void)state;
    struct err err;
    AUTO(plan) struct plan *plan = shell("cat; echo to-out; echo to-err >&2");
    AUTO(fd) int in = memfd_create("in", MFD_CLOEXEC);
    AUTO(fd) int out = memfd_create("out", MFD_CLOEXEC);
    AUTO(fd) int bad = memfd_create("err", MFD_CLOEXEC);
    assert_int_equal(pwrite(in, "from-in\n", 8, 0), 8);
    struct child *child = launcher_spawn(launcher, plan, (const int[3]){in, out, bad}, &err);
    OK(child, &err);
    await_end(child);
    child_free(child);
    char text[64] = {0};
    assert_int_equal(pread(out, text, sizeof(text) - 1, 0), 15);
    assert_string_equal(text, "from-in\nto-out\n");
    memset(text, 0, sizeof(text));
    assert_int_equal(pread(bad, text, sizeof(text) - 1, 0), 7);
    assert_string_equal(text, "to-err\n");
}

static void a_program_inherits_nothing_but_its_streams(void **state)
{
    (void)state;
    AUTO(str) char *fds = print_of("ls /proc/$$/fd; :");
    assert_string_equal(fds, "0\n1\n2\n");
}

static void a_program_begins_with_default_signals_and_an_empty_mask(void **state)
{
    (void)state;
    AUTO(str) char *text = print_of("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status");
    assert_non_null(strstr(text, "SigBlk:\t0000000000000000"));
    if (!strstr(text, "SigIgn:\t0000000000000000"))
        fail_msg("%s", text);
}

static void the_environment_is_exactly_that_of_the_plan(void **state)
{
    (void)state;
    struct plan *plan = plan_of((const char *const[]){"/usr/bin/env", NULL});
    strlist_add(&plan->env, "ONE=a b");
    strlist_add(&plan->env, "EMPTY=");
    AUTO(str) char *text = print_of_plan(plan);
    assert_string_equal(text, "PATH=/usr/bin:/bin\nONE=a b\nEMPTY=\n");
}

static void an_environment_of_a_mebibyte_arrives_whole(void **state)
{
    (void)state;
    struct plan *plan = shell("env | wc -c");
    AUTO(str) char *value = malloc(1025);
    memset(value, 'v', 1024);
    value[1024] = '\0';
    for (int i = 0; i < 1000; i++)
        strlist_addf(&plan->env, "V%d=%s", i, value);
    assert_false(plan->env.failed);
    AUTO(str) char *text = print_of_plan(plan);
    assert_true(strtol(text, NULL, 10) > 1024 * 1000);
}

static void it_starts_in_its_directory_with_its_mask(void **state)
{
    (void)state;
    struct plan *plan = shell("pwd; umask");
    free(plan->cwd);
    plan->cwd = strdup("/usr/share");
    AUTO(str) char *text = print_of_plan(plan);
    assert_string_equal(text, "/usr/share\n0022\n");
}

static void it_may_gain_no_privileges(void **state)
{
    (void)state;
    AUTO(str) char *text = print_of("grep NoNewPrivs /proc/self/status");
    assert_string_equal(text, "NoNewPrivs:\t1\n");
}

static void it_leaves_no_core(void **state)
{
    (void)state;
    AUTO(str) char *text = print_of("ulimit -c");
    assert_string_equal(text, "0\n");
}

static void it_runs_as_the_user_of_the_plan(void **state)
{
    (void)state;
    AUTO(str) char *text = print_of("id -u; id -g; id -G; cat /etc/shadow 2>&1 | sed s/.*://");
    AUTO(str)
    char *mine = textf("%d\n%d\n%d\n %s\n", NOBODY, NOBODY, NOBODY,
                       tier == JAIL_FULL ? "No such file or directory" : "Permission denied");
    assert_string_equal(text, mine);
}

static void it_cannot_become_root_again(void **state)
{
    (void)state;
    AUTO(str) char *text = print_of("grep -E '^(Uid|Gid|CapEff|CapPrm)' /proc/self/status");
    AUTO(str)
    char *mine = textf("Uid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nCapPrm:\t0000000000000000\n"
                       "CapEff:\t0000000000000000\n",
                       NOBODY, NOBODY, NOBODY, NOBODY, NOBODY, NOBODY, NOBODY, NOBODY);
    assert_string_equal(text, mine);
}

/* --- plans --------------------------------------------------------------------------------- */

static void a_plan_survives_being_saved(void **state)
{
    struct err err;
    (void)state;
    AUTO(plan) struct plan *plan = plan_of((const char *const[]){"/bin/x", "", "a\nb", NULL});
    AUTO(buf) struct buf text = BUF_INIT(PLAN_BYTES_MAX);
    plan->uid = UINT32_MAX - 1;
    plan->jail.pids_max = 12;
    OK(plan_save(plan, &text, &err) == 0, &err);
    AUTO(plan) struct plan *copy = plan_load(text.data, text.len, &err);
    OK(copy, &err);
    assert_int_equal(copy->argv.count, 3);
    assert_string_equal(copy->argv.items[1], "");
    assert_string_equal(copy->argv.items[2], "a\nb");
    assert_string_equal(copy->env.items[0], "PATH=/usr/bin:/bin");
    assert_string_equal(copy->cwd, "/");
    assert_true(copy->uid == plan->uid && copy->gid == plan->gid);
    assert_int_equal(copy->kill_grace_ms, GRACE_MS);
    assert_int_equal(copy->jail.pids_max, 12);
}

static void a_plan_that_is_cut_or_has_more_is_refused(void **state)
{
    struct err err;
    (void)state;
    AUTO(plan) struct plan *plan = plan_of((const char *const[]){"/bin/x", "y", NULL});
    AUTO(buf) struct buf text = BUF_INIT(PLAN_BYTES_MAX);
    plan_save(plan, &text, &err);
    for (size_t len = 0; len <= text.len + 1; len++) {
        AUTO(str) char *exact = calloc(1, len + 1);
        memcpy(exact, text.data, len < text.len ? len : text.len);
        struct plan *copy = plan_load(exact, len, &err);
        assert_int_equal(copy != NULL, len == text.len);
        if (len < text.len)
            assert_non_null(strstr(err.msg, "cut short or malformed at '"));
        plan_free(copy);
    }
}

static void garbage_is_no_plan(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
#define TEXT(s) {s, sizeof(s) - 1}
        TEXT(""),
        TEXT("\0"),
        TEXT("0\0000\000/\0000\0000\0000\0000\0"), /* no program */
        TEXT("-1\0"),
        TEXT("99999999999999999999\0"),
        TEXT("70000\0"),                               /* more arguments than are allowed */
        TEXT("1\0x\0000\000/\000-1\0000\0000\0000\0"), /* a user below 0 */
        TEXT("1\0x\0000\000/\0004294967296\0000\0000\0000\0"),
        TEXT("1\0x\0000\000/\0000x\0000\0000\0000\0"),
#undef TEXT
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        assert_null(plan_load(cases[i].text, cases[i].len, &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void a_plan_has_a_largest_size(void **state)
{
    struct err err;
    (void)state;
    AUTO(plan) struct plan *plan = plan_of((const char *const[]){"/bin/x", NULL});
    AUTO(str) char *value = malloc(100001);
    memset(value, 'v', 100000);
    value[100000] = '\0';
    for (int i = 0; i < 22; i++)
        strlist_addf(&plan->env, "V%d=%s", i, value);
    assert_null(launcher_spawn(launcher, plan, (const int[3]){0, 1, 2}, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tier_is_one_the_host_allows),
        cmocka_unit_test(tells_how_a_program_ended),
        cmocka_unit_test(says_which_step_of_a_start_failed),
        cmocka_unit_test(refuses_an_argument_that_the_kernel_would_not_take),
        cmocka_unit_test(connects_the_three_standard_streams),
        cmocka_unit_test(a_program_inherits_nothing_but_its_streams),
        cmocka_unit_test(a_program_begins_with_default_signals_and_an_empty_mask),
        cmocka_unit_test(the_environment_is_exactly_that_of_the_plan),
        cmocka_unit_test(an_environment_of_a_mebibyte_arrives_whole),
        cmocka_unit_test(it_starts_in_its_directory_with_its_mask),
        cmocka_unit_test(it_may_gain_no_privileges),
        cmocka_unit_test(it_leaves_no_core),
        cmocka_unit_test(it_runs_as_the_user_of_the_plan),
        cmocka_unit_test(it_cannot_become_root_again),
        cmocka_unit_test(a_plan_survives_being_saved),
        cmocka_unit_test(a_plan_that_is_cut_or_has_more_is_refused),
        cmocka_unit_test(garbage_is_no_plan),
        cmocka_unit_test(a_plan_has_a_largest_size),
    };
    return run_in_situation(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
