/*
 * Files of a session: every way to upload and download them, and what is refused.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "2", NULL};
    return runner_shared(&shared, settings);
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "f");
    return 0;
}

static struct reply *put(const char *path, const char *text)
{
    char *whole = textf("/sessions/f/%s", path);
    struct reply *reply = session_send(get(), "PUT", whole, text, strlen(text));
    free(whole);
    return reply;
}

static void put_well(const char *path, const char *text)
{
    struct reply *reply = put(path, text);
    if (reply->status != 200)
        assert_status(reply, 201);
    reply_free(reply);
}

static struct reply *call(const char *method, const char *path, const char *headers)
{
    char *whole = textf("/sessions/f/%s", path), *all = textf(RUNNER_AUTH "%s", headers);
    struct reply *reply = http_call(get()->base, method, whole, all, NULL);
    free(whole);
    free(all);
    return reply;
}

static struct reply *post(const char *path, const char *body)
{
    char *whole = textf("/sessions/f/%s", path);
    struct reply *reply = runner_post(get(), whole, body);
    free(whole);
    return reply;
}

static void holds(const char *path, const char *text)
{
    struct reply *reply = call("GET", path, "");
    if (reply->status != 206)
        assert_status(reply, 200);
    assert_string_equal(reply->body, text);
    reply_free(reply);
}

static void shell(const char *command)
{
    struct done *done = session_run(get(), "f", command, "");
    if (done->exit_code != 0)
        fail_msg("%s: %s", command, done->err);
    done_free(done);
}

static void a_file_is_written_read_and_deleted(void **state)
{
    (void)state;
    put_well("files/a/b/c.txt", "one\ntwo\nthree\n");
    holds("files/a/b/c.txt", "one\ntwo\nthree\n");
    holds("files//workspace/a/b/c.txt", "one\ntwo\nthree\n");
    put_well("files/a/b/c.txt?append=true", "four\n");
    holds("files/a/b/c.txt?startLine=1&endLine=3", "two\nthree");
    holds("files/a/b/c.txt?startLine=3", "four\n");
    holds("files/a/b/c.txt?maxLength=5", "one\nt(truncated)");
    put_well("files//tmp/x", "tmp");
    shell("test \"$(cat /tmp/x)\" = tmp; echo made > /workspace/made");
    holds("files/made", "made\n");
    for (int i = 0; i < 2; i++) {
        struct reply *reply = call("DELETE", "files/a", "");
        assert_status(reply, 200);
        reply_free(reply);
    }
    struct reply *reply = call("GET", "files/a/b/c.txt", "");
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 31 + i / 251);
    struct reply *reply = session_send(get(), "PUT", "/sessions/f/files/bytes", bytes, SIZE);
    assert_status(reply, 201);
    reply_free(reply);
    reply = call("GET", "files/bytes", "");
    assert_int_equal(reply->body_size, SIZE);
    assert_memory_equal(reply->body, bytes, SIZE);
    reply_free(reply);
    reply = call("GET", "files/bytes", "Range: bytes=10-19\r\n");
    assert_status(reply, 206);
    assert_memory_equal(reply->body, bytes + 10, 10);
    reply_free(reply);
    reply = call("GET", "files/bytes", "Range: bytes=9999999-\r\n");
    assert_problem(reply, 416, NULL);
    reply_free(reply);
    reply = call("HEAD", "files/bytes", "");
    assert_status(reply, 200);
    reply_free(reply);
    free(bytes);
}

static void conditions_are_kept(void **state)
{
    (void)state;
    char etag[128], *header;
    put_well("files/e", "1");
    struct reply *reply = call("GET", "files/e", "");
    assert_true(reply_header(reply, "ETag", etag, sizeof(etag)));
    reply_free(reply);
    header = textf("If-None-Match: %s\r\n", etag);
    assert_status(reply = call("GET", "files/e", header), 304);
    reply_free(reply);
    free(header);
    char *match = textf(RUNNER_AUTH "If-Match: %s\r\n", etag);
    assert_status(reply = http_call(get()->base, "PUT", "/sessions/f/files/e", match, "22"), 200);
    reply_free(reply);
    reply = http_call(get()->base, "PUT", "/sessions/f/files/e", match, "333");
    assert_problem(reply, 412, "precondition_failed");
    reply_free(reply);
    holds("files/e", "22");
    reply = http_call(get()->base, "PUT", "/sessions/f/files/e", RUNNER_AUTH "If-None-Match: *\r\n",
                      "4");
    assert_problem(reply, 412, "precondition_failed");
    reply_free(reply);
    free(match);
    shell("test -z \"$(ls -A /workspace | grep part)\"");
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        int status;
    } cases[] = {
        {"GET", "files/fifo", 409},
        {"PUT", "files/fifo", 409},
        {"GET", "files/dir", 409},
        {"PUT", "files/dir", 409},
        {"GET", "files/sock", 409},
        {"GET", "files//dev/zero", 409},
        {"GET", "files//proc/1/root/etc/hostname", 403},
        {"GET", "files/root/etc/hostname", 403},
        {"GET", "files/loop", 403},
        {"GET", "files//etc/shadow", 404}, /* the jail has no such file */
        {"PUT", "files//etc/x", 403},
        {"PUT", "files//usr/bin/x", 403},
        {"PUT", "files//x", 403},
        {"GET", "files/../../etc/passwd", 400},
        {"GET", "files/%2e%2e/x", 400},
        {"GET", "files/a%00b", 400},
        {"DELETE", "files//workspace", 403},
        {"DELETE", "files//tmp", 403},
        {"DELETE", "files//usr/bin", 403},
        {"GET", "files/plain/below", 404},
        {"PUT", "files/plain/below", 404},
        {"GET", "files/out/passwd", 200},
        {"GET", "archive?path=fifo", 409},
        {"GET", "archive?path=nope", 404},
        {"GET", "archive?path=sparse", 413},
        {"GET", "files?path=plain", 404},
        {"GET", "files?path=nope", 404},
        {"GET", "files/x?startLine=a", 404},
        {"GET", "files/plain?startLine=a", 400},
        {"GET", "files/plain?nope=1", 400},
    };
    shell("rm -rf /workspace/* && mkfifo fifo && mkdir dir && echo p > plain && ln -s /proc/1/root "
          "root "
          "&& ln -s loop loop && ln -s /etc out && truncate -s 5T sparse "
          "&& python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = call(cases[i].method, cases[i].path, "");
        if (reply->status != cases[i].status)
            fail_msg("%s %s: %d, not %d: %s", cases[i].method, cases[i].path, reply->status,
                     cases[i].status, reply->body);
        reply_free(reply);
    }
}

