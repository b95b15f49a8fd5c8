/*
 * What one command of a shell leaves for the next, as lines of one bash do: what is expected here
 * is what bash prints when it reads the same lines.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *shared;

static struct runner *get(void)
{
    return runner_shared(&shared, (const char *const[]){"SESSIONS_MAX", "4", NULL});
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "l");
    return 0;
}

struct line {
    const char *command, *out;
    int exit_code;
};

static struct done *run_in(const char *shell, const char *command, const char *more)
{
    char *members = textf("\"shell\":\"%s\"%s", shell, more);
    struct done *done = session_run(get(), "l", command, members);
    free(members);
    return done;
}

static void expect_lines(const char *shell, const struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct done *done = run_in(shell, lines[i].command, "");
        if (strcmp(done->out, lines[i].out) != 0 || done->exit_code != lines[i].exit_code)
            fail_msg("line %zu '%s': %d '%s' ('%s'), not %d '%s'", i, lines[i].command,
                     done->exit_code, done->out, done->err, lines[i].exit_code, lines[i].out);
        done_free(done);
    }
}

static void the_last_argument_is_the_one_of_the_line_before(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"echo $_", "bash\n", 0},
        {"echo a b", "a b\n", 0},
        {"echo $_", "b\n", 0},
        {"mkdir -p /tmp/lines/x", "", 0},
        {"cd $_", "", 0},
        {"pwd", "/tmp/lines/x\n", 0},
        {"true \"a\nit's\"", "", 0},
        {"echo \"${_}\"", "a\nit's\n", 0},
        {"false z", "", 1},
        {"echo $? $_", "1 z\n", 0},
        {"cat <<E >f\nit's\nE", "", 0},
        {"for i in 1 2; do : $i; done", "", 0},
        {"echo $_", "2\n", 0},
        {"echo kept", "kept\n", 0},
        {"echo '", "", 2},
        {"echo $_", "kept\n", 0},
        {"(exit 5) | : w", "", 0},
        {"x=1", "", 0},
        {"echo \"[$_]\"", "[]\n", 0},
    };
    expect_lines("last", lines, COUNT(lines));
}

static void the_statuses_of_a_pipeline_are_there_in_the_next_line(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"false | true | (exit 7)", "", 7},
        {"echo $? ${PIPESTATUS[@]}", "7 1 0 7\n", 0},
        {"echo ${PIPESTATUS[@]}", "0\n", 0},
        {"! (exit 3) | true", "", 1},
        {"echo ${PIPESTATUS[*]} $?", "3 0 1\n", 0},
        {"set -u; set -o pipefail", "", 0},
        {"(exit 4) | true", "", 4},
        {"[ \"${PIPESTATUS[*]}\" = '4 0' ] && echo yes", "yes\n", 0},
        {"unset PIPESTATUS", "", 0},
        {"readonly PIPESTATUS", "", 0},
        {"false | true", "", 1},
        {"echo ${PIPESTATUS[0]-}.", "1.\n", 0},
    };
    expect_lines("pipes", lines, 8);
    struct done *done = NULL;
    for (size_t i = 8; i < COUNT(lines); i++) { /* these only have to return */
        done = run_in("pipes", lines[i].command, "");
        done_free(done);
    }
}

static void traps_are_the_callers_own(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"trap -p", "", 0},
        {"trap", "", 0},
        {"x=$(trap -p EXIT); echo \"[$x]\"", "[]\n", 0},
        {"trap 'echo \"it'\\''s over\"' EXIT", "", 0},
        {"trap -p", "trap -- 'echo \"it'\\''s over\"' EXIT\n", 0},
        {"true", "", 0},
        {"exit 3", "it's over\n", 3},
        {"trap -p EXIT", "trap -- 'echo \"it'\\''s over\"' EXIT\n", 0},
        {"trap - EXIT", "", 0},
        {"trap -p", "", 0},
        {"A=1; cd /tmp; exit 4", "", 4},
        {"echo $A; pwd", "1\n/tmp\n", 0},
        {"trap '' EXIT", "", 0},
        {"true", "", 0},
        {"trap -p", "trap -- '' EXIT\n", 0},
        {"trap - EXIT; trap 'echo i' INT", "", 0},
        {"trap -p; kill -INT $$", "trap -- 'echo i' SIGINT\ni\n", 0},
        {"trap - INT", "", 0},
        {"trap 'n=$((n + 1))' ERR", "", 0},
        {"false", "", 1},
        {"case x in x) (exit 2);; esac", "", 2},
        {"cat <<E\na\nE\nfalse", "a\n", 1},
        {"trap - ERR; echo $n", "3\n", 0},
    };
    expect_lines("traps", lines, COUNT(lines));
}

