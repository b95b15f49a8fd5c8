#include "task_inputs_scene.h"

/* ---- outputs ---- */

static void all_of_the_output_folder_comes_back(void **state)
{
    (void)state;
    struct reply *reply = command(
        get(),
        "cd output && mkdir -p sub/deep && echo 1 >r.txt && echo 2 >sub/deep/two && printf 3 >"
        "$'new\\nline' && printf 4 >$'byte\\xff' && ln -s /etc/passwd link && ln -s r.txt inner && "
        "mkfifo pipe && "
        "truncate -s 1T sparse && : >empty && exit 7",
        "");
    assert_status(reply, 200);
    assert_int_equal(json_at(reply->json, "exit_code")->valueint, 7);
    assert_json_number(reply->json, "outputs.files", 5);
    assert_json_number(reply->json, "outputs.skipped", 4);
    const char *id = json_text(reply->json, "taskId");
    has_output(get(), id, "r.txt", "1\n");
    has_output(get(), id, "sub/deep/two", "2\n");
    has_output(get(), id, "new%250Aline", "3");
    has_output(get(), id, "byte%25FF", "4");
    char *list = output(get(), id, "");
    assert_non_null(strstr(list, "\"new%0Aline\""));
    assert_null(strstr(list, "link"));
    free(list);
    reply_free(reply);
}

static void each_run_of_a_group_has_its_own(void **state)
{
    (void)state;
    struct reply *reply = command(get(), "echo $RANDOM >output/x; cat output/x", "\"n\":3");
    for (int i = 0; i < 3; i++) {
        const cJSON *run = cJSON_GetArrayItem(json_at(reply->json, "runs"), i);
        has_output(get(), json_text(run, "taskId"), "x", json_text(run, "stdout"));
    }
    reply_free(reply);
}

static void of_a_repository_only_what_changed_is_an_output(void **state)
{
    (void)state;
    char *script = textf("cd %s && git init -q -b main o && cd o && mkdir output && "
                         "echo old >output/old && echo was >output/was && git add . && git -c "
                         "user.name=A -c user.email=a@b commit -qm 1 && chmod -R a+rX .",
                         get()->shared);
    proc_shell(script);
    char *more = textf("\"repoUrl\":\"file://%s/o\",\"timeout_ms\":60000", get()->shared);
    struct reply *reply = command(get(), "echo is >output/was; echo n >output/new", more);
    assert_json_number(reply->json, "outputs.files", 2);
    const char *id = json_text(reply->json, "taskId");
    has_output(get(), id, "was", "is\n");
    has_output(get(), id, "new", "n\n");
    has_output(get(), id, "old", "");
    reply_free(reply);
    free(script), free(more);
}

static void a_stream_and_a_timeout_keep_them_too(void **state)
{
    (void)state;
    static const char *const limits[] = {"\"timeout_ms\":2000", "\"timeout_ms\":10000",
                                         "\"timeout_ms\":60000"};
    struct reply *reply = NULL;
    for (size_t i = 0; i < COUNT(limits); i++) { /* so long that it comes as far as it should */
        reply_free(reply);
        reply = command(get(), "echo p >output/p; sleep 600", limits[i]);
        assert_json_text(reply->json, "reason", "timeout");
        if (json_number(reply->json, "outputs.files") == 1)
            break;
    }
    has_output(get(), json_text(reply->json, "taskId"), "p", "p\n");
    reply_free(reply);
    struct stream *stream =
        stream_open(get()->base, "POST", "/exec",
                    RUNNER_AUTH "Content-Type: application/json\r\nAccept: text/event-stream\r\n",
                    "{\"command\":\"echo s >output/s\",\"taskId\":\"streamed\"}");
    stream_until_end(stream, 20000);
    assert_non_null(strstr(stream->body, "\"outputs\":{\"files\":1,\"bytes\":2,\"skipped\":0}"));
    has_output(get(), "streamed", "s", "s\n");
    stream_free(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_the_output_folder_comes_back),
        cmocka_unit_test(each_run_of_a_group_has_its_own),
        cmocka_unit_test(of_a_repository_only_what_changed_is_an_output),
        cmocka_unit_test(a_stream_and_a_timeout_keep_them_too),
    };
    return cmocka_run_group_tests_name("task_outputs", tests, NULL, stop);
}
