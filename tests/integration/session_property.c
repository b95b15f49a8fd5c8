/*
 * One random script runs line by line in a session's shell and in one plain bash: output, exit
 * codes, working directory and exported variables must be the same. CR_SEED chooses the script,
 * CR_LINES its length; both are printed.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct runner *shared;
static uint64_t seed;

static unsigned pick(unsigned count)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % count;
}

/* %N is a number, %V a variable, %D a directory. */
static const char *const forms[] = {
    "%V=%N",
    "export %V=%N",
    "export %V='a b %N'",
    "unset %V",
    "echo \"$%V\"",
    "echo $((%N + ${%V:-0}0 / 10))",
    "printf '%%s\\n' \"${%V:-none}\"",
    "mkdir -p %D && cd %D",
    "[ \"$PWD\" = \"$TOP\" ] || cd ..",
    "cd \"$TOP\"",
    "cd %D",
    "echo ${PWD#\"$TOP\"}",
    "f%N() { echo in $1 \"$%V\"; return %N; }",
    "f%N a b",
    "unset -f f%N",
    "(exit %N)",
    "false",
    "true",
    "! true",
    "echo $?",
    "echo %N | { read x; echo got $x; }",
    "cat <<E\n$%V %N\nE",
    "cat <<'E'\n$%V\nE",
    "for i in 1 2 3; do echo $i; done",
    "i=%N; while [ $i -gt 0 ]; do i=$((i-1)); done; echo $i",
    "if [ -n \"$%V\" ]; then echo set; else echo unset; fi",
    "case %N in [0-4]) echo low;; *) echo high;; esac",
    "a=(1 2 %N); echo ${#a[@]} ${a[2]}",
    "a+=(%N)",
    "echo ${a[@]}",
    "declare -A m; m[k%N]=%N; echo ${#m[@]}",
    "set -u; set +u",
    "set -o pipefail",
    "set +o pipefail",
    "false | true",
    "shopt -s nullglob; echo *nope*",
    "shopt -u nullglob",
    "umask 02%N; umask",
    "alias al='echo alias %N'",
    "al x",
    "unalias al",
    "trap 'echo usr' USR1; kill -USR1 $$",
    "trap - USR1",
    "trap 'printf D' DEBUG",
    "trap - DEBUG",
    "trap 'printf E' ERR",
    "trap - ERR",
    "set -E -T",
    "set +E +T",
    "echo out; echo err >&2",
    "echo )",
    "x=$(echo %N; exit %N); echo $x $?",
    "echo %N > file%N",
    "cat file%N",
    "rm -f file%N",
    "wc -c < file%N",
    "eval 'echo e%N; (exit %N)'",
    "local z=1",
    "break",
    "declare -i n=%N+1; echo $n",
    "readonly r%N 2>/dev/null; echo ro",
    "let %N",
    "[[ %N == 4 ]]",
    "test -d %D",
    "ls -d %D",
    "export -n %V",
    "export -p | grep -c '^declare -x V'",
    "echo ${%V^^} ${%V/a/b}",
    "echo {1..3}",
    "printf 'no newline'",
    "exec 3>fd%N; echo three >&3; exec 3>&-; cat fd%N",
    "sleep 0 & wait $!; echo $?",
    "pushd %D >/dev/null; popd >/dev/null",
    "getopts a: o -a %N; echo $o; OPTIND=1",
    "IFS=: read a b <<< '1:2'; echo $b",
    "mapfile -t l <<< $'x\\ny'; echo ${l[1]}",
    "printf '\\101\\n'",
    "return %N",
    "{ time -p true; } 2>/dev/null",
    "command -v f%N",
    "type -t al f%N",
    "hash -r",
    "set -- a b %N; echo $# $3",
    "shift 2>/dev/null; echo $#",
};

static void make_line(char *line, size_t size)
{
    static const char *const dirs[] = {"d1", "d2", "d1/e", "'with space'"};
    const char *form = forms[pick(COUNT(forms))];
    size_t at = 0;
    for (; *form && at + 32 < size; form++) {
        if (*form != '%' ||
            (form[1] != 'N' && form[1] != 'V' && form[1] != 'D' && form[1] != '%')) {
            line[at++] = *form;
            continue;
        }
        form++;
        if (*form == '%')
            line[at++] = '%';
        else if (*form == 'N')
            at += (size_t)snprintf(line + at, size - at, "%u", pick(7));
        else if (*form == 'V')
            at += (size_t)snprintf(line + at, size - at, "V%u", pick(5));
        else
            at += (size_t)snprintf(line + at, size - at, "%s", dirs[pick(COUNT(dirs))]);
    }
    line[at] = '\0';
}

static void quote(FILE *file, const char *text)
{
    fputc('\'', file);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
    fputc('\'', file);
}

