/*
 * The client's inputs and outputs against the real daemon: exec, run, batch, and the Python module.
 * The CLI is a script that runs its prompt as a shell script.
 */
#include "githost.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *runner;
static char *dir;

static int start(void **state)
{
    (void)state;
    runner = runner_new();
    unlink(runner->cli);
    write_file(runner->cli, githost_cli, 0755);
    runner_start(runner);
    dir = tmp_dir_new();
    char *script = textf("cd %s && mkdir -p in/sub && echo a >in/a && echo b >in/sub/b && "
                         "echo one >'one file'",
                         dir);
    proc_shell(script);
    free(script);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    runner_free(runner);
    tmp_dir_free(dir);
    return 0;
}

/* Runs a shell script in the directory with the client as `$C`; what it has printed, apart. */
static int shell(const char *script, char **ret_out, char **ret_err)
{
    char *whole = textf("cd %s; C=%s; %s", dir, TEST_RUNNER, script);
    char *argv[] = {(char[]){"/bin/bash"}, (char[]){"-c"}, whole, NULL};
    char *env[] = {textf("RUNNER_URL=%s", runner->base),
                   (char[]){"RUNNER_SECRET=" RUNNER_SECRET},
                   (char[]){"PATH=/usr/local/bin:/usr/bin:/bin"},
                   (char[]){"PYTHONPATH=" TEST_CLIENTS "/python"},
                   (char[]){"CLAUDE_RUNNER_BIN=" TEST_RUNNER},
                   NULL};
    char *out = textf("%s/o", dir), *err = textf("%s/e", dir);
    int status = -1;
    unlink(out);
    unlink(err);
    assert_true(proc_wait(proc_start(argv, env, out, err), 240000, &status));
    *ret_out = read_file(out, NULL);
    *ret_err = read_file(err, NULL);
    free(whole), free(env[0]), free(out), free(err);
    return status;
}

static void expect(const char *script, int status, const char *out)
{
    char *said, *errors;
    int got = shell(script, &said, &errors);
    if (got != status || strcmp(said, out) != 0)
        fail_msg("'%s' ended with %d and said '%s' ('%s')", script, got, said, errors);
    free(said), free(errors);
}

static void exec_works_on_what_it_was_given(void **state)
{
    (void)state;
    expect("$C exec -i data=./in -i 'x=one file' -- cat input/data/a input/data/sub/b input/x", 0,
           "a\nb\none\n");
    expect("$C exec -i data=./in 'ls input/data; echo no >&2; exit 3'", 3, "a\nsub\n");
    expect("$C exec -i data=./nothing -- true", 1, "");
    expect("mkdir one && echo o >one/f && $C exec -i data=./one -- cat input/data/f", 0, "o\n");
    expect("$C exec -i data=./one/f -- cat input/data", 0, "o\n");
}

static void run_works_on_it_too_and_outputs_come_back(void **state)
{
    (void)state;
    expect("$C run -i data=./in --json 'cat input/data/a; cp input/data/sub/b output/back' >r && "
           "id=$(grep -o '\"taskId\":\"[^\"]*' r | head -1 | cut -d'\"' -f4) && "
           "$C outputs get $id --out got >/dev/null && cat got/back",
           0, "b\n");
}

static void a_batch_keeps_what_its_runs_left(void **state)
{
    (void)state;
    expect(
        "cat >t.json <<'E'\n"
        "[{\"id\":\"c\",\"command\":\"cat input/d/a; echo $RANDOM >output/r; exit 4\","
        "\"inputs\":{\"d\":\"in\"},\"n\":3},"
        "{\"id\":\"p\",\"prompt\":\"cat input/d/sub/b; echo p >output/p\","
        "\"inputs\":{\"d\":\"in\"}}]\nE\n"
        "$C batch t.json --out b >/dev/null 2>&1; "
        "cat b/c/[012]/stdout.txt b/p/0/response.txt b/p/0/outputs/p; ls b/c/*/outputs/r | wc -l",
        0, "a\na\na\nbp\n3\n");
}

static void the_python_module_does_the_same(void **state)
{
    (void)state;
    if (access("/usr/bin/python3", X_OK))
        SKIP_BECAUSE("python3 is not installed");
    write_file(
        textf("%s/t.py", dir), /* removed with the directory */
        "from claude_runner import *\n"
        "t = CloudRunTask(id='t', command='cat input/d/a; echo o >output/o; exit 5',\n"
        "                 inputs=(('d', 'in'),), timeout=60)\n"
        "with CloudRunClient() as c:\n"
        "    r = c.run_single(t)\n"
        "    print(r.stdout, r.returncode, r.success, (r.output_dir / 'o').read_text())\n"
        "u = ClaudeCodeTask(id='u', task='cat input/f; ls output', inputs=(('f', 'in/a'),))\n"
        "with ClaudeCodeClient() as c:\n"
        "    r = c.run_single(u)\n"
        "    print(r.response, r.success, r.output_dir)\n",
        0644);
    expect("/usr/bin/python3 -B t.py", 0, "a\n 5 False o\n\na True None\n");
}

/* The same tree after the way there and back: modes, links, empty directories. */
static void directories_are_copied_both_ways(void **state)
{
    (void)state;
    expect("mkdir -p tree/sub/empty && echo f >tree/sub/f && chmod 750 tree/sub/f && "
           "ln -s sub/f tree/link && s=$($C session new --id cp) && "
           "$C session cp tree cp:copy && $C session exec cp 'cat copy/link; ls copy/sub' && "
           "$C session cp cp:copy back && (cd tree && tar c --sort=name --mtime=@0 . | sha256sum) "
           ">1 && (cd back && tar c --sort=name --mtime=@0 . | sha256sum) >2 && cmp 1 2",
           0, "f\nempty\nf\n");
    expect("$C session cp tree/ cp:into/ && mkdir here && $C session cp cp:into/tree here/ && "
           "readlink here/tree/link && echo more >here/tree/own && "
           "$C session cp cp:into/tree here && cat here/tree/own here/tree/sub/f",
           0, "sub/f\nmore\nf\n");
    expect("ln -s /etc/passwd tree/out && $C session cp tree cp:copy 2>said; echo $?; "
           "grep -c 'leads out' said; $C session exec cp 'ln -s /etc/passwd copy/out' && "
           "$C session cp cp:copy three && ls three",
           0, "1\n1\nlink\nsub\n");
    expect("$C session cp cp:copy - 2>said; echo $?; $C session cp cp:nothing x 2>>said; echo $?; "
           "$C session cp nothing cp:x 2>>said; echo $?; ls x 2>/dev/null; "
           "$C session rm cp --json | grep -c '\"success\": *true'",
           0, "2\n1\n1\n1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exec_works_on_what_it_was_given),
        cmocka_unit_test(run_works_on_it_too_and_outputs_come_back),
        cmocka_unit_test(a_batch_keeps_what_its_runs_left),
        cmocka_unit_test(directories_are_copied_both_ways),
        cmocka_unit_test(the_python_module_does_the_same),
    };
    return cmocka_run_group_tests_name("client_inputs", tests, start, stop);
}
