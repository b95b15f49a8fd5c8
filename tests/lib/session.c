#include "session.h"

#include "testing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void session_make(const struct runner *runner, const char *id)
{
    char *body = textf("{\"id\":\"%s\"}", id);
    struct reply *reply = runner_post(runner, "/sessions", body);
    assert_status(reply, 201);
    reply_free(reply);
    free(body);
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_true(cJSON_IsString(member));
    return member->valuestring;
}

static const cJSON *member_of(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!member)
        fail_msg("the answer has no '%s'", name);
    return member;
}

struct done *session_run(const struct runner *runner, const char *id, const char *command,
                         const char *more)
{
    cJSON *text = cJSON_CreateString(command);
    char *quoted = cJSON_PrintUnformatted(text);
    char *body = textf("{\"command\":%s%s%s}", quoted, *more ? "," : "", more);
    char *path = textf("/sessions/%s/exec", id);
    struct done *done = calloc(1, sizeof(*done));
    assert_non_null(done);
    done->reply = runner_post(runner, path, body);
    assert_status(done->reply, 200);
    const cJSON *json = done->reply->json;
    done->exit_code = member_of(json, "exit_code")->valueint;
    done->out = text_of(json, "stdout");
    done->err = text_of(json, "stderr");
    done->cwd = text_of(json, "cwd");
    assert_string_equal(text_of(json, "session_id"), id);
    text_of(json, "shell");
    done->pid = member_of(json, "background_pid")->valueint;
    assert_true(cJSON_IsNumber(member_of(json, "duration_ms")));
    done->truncated = cJSON_IsTrue(member_of(json, "truncated"));
    done->timed_out = cJSON_IsTrue(member_of(json, "timed_out"));
    cJSON_Delete(text);
    free(quoted);
    free(body);
    free(path);
    return done;
}

bool session_is_busy(const struct runner *runner, const char *id)
{
    char *path = textf("/sessions/%s/shells/default", id);
    struct reply *reply = runner_get(runner, path);
    bool busy = reply->status == 200 && cJSON_IsTrue(json_at(reply->json, "running"));
    reply_free(reply);
    free(path);
    return busy;
}

void done_free(struct done *done)
{
    reply_free(done->reply);
    free(done);
}

struct reply *session_send(const struct runner *runner, const char *method, const char *path,
                           const void *body, size_t size)
{
    int fd = http_connect(runner->base);
    char *head = textf("%s %s HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                       "Connection: close\r\nContent-Length: %zu\r\n\r\n",
                       method, path, size);
    assert_true(http_send_text(fd, head));
    http_send(fd, body, size); /* the runner may refuse before it has read everything */
    struct reply *reply = http_read(fd, HTTP_DEADLINE_MS);
    close(fd);
    free(head);
    return reply;
}

static void tar_block(struct tar *tar, const void *data, size_t size)
{
    size_t whole = (size + 511) / 512 * 512;
    tar->data = realloc(tar->data, tar->size + whole + 1);
    assert_non_null(tar->data);
    memset(tar->data + tar->size, 0, whole);
    if (size > 0)
        memcpy(tar->data + tar->size, data, size);
    tar->size += whole;
}

void tar_add(struct tar *tar, const char *name, char type, const char *text)
{
    char head[512] = {0};
    unsigned sum = 0;
    bool link = type == '1' || type == '2';
    size_t size = link || type == '5' ? 0 : strlen(text);
    snprintf(head, 100, "%s", name);
    snprintf(head + 100, 8, "%07o", 0644);
    snprintf(head + 124, 12, "%011zo", size);
    snprintf(head + 136, 12, "%011o", 0);
    head[156] = type;
    if (link)
        snprintf(head + 157, 100, "%s", text);
    memcpy(head + 257, "ustar\00000", 8);
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(head); i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
    tar_block(tar, head, sizeof(head));
    if (size > 0)
        tar_block(tar, text, size);
}

void tar_end(struct tar *tar)
{
    const char none[1024] = {0};
    tar_block(tar, none, sizeof(none));
}

char *sha256_of(const void *data, size_t size)
{
    char *dir = tmp_dir_new(), *file = textf("%s/data", dir), *out = textf("%s/hash", dir);
    write_bytes(file, data, size);
    char *script = textf("sha256sum %s | cut -c1-64 | tr -d '\\n' > %s", file, out);
    proc_shell(script);
    char *hash = read_file(out, NULL);
    tmp_dir_free(dir);
    free(file), free(out), free(script);
    return hash;
}

char *input_upload(const struct runner *runner, const void *data, size_t size)
{
    char *hash = sha256_of(data, size), *path = textf("/inputs/%s", hash);
    struct reply *reply = session_send(runner, "PUT", path, data, size);
    if (reply->status != 200)
        assert_status(reply, 201);
    char *name = textf("sha256:%s", hash);
    reply_free(reply);
    free(hash);
    free(path);
    return name;
}

bool inputs_have_parts(const struct runner *runner)
{
    bool some = false;
    char *path = textf("%s/inputs", runner->state);
    DIR *list = opendir(path);
    for (struct dirent *entry; list && (entry = readdir(list));)
        some |= strncmp(entry->d_name, ".part", 5) == 0;
    if (list)
        closedir(list);
    free(path);
    return some;
}