/* One bash that runs all lines. */
static char *plain(char *const lines[], size_t count, const char *dir)
{
    char *script = textf("%s/script", dir), *run;
    FILE *file = fopen(script, "w");
    assert_non_null(file);
    fputs("shopt -s expand_aliases\n", file);
    for (size_t i = 0; i < count; i++) {
        fputs("eval ", file);
        quote(file, lines[i]);
        fprintf(file, " >%s/out.%zu 2>%s/err.%zu </dev/null\n", dir, i, dir, i);
        fprintf(file,
                "{ s=$?; printf '%%s %%s\\n' $s \"${PWD#\"$TOP\"}\" >>%s/ends; (exit $s); }\n",
                dir);
    }
    fprintf(file, "export -p | grep '^declare -x V' | sort >%s/env\n", dir);
    fclose(file);
    run =
        textf("mkdir -p %s/top && cd %s/top && env -i PATH=\"$PATH\" LANG=C.UTF-8 TOP=%s/top bash "
              "--noprofile --norc %s; true",
              dir, dir, dir, script);
    char *const argv[] = {(char[]){"/bin/bash"}, (char[]){"-c"}, run, NULL};
    char *const env[] = {(char[]){"PATH=/usr/local/bin:/usr/bin:/bin"}, NULL};
    int status;
    assert_true(proc_wait(proc_start(argv, env, NULL, NULL), 300000, &status));
    free(run);
    free(script);
    char *path = textf("%s/ends", dir), *ends = read_file(path, NULL);
    assert_non_null(ends);
    free(path);
    return ends;
}

/* Removes what comes before messages: "NAME: line N: ", also with "eval:" in between. A script's
 * lines are numbered throughout, a session's start anew with each command. */
static void strip_places(char *text)
{
    char *to = text;
    for (char *line = text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        next += *next == '\n';
        char *at = strstr(line, "line "), *from = line;
        if (at && at < next) {
            at += strlen("line ");
            size_t digits = strspn(at, "0123456789");
            if (digits > 0 && at[digits] == ':')
                from = at + digits;
        }
        memmove(to, from, (size_t)(next - from));
        to += next - from;
    }
    *to = '\0';
}

static void compare(const char *dir, size_t i, const char *line, const struct done *done,
                    const char *end)
{
    char *path = textf("%s/out.%zu", dir, i), *err_path = textf("%s/err.%zu", dir, i);
    char *out = read_file(path, NULL), *err = read_file(err_path, NULL);
    char *mine = textf("%d %s", done->exit_code,
                       strncmp(done->cwd, "/workspace/top", 14) == 0 ? done->cwd + 14 : done->cwd);
    char *mine_err = strdup(done->err);
    strip_places(mine_err);
    strip_places(err);
    if (strcmp(out, done->out) != 0 || strcmp(err, mine_err) != 0 || strcmp(mine, end) != 0)
        fail_msg(
            "line %zu '%s': a session printed '%s' ('%s') and ended '%s'; bash '%s' ('%s'), '%s'",
            i, line, done->out, mine_err, mine, out, err, end);
    free(mine_err), free(path), free(err_path), free(out), free(err), free(mine);
}

static void a_session_does_what_bash_does(void **state)
{
    (void)state;
    const char *given = getenv("CR_SEED"), *wanted = getenv("CR_LINES");
    seed =
        given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    size_t count = wanted ? strtoul(wanted, NULL, 10) : 800;
    print_message("CR_SEED=%llu CR_LINES=%zu\n", (unsigned long long)seed, count);
    char **lines = calloc(count, sizeof(*lines));
    char line[512], *dir = tmp_dir_new();
    assert_non_null(lines);
    for (size_t i = 0; i < count; i++) {
        make_line(line, sizeof(line));
        lines[i] = strdup(line);
    }
    char *ends = plain(lines, count, dir), *save = NULL;
    session_make(runner_shared(&shared, (const char *const[]){"SESSIONS_MAX", "9", NULL}), "p");
    done_free(session_run(shared, "p", "mkdir top; cd top; TOP=$PWD", ""));
    char *end = strtok_r(ends, "\n", &save);
    for (size_t i = 0; i < count; i++, end = strtok_r(NULL, "\n", &save)) {
        struct done *done = session_run(shared, "p", lines[i], "");
        if (!end)
            fail_msg("bash ended before line %zu '%s'", i, lines[i]);
        compare(dir, i, lines[i], done, end);
        done_free(done);
    }
    done_free(session_run(shared, "p", "trap - DEBUG ERR", ""));
    struct done *done = session_run(shared, "p", "export -p | grep '^declare -x V' | sort", "");
    char *path = textf("%s/env", dir), *env = read_file(path, NULL);
    assert_string_equal(done->out, env);
    done_free(done);
    for (size_t i = 0; i < count; i++)
        free(lines[i]);
    free(lines), free(ends), free(path), free(env);
    tmp_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_session_does_what_bash_does)};
    return cmocka_run_group_tests_name("session_property", tests, NULL, shared_stop);
}