static void texts_are_searched_found_and_replaced(void **state)
{
    (void)state;
    shell("rm -rf /workspace/*");
    put_well("files/s/one.py", "def a():\n    pass\n\ndef b(x):\n    return 1\n");
    put_well("files/s/d/two.py", "# def\nx = 1\n");
    put_well("files/s/bin", "x");
    shell("printf 'def \\0 binary' > /workspace/s/bin");
    struct reply *reply =
        post("files/search", "{\"path\":\"s/one.py\",\"pattern\":\"^def \\\\w+\\\\(\"}");
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, "\"matches\":[\"def a():\",\"def b(x):\"]"));
    assert_non_null(strstr(reply->body, "\"line_numbers\":[0,3]"));
    reply_free(reply);
    reply = post("files/search", "{\"path\":\"/workspace\",\"pattern\":\"def\"}");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "files")), 3);
    reply_free(reply);
    assert_problem(reply = post("files/search", "{\"path\":\"s\",\"pattern\":\"(\"}"), 400, NULL);
    reply_free(reply);
    shell("head -c 30000 /dev/zero | tr '\\0' a > /workspace/s/aaa; echo b >> /workspace/s/aaa");
    reply = post("files/search", "{\"path\":\"s/aaa\",\"pattern\":\"(a+)+$x\"}");
    assert_true(reply->status == 504 || reply->status == 200);
    reply_free(reply);
    reply = post("files/find", "{\"path\":\"/workspace\",\"pattern\":\"**/*.py\"}");
    assert_non_null(
        strstr(reply->body, "\"files\":[\"/workspace/s/d/two.py\",\"/workspace/s/one.py\"]"));
    reply_free(reply);
    reply = post("files/find", "{\"path\":\"nope\",\"pattern\":\"*\"}");
    assert_problem(reply, 404, NULL);
    reply_free(reply);
    reply = post("files/replace",
                 "{\"path\":\"s/one.py\",\"old\":\"def \",\"new\":\"DEF \",\"dryRun\":true}");
    assert_int_equal(cJSON_GetObjectItem(reply->json, "replaced")->valueint, 2);
    reply_free(reply);
    reply =
        post("files/replace", "{\"path\":\"s/one.py\",\"old\":\"def \",\"new\":\"\",\"count\":1}");
    assert_int_equal(cJSON_GetObjectItem(reply->json, "replaced")->valueint, 1);
    reply_free(reply);
    holds("files/s/one.py", "a():\n    pass\n\ndef b(x):\n    return 1\n");
    reply = post("files/replace", "{\"path\":\"s/one.py\",\"old\":\"nope\",\"new\":\"\"}");
    assert_int_equal(cJSON_GetObjectItem(reply->json, "replaced")->valueint, 0);
    reply_free(reply);
}

