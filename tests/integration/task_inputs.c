/*
 * Inputs of tasks, and the files that tasks leave in their output folder, for commands and for
 * Claude, in every jail that this host allows and with every kind of workspace.
 */
#include "task_inputs_scene.h"

#include "small_disk.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void prints(const struct runner *to, const char *text, const char *more, const char *out)
{
    struct reply *reply = command(to, text, more);
    assert_status(reply, 200);
    if (strcmp(json_text(reply->json, "stdout"), out) != 0)
        fail_msg("'%s' gave %s", text, reply->body);
    reply_free(reply);
}

/* Uploads a tree and a single file. Returns "\"inputs\":{\"tree\":…,\"one\":…}". */
static char *two_inputs(const struct runner *to)
{
    struct tar tree = {0}, one = {0};
    tar_add(&tree, "dir/a", '0', "aa\n");
    tar_add(&tree, "b", '0', "bb\n");
    tar_add(&tree, "to-b", '2', "b");
    tar_end(&tree);
    tar_add(&one, "only.txt", '0', "one\n");
    tar_end(&one);
    char *t = input_upload(to, tree.data, tree.size), *o = input_upload(to, one.data, one.size);
    char *field = textf("\"inputs\":{\"tree\":\"%s\",\"one\":\"%s\"}", t, o);
    free(t), free(o), free(tree.data), free(one.data);
    return field;
}

/* ---- where they appear ---- */

static void try_kind_of_host(const char *name, const char *value)
{
    struct runner *own = make(name, value);
    char *inputs = two_inputs(own), *with;
    print_message("%s=%s\n", name, value);
    prints(own, "cat input/one input/tree/dir/a input/tree/to-b; ls input", inputs,
           "one\naa\nbb\none\ntree\n");
    /* the changes of one run are not visible to the next */
    for (int i = 0; i < 2; i++)
        prints(own,
               "set -e; echo more >>input/one; echo x >>input/tree/b; rm -r input/tree/dir; "
               "touch input/tree/new; cat input/one input/tree/b; ls input/tree; mkdir -p output; "
               "cp input/one output/",
               inputs, "one\nmore\nbb\nx\nb\nnew\nto-b\n");
    /* in a repository inputs lie beside its files, and git ignores them */
    char *script = textf("cd %s && rm -rf r && git init -q -b main r && cd r && mkdir input && "
                         "echo r >input/of-repo && echo f >f && git add . && "
                         "git -c user.name=A -c user.email=a@b commit -qm 1 && chmod -R a+rX .",
                         own->shared);
    proc_shell(script);
    with = textf("%s,\"repoUrl\":\"file://%s/r\"", inputs, own->shared);
    prints(own,
           "set -e; cat input/one input/tree/b input/of-repo f; git status --porcelain; "
           "echo y >>input/one; echo z >>input/tree/b; git add -A; git status --porcelain",
           with, "one\nbb\nr\nf\n");
    free(script), free(with), free(inputs);
    runner_free(own);
}

static void inputs_appear_in_every_jail(void **state)
{
    (void)state;
    try_kind_of_host("JAIL", "auto");
    try_kind_of_host("JAIL", "restricted");
    try_kind_of_host("JAIL", "none");
}

static void inputs_appear_in_copies_too(void **state)
{
    (void)state;
    try_kind_of_host("WORKSPACES", "copy");
}

static void claude_and_its_commands_see_them_and_a_commit_does_not(void **state)
{
    (void)state;
    char *inputs = two_inputs(get());
    char *script = textf("cd %s && git init -q -b main g && cd g && echo f >f && git add . && "
                         "git -c user.name=A -c user.email=a@b commit -qm 1 && chmod -R a+rX .",
                         get()->shared);
    proc_shell(script);
    char *more = textf("%s,\"repoUrl\":\"file://%s/g\",\"preExecutionCommands\":[\"cat input/one "
                       ">before\"],\"postCommands\":[\"cp input/tree/b output/after\"],"
                       "\"postExecutionActions\":{\"git\":{\"commit\":true}}",
                       inputs, get()->shared);
    struct reply *reply =
        post(get(), "/execute", "prompt", "cat before input/tree/dir/a; echo c >output/c", more);
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "output", "one\naa");
    assert_json_bool(reply->json, "gitCommit.committed", true);
    assert_json_number(reply->json, "outputs.files", 2);
    const char *id = json_text(reply->json, "taskId");
    has_output(get(), id, "c", "c\n");
    has_output(get(), id, "after", "bb\n");
    char *path = textf("/tasks/%s/diff", id);
    struct reply *diff = runner_get(get(), path);
    assert_non_null(strstr(diff->body, "before"));
    assert_null(strstr(diff->body, "input/"));
    reply_free(diff), reply_free(reply);
    free(path), free(more), free(script), free(inputs);
}

