/*
 * Bad input: every ground rule of the contract, and a corpus of malformed requests in bytes. The
 * service answers or closes, stays healthy, and leaks nothing.
 */
#include "badinput_scene.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool names_the_field(const cJSON *problem, const struct bad_body *bad)
{
    if (!bad->field)
        return strstr(json_text(problem, "detail"), bad->message) != NULL;
    const cJSON *error;
    bool named = false;
    cJSON_ArrayForEach(error, json_at(problem, "errors"))
    {
        named |= strcmp(json_text(error, "field"), bad->field) == 0 &&
                 strstr(json_text(error, "message"), bad->message);
    }
    return named;
}

static void every_bad_body_is_refused_and_its_field_named(void **state)
{
    (void)state;
    int wrong = 0;
    shared();
    for (size_t i = 0; i < COUNT(bad_bodies); i++) {
        struct reply *reply = runner_post(runner, "/execute", bad_bodies[i].body);
        if (reply->status != 400 || !names_the_field(reply->json, &bad_bodies[i])) {
            print_error("%s: %d %s\n", bad_bodies[i].body, reply->status, reply->body);
            wrong++;
        } else {
            assert_problem(reply, 400, NULL);
        }
        reply_free(reply);
    }
    assert_int_equal(wrong, 0);
}

static void all_bad_fields_are_told_at_once(void **state)
{
    (void)state;
    struct reply *reply = runner_post(shared(), "/execute",
                                      "{\"prompt\":\"\",\"maxTurns\":-1,\"priority\":99,"
                                      "\"effort\":\"x\",\"nonsense\":1}");
    assert_problem(reply, 400, NULL);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "errors")), 5);
    reply_free(reply);
}

static void a_cloud_that_is_not_configured_is_refused_by_name(void **state)
{
    (void)state;
    struct reply *reply =
        runner_post(shared(), "/execute", "{\"prompt\":\"x\",\"executor\":\"cloud\"}");
    assert_problem(reply, 400, "invalid_request");
    assert_non_null(strstr(reply->body, "\"field\":\"executor\""));
    assert_non_null(strstr(reply->body, "Google Cloud is not configured"));
    reply_free(reply);
}

static void snake_case_aliases_are_accepted(void **state)
{
    (void)state;
    struct reply *reply =
        runner_post(shared(), "/execute",
                    "{\"prompt\":\"standin: ok x\",\"timeout_ms\":300000,"
                    "\"allowed_tools\":[\"Read\"],\"max_turns\":6,\"useNamedPipe\":true}");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
}

/* ---- sizes ---- */

/* `n` times the same byte. The caller frees it. */
static char *run_of(char byte, size_t n)
{
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, byte, n);
    text[n] = '\0';
    return text;
}

static char *big_prompt(size_t size)
{
    char *text = run_of('p', size);
    char *body = textf("{\"prompt\":\"%s\"}", text);
    free(text);
    return body;
}

static char *deep_json(int depth)
{
    char *open = run_of('[', (size_t)depth);
    char *close = run_of(']', (size_t)depth);
    char *body = textf("{\"prompt\":\"standin: ok x\",\"metadata\":%s%s}", open, close);
    free(open);
    free(close);
    return body;
}

static void check_post(const char *body, int status)
{
    struct reply *reply = runner_post(shared(), "/execute", body);
    assert_status(reply, status);
    reply_free(reply);
}

static void sizes_have_their_limits(void **state)
{
    (void)state;
    static const struct {
        size_t prompt;
        int status;
    } sizes[] = {{1024 * 1024, 200},
                 {1024 * 1024 + 1, 400},
                 {9 * 1024 * 1024, 400},
                 {10 * 1024 * 1024, 413},
                 {11 * 1024 * 1024, 413}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *body = big_prompt(sizes[i].prompt);
        print_message("  %zu\n", sizes[i].prompt);
        check_post(body, sizes[i].status);
        free(body);
    }
    static const struct {
        int depth, status;
    } depths[] = {{62, 200}, {64, 400}, {1000, 400}, {1000000, 400}};
    for (size_t i = 0; i < COUNT(depths); i++) {
        char *body = deep_json(depths[i].depth);
        check_post(body, depths[i].status);
        free(body);
    }
}

/* A tree of values takes many times the bytes of its text: their number has a limit everywhere. */
static void bodies_of_many_values_are_refused_on_every_route(void **state)
{
    (void)state;
    static const char *const paths[] = {"/execute", "/run", "/exec", "/sessions", "/python"};
    static const char before[] = "{\"metadata\":[", after[] = "0]}";
    const size_t count = 150000, len = sizeof(before) - 1 + 2 * count;
    char *body = malloc(len + sizeof(after));
    memcpy(body, before, sizeof(before));
    for (size_t i = sizeof(before) - 1; i < len; i += 2)
        memcpy(body + i, "0,", 2);
    memcpy(body + len, after, sizeof(after));
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct reply *reply = runner_post(shared(), paths[i], body);
        print_message("  %s: %d\n", paths[i], reply->status);
        if (reply->status != 413 && reply->status != 422 && reply->status != 503)
            fail_msg("%s: %d %s", paths[i], reply->status, reply->body);
        assert_non_null(strstr(reply->body, reply->status == 503 ? "ython" : "100000"));
        reply_free(reply);
    }
    free(body);
}