/* A state with an EXIT trap of the caller's is a state with one in the runner's next life, too. */
static void an_exit_trap_outlives_the_runner(void **state)
{
    (void)state;
    static const struct line before[] = {{"trap 'echo bye' EXIT", "", 0}};
    static const struct line other[] = {{"B=2", "", 0}};
    static const struct line after[] = {
        {"true", "", 0},
        {"trap -p", "trap -- 'echo bye' EXIT\n", 0},
        {"exit 6", "bye\n", 6},
    };
    static const struct line clean[] = {
        {"trap -p; echo $B", "2\n", 0},
        {"cd /usr; B=3; exit 6", "", 6},
        {"pwd; echo $B", "/usr\n3\n", 0},
    };
    expect_lines("life", before, COUNT(before));
    expect_lines("clean", other, COUNT(other));
    runner_stop(get(), 60000);
    runner_start(get());
    expect_lines("life", after, COUNT(after));
    expect_lines("clean", clean, COUNT(clean));
}

static void lines_are_numbered_in_each_command(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"true", "", 0},
        {"echo $LINENO\necho $LINENO", "1\n2\n", 0},
        {"nothing_of_this_name 2>&1", "bash: line 1: nothing_of_this_name: command not found\n",
         127},
        {"unset LINENO", "", 0},
        {"echo ${LINENO-none}", "none\n", 0},
        {"readonly LINENO=5", "", 0},
        {"echo $LINENO", "5\n", 0},
    };
    expect_lines("numbers", lines, COUNT(lines));
}

static void the_directory_before_is_known(void **state)
{
    (void)state;
    static const struct line fresh[] = {
        {"echo ${OLDPWD-none}; env | grep -c OLDPWD", "none\n0\n", 1}};
    static const struct line back[] = {{"pwd; cd -", "/tmp\n/workspace\n", 0}};
    static const struct line far[] = {{"pwd; cd -", "/usr\n/tmp\n", 0}};
    expect_lines("fresh", fresh, COUNT(fresh));
    static const struct {
        const char *shell, *first, *stuck;
        const struct line *then;
    } cases[] = {
        {"dir1", "true", "cd /tmp; sleep 1000", back},
        {"dir2", "cd /tmp", "cd /usr; sleep 1000", far},
        {"dir3", "cd /tmp", "sleep 1000", back},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        done_free(run_in(cases[i].shell, cases[i].first, ""));
        struct done *done = run_in(cases[i].shell, cases[i].stuck, ",\"timeout\":1");
        assert_int_equal(done->exit_code, -1);
        done_free(done);
        expect_lines(cases[i].shell, cases[i].then, 1);
    }
}

static void builtins_that_were_disabled_stay_so(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"enable -n printf cd alias; Q=1; (exit 3)", "", 3},
        {"echo $? $Q; type -t printf", "3 1\nfile\n", 0},
        {"enable -n", "enable -n alias\nenable -n cd\nenable -n printf\n", 0},
        {"echo x y", "x y\n", 0},
        {"trap 'n=$((n + 1))' ERR; set -e", "", 0},
        {"echo \"[$n]\"", "[]\n", 0},
        {"trap - ERR; set +e", "", 0},
        {"false", "", 1},
        {"echo $?; enable printf cd alias; type -t printf cd", "1\nbuiltin\nbuiltin\n", 0},
        {"enable -n", "", 0},
    };
    expect_lines("disabled", lines, COUNT(lines));
}

static void descriptors_stay_open(void **state)
{
    (void)state;
    static const struct line lines[] = {
        {"exec 3>/tmp/three; echo a >&3", "", 0},
        {"echo b >&3; exec 3>&-; cat /tmp/three", "a\nb\n", 0},
    };
    expect_lines("descriptors", lines, COUNT(lines));
}

/* The line that reports how a command has ended is in no output of the command's. */
static void no_line_of_the_runner_is_seen(void **state)
{
    (void)state;
    static const char *const commands[] = {"set -x; true", "true", "set +x",
                                           "set -v\ntrue", "true", "set +v"};
    for (size_t i = 0; i < COUNT(commands); i++) {
        struct done *done = run_in("seen", commands[i], "");
        assert_null(strstr(done->err, "builtin"));
        assert_string_equal(done->out, "");
        done_free(done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_argument_is_the_one_of_the_line_before),
        cmocka_unit_test(the_statuses_of_a_pipeline_are_there_in_the_next_line),
        cmocka_unit_test(traps_are_the_callers_own),
        cmocka_unit_test(an_exit_trap_outlives_the_runner),
        cmocka_unit_test(lines_are_numbered_in_each_command),
        cmocka_unit_test(the_directory_before_is_known),
        cmocka_unit_test(builtins_that_were_disabled_stay_so),
        cmocka_unit_test(descriptors_stay_open),
        cmocka_unit_test(no_line_of_the_runner_is_seen),
    };
    return cmocka_run_group_tests_name("session_lines", tests, start, shared_stop);
}
