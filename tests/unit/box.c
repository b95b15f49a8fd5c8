/* What a session's agent knows of a command before bash reads it. */
#include "testbase.h"

#include "runner/box/box_private.h"

#include <stdlib.h>
#include <string.h>

static const char *const whole[] = {
    "true",
    "echo a b; false | true",
    "mkdir -p a/b && cd a/b",
    "echo 'it'\\''s' \"a $x ${y:-z} $(echo \"b\") `c`\" $'q\\'r'",
    "if true; then echo x; fi",
    "for i in 1 2 3; do echo $i; done",
    "while read x; do { echo $x; }; done < f",
    "f() { echo $1; return 3; }\nf a",
    "(exit 3)",
    "( cd /; pwd ) | cat",
    "echo $((1 + (2 * 3))) $# ${#x} ${x##*/} a#b",
    "sleep 1 &",
    "echo if then done fi",
    "x=1 y=(1 2) ; a[1]=2",
    "[ a = b ] && ls [ab]*.[ch]",
    "echo ]] || [[ a ]]",
    "[[ -n $x && a == b* ]] || echo",
    "((i++))",
    "cat <<< 'a' | wc # a comment",
    "diff <(a) <(b) >out 2>&1",
    "echo a \\\n b",
    "! true",
    "echo '<<' \"<<\"",
    "echo }",
    "echo ${x:-'}'}",
    "a |\n b",
    "{ a; } 2>/dev/null",
    "until a; do :; done &",
    "cat <<E\nit's $x\nE",
    "cat >f <<-'E' | wc\n\ta\\\n\tE\necho x",
    "cat <<A <<\"B\"; echo 'c\nd'\n1\nA\n2\nB\n",
    "case x in x) false;; (y|z) echo;& *) ;; esac",
};

/* After these a line of ours could be taken for a part of the command, or change what bash says. */
static const char *const open_ended[] = {
    "",
    " \n",
    "# a comment",
    "echo '",
    "echo \"",
    "echo \"$(\"",
    "echo \"${x",
    "echo `a",
    "echo $'a\\'",
    "echo \\",
    "cat <<E",
    "cat <<E\nx\n E",
    "cat <<E\nx\\\nE",
    "cat <<E; cat <<-F\nx\nE\ny",
    "cat <<'a b'\nx\na b",
    "cat <<$x\nx\n$x",
    "cat <<E'F'\nx\nEF",
    "echo $(cat <<E\nx)\nE",
    "if true; then echo",
    "for i in 1 2",
    "for i in 1; do echo done",
    "while",
    "case x in",
    "case x in x) ;;",
    "case x in (x) a ;; esac; )",
    "a ;; b",
    "{ a",
    "(a",
    "a )",
    "$((",
    "((1 + ",
    "[[ a",
    "[[\\\n",
    "for i in 1 ]]",
    "select i in a ]]",
    "eval [[ ",
    "eval a[ ",
    "f ( )",
    "a[1 +",
    "a[1 + 2]=3",
    "if\\\n",
    "<${ }",
    "a &&",
    "a ||\n",
    "a | # b",
    "!",
    "time",
    "f()",
    "f() # x",
    "function f",
    "coproc",
    "a >",
    "a <<<",
    "echo \"${x:-'a'}\"",
    "echo ${x:-\"'}",
};

static void a_whole_command_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(whole); i++)
        if (!box_is_whole(whole[i]))
            fail_msg("'%s' is whole", whole[i]);
}

static void a_command_that_may_go_on_is_not_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(open_ended); i++)
        if (box_is_whole(open_ended[i]))
            fail_msg("'%s' may go on", open_ended[i]);
    char *deep = calloc(1, 100001);
    assert_non_null(deep);
    memset(deep, '(', 100000);
    assert_false(box_is_whole(deep));
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_command_is_known),
        cmocka_unit_test(a_command_that_may_go_on_is_not_whole),
    };
    return cmocka_run_group_tests_name("box", tests, NULL, NULL);
}