static void the_input_dot_claude_is_the_clis_configuration(void **state)
{
    (void)state;
    struct tar tar = {0};
    tar_add(&tar, "./settings.json", '0', "{}");
    tar_add(&tar, "./skills/s/SKILL.md", '0', "skill");
    tar_add(&tar, "./.credentials.json", '0', "not for it");
    tar_end(&tar);
    char *name = input_upload(get(), tar.data, tar.size);
    char *more = textf("\"inputs\":{\".claude\":\"%s\"}", name);
    struct reply *reply =
        post(get(), "/execute", "prompt",
             "cd \"$CLAUDE_CONFIG_DIR\"; cat settings.json skills/s/SKILL.md; "
             "ls .credentials.json 2>/dev/null; ls -d ~-/input/.claude >/dev/null && touch mine",
             more);
    assert_status(reply, 200);
    assert_json_text(reply->json, "output", "{}skill");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
    free(tar.data), free(name), free(more);
}

/* ---- what is refused ---- */

static void an_unknown_input_is_refused_by_its_name(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "\"data\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
        "\"a/b\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
        "\"..\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
        "\"\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
        "\"data\":\"0000\"",
        "\"data\":7",
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        char *more = textf("\"inputs\":{%s}", fields[i]);
        struct reply *reply = command(get(), "true", more);
        assert_problem(reply, 400, "invalid_request");
        assert_json_contains(reply->json, "errors.0.field", "inputs");
        if (i == 0) {
            assert_json_text(reply->json, "errors.0.field", "inputs.data");
            assert_json_contains(reply->json, "detail", "PUT /inputs/");
        }
        reply_free(reply);
        free(more);
    }
}

static void an_archive_that_is_not_right_is_the_tasks_result(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        char type;
        const char *text, *says;
    } cases[] = {
        {"/etc/x", '0', "x", "not allowed"},      {"../x", '0', "x", "not allowed"},
        {"a/../../x", '0', "x", "not allowed"},   {"out", '2', "../../etc/passwd", "leads out"},
        {"out", '2', "/etc/passwd", "leads out"}, {"dev", '3', "", "neither a file"},
        {"fifo", '6', "", "neither a file"},      {"hard", '1', "nothing", "not there"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tar tar = {0};
        tar_add(&tar, cases[i].name, cases[i].type, cases[i].text);
        tar_end(&tar);
        char *name = input_upload(get(), tar.data, tar.size);
        char *more = textf("\"inputs\":{\"in\":\"%s\"}", name);
        struct reply *reply = command(get(), "echo ran", more);
        assert_status(reply, 200);
        assert_json_bool(reply->json, "success", false);
        assert_json_text(reply->json, "reason", "input_error");
        assert_json_text(reply->json, "stdout", "");
        assert_json_contains(reply->json, "error", "inputs.in: ");
        assert_json_contains(reply->json, "error", cases[i].says);
        reply_free(reply);
        free(tar.data), free(name), free(more);
    }
    char *name = input_upload(get(), "no archive at all", 17);
    char *more = textf("\"inputs\":{\"in\":\"%s\"}", name);
    struct reply *reply = post(get(), "/execute", "prompt", "true", more);
    assert_status(reply, 200);
    assert_json_text(reply->json, "reason", "input_error");
    reply_free(reply);
    free(name), free(more);
}