/* ---- the head ---- */

static int status_of_head(size_t header_size)
{
    char *value = run_of('h', header_size);
    char *headers = textf("X-Long: %s\r\n" RUNNER_AUTH, value);
    struct reply *reply = http_call(shared()->base, "GET", "/health", headers, NULL);
    int status = reply->status;
    reply_free(reply);
    free(headers);
    free(value);
    return status;
}

static void heads_over_sixteen_kilobytes_are_431(void **state)
{
    (void)state;
    assert_int_equal(status_of_head(8000), 200);
    assert_int_equal(status_of_head(17 * 1024), 431);
    assert_int_equal(status_of_head(200 * 1024), 431);
}

static void wrong_methods_and_paths_say_what_is_right(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        int status;
        const char *allow;
    } cases[] = {
        {"GET", "/execute", 405, "POST"},     {"PUT", "/execute", 405, "POST"},
        {"POST", "/health", 405, "GET"},      {"DELETE", "/healthz", 405, "GET"},
        {"PATCH", "/tasks/x", 405, "DELETE"}, {"GET", "/nothing", 404, NULL},
        {"GET", "/execute/", 404, NULL},      {"GET", "//health", 404, NULL},
        {"GET", "/Health", 404, NULL},        {"GET", "/tasks/x/y/z", 404, NULL},
        {"GET", "/../etc/passwd", 404, NULL}, {"BREW", "/health", 501, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply =
            http_call(shared()->base, cases[i].method, cases[i].path, RUNNER_AUTH, NULL);
        char allow[100] = "";
        reply_header(reply, "Allow", allow, sizeof allow);
        print_message("  %s %s\n", cases[i].method, cases[i].path);
        if (cases[i].status == 404 && reply->status == 400) { /* a path that no one may ask for */
            reply_free(reply);
            continue;
        }
        assert_status(reply, cases[i].status);
        if (cases[i].allow)
            assert_non_null(strstr(allow, cases[i].allow));
        reply_free(reply);
    }
}

static void request_ids_are_returned_when_they_are_sane(void **state)
{
    (void)state;
    static const struct {
        const char *sent;
        bool kept;
    } cases[] = {
        {"abc-123", true},   {"A.b_c-9", true}, {"with space", false},
        {"<script>", false}, {"", false},       {"\"quoted\"", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *headers = textf("X-Request-ID: %s\r\n", cases[i].sent);
        struct reply *reply = http_call(shared()->base, "GET", "/health", headers, NULL);
        char id[200] = "";
        assert_true(reply_header(reply, "X-Request-ID", id, sizeof id));
        assert_string_not_equal(id, "");
        bool kept = strcmp(id, cases[i].sent) == 0;
        if (kept != cases[i].kept)
            fail_msg("'%s' became '%s'", cases[i].sent, id);
        reply_free(reply);
        free(headers);
    }
}

static void expect_100_is_answered_first(void **state)
{
    (void)state;
    static const char body[] = "{\"prompt\":\"standin: ok x\"}";
    int fd = http_connect(shared()->base);
    char *head = textf("POST /execute HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                       "Content-Type: application/json\r\nExpect: 100-continue\r\n"
                       "Content-Length: %zu\r\n\r\n",
                       strlen(body));
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char interim[sizeof go_on] = "";
    assert_true(http_send_text(fd, head));
    assert_true(recv(fd, interim, sizeof go_on - 1, MSG_WAITALL) == sizeof go_on - 1);
    assert_string_equal(interim, go_on);
    assert_true(http_send_text(fd, body));
    struct reply *reply = http_read(fd, 60000);
    assert_status(reply, 200);
    assert_json_text(reply->json, "output", "x");
    reply_free(reply);
    close(fd);
    free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_body_is_refused_and_its_field_named),
        cmocka_unit_test(all_bad_fields_are_told_at_once),
        cmocka_unit_test(a_cloud_that_is_not_configured_is_refused_by_name),
        cmocka_unit_test(snake_case_aliases_are_accepted),
        cmocka_unit_test(sizes_have_their_limits),
        cmocka_unit_test(bodies_of_many_values_are_refused_on_every_route),
        cmocka_unit_test(heads_over_sixteen_kilobytes_are_431),
        cmocka_unit_test(wrong_methods_and_paths_say_what_is_right),
        cmocka_unit_test(request_ids_are_returned_when_they_are_sane),
        cmocka_unit_test(expect_100_is_answered_first),
    };
    return cmocka_run_group_tests_name("badinput", tests, NULL, shared_stop);
}
