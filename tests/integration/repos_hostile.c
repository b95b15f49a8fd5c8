/*
 * Malicious and very big repositories, remotes that break down, many tasks at once, and work that
 * cannot be pushed. The servers are real, and git checks the results.
 */
#include "repos_hostile_scene.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- what a repository can hold ---- */

/* tree MODE NAME TYPE-OF-CONTENT: raw trees, with names that git itself would not write. */
static const char make_hostile[] =
    "rm -rf '%s' && git init -q --bare -b main '%s' && cd '%s' && raw() { printf \"$1 $2\\0\";"
    " printf \"$(echo $3 | sed 's/../\\\\x&/g')\"; } &&"
    " put() { git hash-object -t tree --literally -w --stdin; } &&"
    " evil=$(printf '#!/bin/sh\\ntouch %s/owned\\n' | git hash-object -w --stdin) &&"
    " to=$(printf '%%s' '%s' | git hash-object -w --stdin) &&"
    " inner=$(raw 100755 owned $evil | put) && %s &&"
    " git update-ref refs/heads/main $(git commit-tree $top -m hostile)";

static void names_that_git_would_take_for_its_own_are_refused(void **state)
{
    (void)state;
    need_host();
    static const struct {
        const char *tree, *says;
    } cases[] = {
        {"top=$(raw 40000 .GIT $inner | put)", "invalid path"},
        {"top=$(raw 40000 git~1 $inner | put)", "invalid path"},
        {"top=$(raw 40000 '.g\\xe2\\x80\\x8cit' $inner | put)", "invalid path"},
        {"top=$(raw 40000 .git $inner | put)", "invalid path"},
        {"top=$(raw 40000 .. $inner | put)", "invalid path"},
        {"top=$(raw 40000 . $inner | put)", "invalid path"},
        {"top=$(raw 100644 ../owned $evil | put)", ""},
        {"top=$(raw 100644 a/../../owned $evil | put)", ""},
        {"top=$( { raw 120000 d $to; raw 40000 d $inner; } | put)", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        free(sh(make_hostile, "hostile.git", "hostile.git", "hostile.git", runner->shared,
                runner->shared, cases[i].tree));
        struct reply *reply = in(runner, "hostile.git", "git status", "");
        if (*cases[i].says)
            assert_failed(reply, "repo_error", cases[i].says);
        else
            reply_free(reply);
        assert_true(says(sh("ls -a %s %s/repos", runner->shared, runner->state), ""));
        char *found =
            sh("find %s %s -name owned -path '*shared*' -o -name owned -path '*/repos/owned'"
               " 2>/dev/null | head -1", /* the janitor's processes are there as well */
               runner->shared, runner->state);
        assert_string_equal(found, "");
        free(found);
    }
}

static void links_twins_pointers_and_submodules_are_kept_and_told(void **state)
{
    (void)state;
    need_host();
    free(sh("git init -q -b main odd; cd odd; ln -s /etc/shadow s; ln -s ../../../.. up; ln -s s l;"
            " echo a >README; echo b >readme; printf 'version https://git-lfs.github.com/spec/v1\\n"
            "oid sha256:%%064d\\nsize 4294967296\\n' 7 >big.bin; printf '[submodule \"sub\"]\\n"
            "\\tpath = sub\\n\\turl = https://169.254.169.254/evil\\n' >.gitmodules; mkdir sub;"
            " git add .; git update-index --add --cacheinfo 160000,%040d,sub; git commit -qm odd; "
            "cd ..;"
            " git clone -q --bare odd odd.git",
            5));
    for (int round = 0; round < 2; round++) {
        struct reply *reply = good(in(runner, "odd.git",
                                      "git status --porcelain; readlink s up; cat README readme;"
                                      " ls sub; wc -c <big.bin; git fsck; git config -l | grep -c"
                                      " submodule || true",
                                      ""));
        assert_json_text(reply->json, "output", "/etc/shadow\n../../../..\na\nb\n135\n0");
        const cJSON *repo = json_at(reply->json, "repo");
        assert_int_equal((int)json_at(repo, "lfsPointers")->valuedouble, 1);
        assert_string_equal(cJSON_GetArrayItem(json_at(repo, "submodules"), 0)->valuestring, "sub");
        reply_free(reply);
    }
}

static void a_long_history_and_a_wide_tree_are_whole(void **state)
{
    (void)state;
    need_host();
    free(
        sh("git init -q --bare -b main long.git; awk 'BEGIN { for (i = 1; i <= 100000; i++)"
           " printf \"commit refs/heads/main\\ncommitter a <a@b> %%d +0000\\ndata 1\\nx\\nM 100644"
           " inline f\\ndata %%d\\n%%d\\n\", 1600000000 + i, length(i \"\"), i }' |"
           " git -C long.git fast-import --quiet; git init -q --bare -b main wide.git; awk 'BEGIN {"
           " print \"commit refs/heads/main\\ncommitter a <a@b> 1600000000 +0000\\ndata 1\\nx\";"
           " for (i = 0; i < 50000; i++) printf \"M 100644 inline d%%d/f%%d\\ndata %%d\\n%%d\\n\","
           " i %% 500, i, length(i \"\"), i }' | git -C wide.git fast-import --quiet"));
    struct reply *reply = good(in(runner, "long.git", "git rev-list --count HEAD; cat f", ""));
    assert_json_text(reply->json, "output", "100000\n100000");
    reply_free(reply);
    reply = good(in(runner, "wide.git",
                    "git ls-files | wc -l; git status --porcelain | wc -l;"
                    " GIT_TRACE2_PERF=1 git status 2>&1 | grep -c 'sum_scan' ||"
                    " true",
                    "\"gitDepth\":1"));
    assert_json_contains(reply->json, "output", "50000\n0\n");
    reply_free(reply);
    reply = good(in(runner, "wide.git",
                    "echo changed >d7/f7; git rm -q d8/f8; git status "
                    "--porcelain",
                    PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    assert_true(says(sh("git -C wide.git show --format= --name-status main; git -C wide.git fsck"),
                     "M\td7/f7\nD\td8/f8\n"));
}

/* ---- what a URL can be ---- */

static void what_looks_like_an_option_is_none(void **state)
{
    (void)state;
    need_host();
    static const char *const fields[] = {
        "\"repoUrl\":\"--upload-pack=touch owned\"",
        "\"repoUrl\":\"-oProxyCommand=touch owned\"",
        "\"repoUrl\":\"ext::sh -c touch% owned\"",
        "\"repoUrl\":\"ssh://-oProxyCommand=touch/o/r\"",
        "\"repoUrl\":\"ssh://git@-oProxyCommand=touch/o/r\"",
        "\"repoUrl\":\"git@-oProxyCommand=x:o/r\"",
        "\"repoUrl\":\"https://localhost/$(touch owned)\"",
        "\"repoUrl\":\"https://localhost/../../etc\"",
        "\"repoUrl\":\"file://@D/../etc\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"--upload-pack=x\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"--output=owned\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"HEAD^{tree}\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"main..v1\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"@{-1}\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"a b\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"x.lock\"",
        "\"repoUrl\":\"git://localhost/o/r\"",
        "\"repoUrl\":\"ftp://localhost/o/r\"",
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        char *text = filled(fields[i], runner->shared);
        struct reply *reply = runner_execute(runner, "true", text);
        if (reply->status != 400 && !cJSON_IsFalse(json_at(reply->json, "success")))
            fail_msg("%s: %s", text, reply->body);
        reply_free(reply);
        free(text);
    }
}

static void odd_branches_are_branches(void **state)
{
    (void)state;
    need_host();
    static const char *const names[] = {
        "we\\\"ird",          "do$lar", "semi;colon", "a&b|c", "\\u00fcml\\u00e4ut",
        "deep/er/and/deeper", "quo'te", "`x`",        "#hash", "p%20"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char *json = textf("\"%s\"", names[i]);
        cJSON *name = cJSON_Parse(json);
        char *path = textf("%s/name", host.dir);
        write_file(path, name->valuestring, 0644);
        free(sh("git -C o.git branch -f \"$(cat name)\" main"));
        char *more = textf("\"gitBranch\":%s", json);
        struct reply *reply = in(runner, "o.git", "git rev-parse --abbrev-ref HEAD @{u}", more);
        if (cJSON_IsTrue(json_at(reply->json, "success"))) {
            char *expected = textf("%s\norigin/%s", name->valuestring, name->valuestring);
            assert_json_text(reply->json, "output", expected);
            free(expected);
        } else {
            fail_msg("%s: %s", json, reply->body);
        }
        reply_free(reply);
        free(more);
        free(path);
        free(json);
        cJSON_Delete(name);
    }
}

static void a_public_name_of_a_private_address_is_refused(void **state)
{
    (void)state;
    need_host();
    static const char *const urls[] = {"https://" REBOUND ":%d/o.git",
                                       "ssh://git@" REBOUND ":%d/o.git"};
    for (size_t i = 0; i < COUNT(urls); i++) {
        char fields[300];
        int n = snprintf(fields, sizeof fields, "\"repoUrl\":\"");
        n += i == 0 ? snprintf(fields + n, sizeof fields - (size_t)n,
                               "https://" REBOUND ":%d/o.git", host.web_port)
                    : snprintf(fields + n, sizeof fields - (size_t)n,
                               "ssh://git@" REBOUND ":%d/o.git", host.ssh_port);
        snprintf(fields + n, sizeof fields - (size_t)n, "\"");
        long before = file_size(runner->log);
        (void)before;
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_failed(reply, "repo_error", "private addresses only");
    }
}

static void a_password_in_a_url_is_kept_nowhere(void **state)
{
    (void)state;
    need_host();
    char *fields = textf("\"repoUrl\":\"https://me:url-pass-word-7@localhost:%d/o.git\","
                         "\"gitToken\":\"" TOKEN "\"",
                         host.web_port);
    char *id = runner_submit(runner, "git config -l; cat .git/config; git remote -v", fields);
    EVENTUALLY(60000, runner_has_ended(runner, id));
    struct reply *reply = good(runner_result(runner, id));
    assert_null(strstr(reply->body, "url-pass-word-7"));
    reply_free(reply);
    static const char *const places[] = {"/repos", "/tasks/%s", "/tasks/%s/events", "/tasks"};
    for (size_t i = 0; i < COUNT(places); i++) {
        char path[200];
        const char *hole = strstr(places[i], "%s");
        snprintf(path, sizeof path, "%.*s%s%s", hole ? (int)(hole - places[i]) : 100, places[i],
                 hole ? id : "", hole ? hole + 2 : "");
        reply = runner_get(runner, path);
        assert_status(reply, 200);
        assert_null(strstr(reply->body, "url-pass-word-7"));
        reply_free(reply);
    }
    assert_true(says(sh("grep -rsl url-pass-word-7 %s %s || echo none", runner->state, runner->log),
                     "none"));
    free(id);
    free(fields);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_git_would_take_for_its_own_are_refused),
        cmocka_unit_test(links_twins_pointers_and_submodules_are_kept_and_told),
        cmocka_unit_test(a_long_history_and_a_wide_tree_are_whole),
        cmocka_unit_test(what_looks_like_an_option_is_none),
        cmocka_unit_test(odd_branches_are_branches),
        cmocka_unit_test(a_public_name_of_a_private_address_is_refused),
        cmocka_unit_test(a_password_in_a_url_is_kept_nowhere),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos_hostile", tests, start_all, stop_all);
}