static void a_bomb_is_not_unpacked(void **state)
{
    (void)state;
    char *dir = tmp_dir_new(), *path = textf("%s/bomb.tgz", dir);
    char *script = textf("cd %s && truncate -s 50M zeros && tar czf bomb.tgz zeros", dir);
    size_t size;
    proc_shell(script);
    char *bomb = read_file(path, &size), *name = input_upload(get(), bomb, size);
    char *more = textf("\"inputs\":{\"in\":\"%s\"}", name);
    struct reply *reply = command(get(), "echo ran", more);
    assert_status(reply, 200);
    assert_json_text(reply->json, "reason", "input_error");
    assert_json_contains(reply->json, "error", "inputs.in: ");
    char *parts = textf("! find %s/inputs -name '.part*' | grep .", get()->state);
    proc_shell(parts);
    reply_free(reply);
    free(dir ? path : NULL), free(script), free(bomb), free(name), free(more), free(parts);
    tmp_dir_free(dir);
}

static void a_repository_that_has_the_place_itself_is_named(void **state)
{
    (void)state;
    char *inputs = two_inputs(get());
    char *script = textf("cd %s && for k in file same; do git init -q -b main $k; done; "
                         "echo f >file/input; mkdir -p same/input; echo f >same/input/one; "
                         "for k in file same; do (cd $k && git add . && git -c user.name=A -c "
                         "user.email=a@b commit -qm 1 && chmod -R a+rX .); done",
                         get()->shared);
    proc_shell(script);
    static const char *const kinds[][2] = {{"file", "a file 'input'"}, {"same", "'input/one'"}};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        char *more = textf("%s,\"repoUrl\":\"file://%s/%s\"", inputs, get()->shared, kinds[i][0]);
        struct reply *reply = command(get(), "true", more);
        assert_status(reply, 200);
        assert_json_text(reply->json, "reason", "input_error");
        assert_json_contains(reply->json, "error", kinds[i][1]);
        reply_free(reply);
        free(more);
    }
    free(script), free(inputs);
}

/* ---- how long they stay ---- */

/* 15 MB that do not compress and are different each time. */
static char *big_input(const struct runner *to)
{
    static unsigned count;
    size_t size;
    char *dir = tmp_dir_new(), *path = textf("%s/big.tar", dir);
    char *script = textf("cd %s && head -c 15M /dev/urandom >big%u && tar cf big.tar big%u", dir,
                         count, count);
    count++;
    proc_shell(script);
    char *data = read_file(path, &size), *name = input_upload(to, data, size);
    free(path), free(script), free(data);
    tmp_dir_free(dir);
    return name;
}

static int status_of(const struct runner *to, const char *input)
{
    char *path = textf("/inputs/%s", input + strlen("sha256:"));
    struct reply *reply = http_call(to->base, "HEAD", path, RUNNER_AUTH, NULL);
    int status = reply->status;
    reply_free(reply);
    free(path);
    return status;
}

static void detached(const struct runner *to, const char *id, const char *text, const char *input)
{
    char *body =
        textf("{\"command\":\"%s\",\"taskId\":\"%s\",\"retryInterrupted\":true%s%s%s}", text, id,
              input ? ",\"inputs\":{\"in\":\"" : "", input ? input : "", input ? "\"}" : "");
    struct reply *reply = http_call(to->base, "POST", "/exec",
                                    RUNNER_AUTH "Content-Type: application/json\r\n"
                                                "Prefer: wait=0\r\n",
                                    body);
    assert_status(reply, 202);
    reply_free(reply);
    free(body);
}

static void what_a_waiting_task_needs_is_not_evicted_not_even_after_a_crash(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    char *needed = big_input(own), *other = big_input(own);
    detached(own, "first", "sleep 600", NULL);
    runner_await(own, "first", "running", 20000);
    detached(own, "second", "wc -c <input/in", needed);
    char *third = big_input(own); /* 45 MB in all: one input must be removed */
    assert_int_equal(status_of(own, needed), 200);
    assert_int_equal(status_of(own, other), 404);
    runner_crash(own);
    runner_start(own);
    char *fourth = big_input(own);
    assert_int_equal(status_of(own, needed), 200);
    assert_int_equal(status_of(own, third), 404);
    reply_free(runner_post(own, "/tasks/first/cancel", ""));
    runner_await(own, "second", "completed", 60000);
    struct reply *result = runner_result(own, "second");
    assert_json_text(result->json, "stdout", "15728640\n");
    reply_free(result);
    char *fifth = big_input(own), *sixth = big_input(own); /* no task needs it any more */
    assert_int_equal(status_of(own, needed), 404);
    assert_int_equal(status_of(own, sixth), 200);
    free(needed), free(other), free(third), free(fourth), free(fifth), free(sixth);
    runner_free(own);
}