static void directories_are_listed_page_by_page(void **state)
{
    (void)state;
    shell("rm -rf /workspace/*; mkdir l; cd l; for i in {100..199}; do echo $i > $i; done; mkdir "
          "d; ln -s 100 k; cd ..");
    size_t seen = 0;
    char *cursor = strdup("");
    do {
        char *path =
            textf("files?path=/workspace/l&limit=7%s%s", *cursor ? "&cursor=" : "", cursor);
        struct reply *reply = call("GET", path, "");
        assert_status(reply, 200);
        seen += (size_t)cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "entries"));
        const cJSON *next = cJSON_GetObjectItem(reply->json, "nextCursor");
        free(cursor);
        cursor = cJSON_IsString(next) ? strdup(next->valuestring) : NULL;
        free(path);
        reply_free(reply);
    } while (cursor);
    assert_int_equal(seen, 102);
}

static void archives_go_both_ways(void **state)
{
    (void)state;
    struct tar tar = {0};
    shell("rm -rf /workspace/*");
    tar_add(&tar, "./top/", '5', "");
    tar_add(&tar, "./top/file", '0', "content\n");
    tar_add(&tar, "./top/link", '2', "file");
    tar_add(&tar, "./top/hard", '1', "top/file");
    tar_end(&tar);
    struct reply *reply =
        session_send(get(), "PUT", "/sessions/f/archive?path=up", tar.data, tar.size);
    assert_status(reply, 200);
    reply_free(reply);
    holds("files/up/top/link", "content\n");
    holds("files/up/top/hard", "content\n");
    reply = call("GET", "archive?path=up", "");
    assert_status(reply, 200);
    struct reply *back =
        session_send(get(), "PUT", "/sessions/f/archive?path=again", reply->body, reply->body_size);
    assert_status(back, 200);
    reply_free(back);
    reply_free(reply);
    holds("files/again/top/file", "content\n");
    holds("files/again/top/link", "content\n");
    free(tar.data);
}