static void an_upload_that_has_no_room_beside_what_is_needed_is_refused(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    char *a = big_input(own), *b = big_input(own);
    detached(own, "first", "sleep 600", NULL);
    runner_await(own, "first", "running", 20000);
    detached(own, "x", "true", a);
    detached(own, "y", "true", b);
    char *data = calloc(1, 15u << 20), *hash = sha256_of(data, 15u << 20);
    char *path = textf("/inputs/%s", hash);
    struct reply *reply = session_send(own, "PUT", path, data, 15u << 20);
    assert_problem(reply, 507, "insufficient_storage");
    assert_json_contains(reply->json, "detail", "INPUTS_MAX_MB");
    EVENTUALLY(20000, !inputs_have_parts(own));
    reply_free(reply);
    free(a), free(b), free(data), free(hash), free(path);
    runner_free(own);
}

static void one_archive_is_unpacked_once_for_all(void **state)
{
    (void)state;
    char *inputs = two_inputs(get()), *more = textf("%s,\"n\":8", inputs);
    struct reply *reply = command(get(), "cat input/tree/b; echo m >>input/tree/b", more);
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", true);
    for (int i = 0; i < 8; i++)
        assert_json_text(cJSON_GetArrayItem(json_at(reply->json, "runs"), i), "stdout", "bb\n");
    char *script =
        textf("cd %s/inputs && for t in tree-*; do [ -e ${t#tree-} ]; done", runner->state);
    proc_shell(script);
    reply_free(reply);
    free(inputs), free(more), free(script);
}

static void a_full_disk_refuses_uploads_and_fails_tasks_by_name(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    mkdir(own->state, 0711);
    if (!small_disk_mount(own->state, 24u << 20)) {
        runner_free(own);
        SKIP_BECAUSE("needs root to mount a small file system");
    }
    chmod(own->state, 0711);
    runner_start(own);
    char *input = big_input(own), *more = textf("\"inputs\":{\"in\":\"%s\"}", input);
    struct reply *reply = command(own, "true", more); /* an archive of 15 MB more than is allowed */
    assert_status(reply, 200);
    assert_json_text(reply->json, "reason", "disk_full");
    reply_free(reply);
    char *data = calloc(1, 20u << 20), *hash = sha256_of(data, 20u << 20);
    char *path = textf("/inputs/%s", hash);
    reply = session_send(own, "PUT", path, data, 20u << 20);
    assert_problem(reply, 507, "insufficient_storage");
    EVENTUALLY(20000, !inputs_have_parts(own));
    reply_free(reply);
    reply = command(own, "echo well", "");
    assert_json_text(reply->json, "stdout", "well\n");
    reply_free(reply);
    runner_stop(own, 60000);
    small_disk_unmount(own->state);
    runner_free(own);
    free(input), free(more), free(data), free(hash), free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_appear_in_every_jail),
        cmocka_unit_test(inputs_appear_in_copies_too),
        cmocka_unit_test(claude_and_its_commands_see_them_and_a_commit_does_not),
        cmocka_unit_test(the_input_dot_claude_is_the_clis_configuration),
        cmocka_unit_test(an_unknown_input_is_refused_by_its_name),
        cmocka_unit_test(an_archive_that_is_not_right_is_the_tasks_result),
        cmocka_unit_test(a_bomb_is_not_unpacked),
        cmocka_unit_test(a_repository_that_has_the_place_itself_is_named),
        cmocka_unit_test(what_a_waiting_task_needs_is_not_evicted_not_even_after_a_crash),
        cmocka_unit_test(an_upload_that_has_no_room_beside_what_is_needed_is_refused),
        cmocka_unit_test(one_archive_is_unpacked_once_for_all),
        cmocka_unit_test(a_full_disk_refuses_uploads_and_fails_tasks_by_name),
    };
    return cmocka_run_group_tests_name("task_inputs", tests, NULL, stop);
}