static void hostile_archives_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        char type;
        const char *text;
        const char *then; /* the path of a file that is read after it, or NULL */
    } cases[] = {
        {"../out", '0', "x", NULL},
        {"a/../../out", '0', "x", NULL},
        {"/abs", '0', "x", NULL},
        {"..", '0', "x", NULL},
        {"a/..", '5', "", NULL},
        {"a//b", '0', "x", NULL},
        {"l", '2', "/etc", NULL},
        {"l", '2', "..", NULL},
        {"l", '2', "a/../../b", NULL},
        {"d/l", '2', "../../x", NULL},
        {"l", '2', "", NULL},
        {"l", '2', "x", "l/y"},
        {"h", '1', "../../etc/passwd", NULL},
        {"h", '1', "/etc/passwd", NULL},
        {"h", '1', "nope", NULL},
        {"fifo", '6', "", NULL},
        {"chr", '3', "", NULL},
        {"blk", '4', "", NULL},
        {"sparse", 'S', "x", NULL},
        {"odd", 'Z', "", NULL},
        {"a\nb", '0', "x", NULL},
        {"\xff\xfe", '0', "x", NULL},
        {"file", '0', "x", "file/below"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tar tar = {0};
        shell("rm -rf /workspace/*");
        tar_add(&tar, cases[i].name, cases[i].type, cases[i].text);
        if (cases[i].then)
            tar_add(&tar, cases[i].then, '0', "y");
        tar_end(&tar);
        struct reply *reply =
            session_send(get(), "PUT", "/sessions/f/archive?path=in", tar.data, tar.size);
        if (reply->status != 422)
            fail_msg("'%s' (%c): %d %s", cases[i].name, cases[i].type, reply->status, reply->body);
        reply_free(reply);
        for (size_t cut = 1; cut < tar.size; cut += 300) /* with a bad header, or with a good one
                                                          * that is truncated */
            reply_free(session_send(get(), "PUT", "/sessions/f/archive?path=in", tar.data, cut));
        free(tar.data);
    }
    struct reply *reply = put("archive?path=in", "this is no archive");
    assert_problem(reply, 422, "unprocessable");
    reply_free(reply);
}

/* A gigabyte of zeroes, compressed to a megabyte. */
static void an_archive_that_grows_too_much_is_refused(void **state)
{
    (void)state;
    shell("cd /tmp && truncate -s 200M zeroes && tar -czf bomb.tgz zeroes && rm zeroes");
    struct reply *bomb = call("GET", "files//tmp/bomb.tgz", "");
    assert_status(bomb, 200);
    struct reply *reply =
        session_send(get(), "PUT", "/sessions/f/archive?path=bomb", bomb->body, bomb->body_size);
    assert_problem(reply, 413, "too_large");
    reply_free(reply);
    reply_free(bomb);
}

/* ---- inputs ---- */

static void inputs_are_uploaded_once_and_laid_into_sessions(void **state)
{
    (void)state;
    struct tar tree = {0}, single = {0};
    tar_add(&tree, "dir/a", '0', "aa\n");
    tar_add(&tree, "b", '0', "bb\n");
    tar_end(&tree);
    tar_add(&single, "only.txt", '0', "one\n");
    tar_end(&single);
    char *tree_hash = sha256_of(tree.data, tree.size), *hash = sha256_of(single.data, single.size);
    char *tree_path = textf("/inputs/%s", tree_hash), *path = textf("/inputs/%s", hash);
    char *body = textf("{\"id\":\"in\",\"inputs\":{\"t\":\"sha256:%s\",\"s\":\"sha256:%s\"}}",
                       tree_hash, hash);
    struct reply *reply = runner_get(get(), path);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    reply = session_send(get(), "PUT", path, tree.data, tree.size);
    assert_problem(reply, 422, "unprocessable");
    reply_free(reply);
    reply = runner_post(get(), "/sessions", body);
    assert_problem(reply, 400, "invalid_request");
    reply_free(reply);
    for (int i = 0; i < 2; i++) {
        reply = session_send(get(), "PUT", path, single.data, single.size);
        assert_status(reply, i == 0 ? 201 : 200);
        reply_free(reply);
    }
    reply = session_send(get(), "PUT", tree_path, tree.data, tree.size);
    assert_status(reply, 201);
    reply_free(reply);
    assert_status(reply = http_call(get()->base, "HEAD", path, RUNNER_AUTH, NULL), 200);
    reply_free(reply);
    reply = runner_post(get(), "/sessions", body);
    assert_status(reply, 201);
    reply_free(reply);
    struct done *done =
        session_run(get(), "in", "cd input && cat s t/dir/a t/b && touch t/mine", "");
    assert_string_equal(done->out, "one\naa\nbb\n");
    assert_int_equal(done->exit_code, 0);
    done_free(done);
    reply_free(runner_delete(get(), "/sessions/in"));
    free(tree.data), free(single.data), free(tree_hash), free(hash);
    free(tree_path), free(path), free(body);
}

static void names_of_inputs_are_hashes(void **state)
{
    (void)state;
    static const char *const wrong[] = {"x", "..", "ABCDEF", "sha256:", "0000"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char *path = textf("/inputs/%s", wrong[i]);
        struct reply *reply = session_send(get(), "PUT", path, "x", 1);
        assert_problem(reply, 400, "invalid_request");
        reply_free(reply);
        free(path);
    }
}

static void a_cut_upload_leaves_nothing(void **state)
{
    (void)state;
    char *hash = sha256_of("whole", 5), *path = textf("/inputs/%s", hash);
    int fd = http_connect(get()->base);
    char *head =
        textf("PUT %s HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH "Content-Length: 5\r\n\r\nwh", path);
    http_send_text(fd, head);
    close(fd);
    EVENTUALLY(20000, !inputs_have_parts(shared));
    struct reply *reply = session_send(get(), "PUT", path, "whole", 5);
    assert_status(reply, 201);
    reply_free(reply);
    free(hash), free(path), free(head);
}

static void uploads_of_one_hash_at_once_are_one(void **state)
{
    (void)state;
    const size_t size = 32u << 10; /* a socket holds so much for a caller that the runner does not
                                    * read from */
    char *data = calloc(1, size);
    memset(data, 'x', size);
    char *hash = sha256_of(data, size), *path = textf("/inputs/%s", hash);
    char *head = textf("PUT %s HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH "Content-Length: %zu\r\n\r\n",
                       path, size);
    for (int cut = 0; cut < 2; cut++) { /* in the end the first is whole, or truncated */
        int first = http_connect(get()->base), second = http_connect(get()->base);
        http_send_text(first, head);
        http_send(first, data, size / 2);
        EVENTUALLY(20000, inputs_have_parts(shared));
        http_send_text(second, head);
        http_send(second, data, size / 2);
        if (cut)
            close(first);
        else
            http_send(first, data + size / 2, size - size / 2);
        http_send(second, data + size / 2, size - size / 2);
        struct reply *reply = http_read(second, HTTP_DEADLINE_MS);
        assert_status(reply, cut ? 201 : 200);
        reply_free(reply);
        if (!cut) {
            reply = http_read(first, HTTP_DEADLINE_MS);
            assert_status(reply, 201);
            reply_free(reply);
            close(first);
            char *gone = textf("rm %s/inputs/%s", shared->state, hash);
            proc_shell(gone);
            free(gone);
        }
        close(second);
    }
    free(data), free(hash), free(path), free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_written_read_and_deleted),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(conditions_are_kept),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(texts_are_searched_found_and_replaced),
        cmocka_unit_test(directories_are_listed_page_by_page),
        cmocka_unit_test(archives_go_both_ways),
        cmocka_unit_test(hostile_archives_are_refused),
        cmocka_unit_test(an_archive_that_grows_too_much_is_refused),
        cmocka_unit_test(inputs_are_uploaded_once_and_laid_into_sessions),
        cmocka_unit_test(names_of_inputs_are_hashes),
        cmocka_unit_test(a_cut_upload_leaves_nothing),
        cmocka_unit_test(uploads_of_one_hash_at_once_are_one),
    };
    return cmocka_run_group_tests_name("session_files", tests, start, shared_stop);
}
