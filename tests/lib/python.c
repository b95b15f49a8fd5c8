#include "testing.h"

#include "python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *python_json(const char *code, const char *more)
{
    cJSON *text = cJSON_CreateString(code);
    char *quoted = cJSON_PrintUnformatted(text);
    char *json = textf("{\"code\":%s%s%s}", quoted, *more ? "," : "", more);
    free(quoted);
    cJSON_Delete(text);
    return json;
}

struct reply *python_at(const struct runner *runner, const char *path, const char *code,
                        const char *more)
{
    char *json = python_json(code, more);
    struct reply *reply = runner_post(runner, path, json);
    free(json);
    assert_status(reply, 200);
    assert_non_null(reply->json);
    return reply;
}

struct reply *python_run(const struct runner *runner, const char *code, const char *more)
{
    return python_at(runner, "/python", code, more);
}

void python_prints(const struct runner *runner, const char *code, const char *expected)
{
    struct reply *reply = python_run(runner, code, "\"timeout\":120");
    if (strcmp(json_text(reply->json, "status"), "success") != 0 ||
        strcmp(json_text(reply->json, "stdout"), expected) != 0)
        fail_msg("%s\nprinted: %s\nexpected: %s\nanswer: %.2000s", code,
                 json_text(reply->json, "stdout"), expected, reply->body);
    reply_free(reply);
}

void python_needed(const struct runner *runner, const char *library)
{
    struct reply *reply = runner_get(runner, "/");
    assert_status(reply, 200);
    bool there = cJSON_IsTrue(json_at(reply->json, "python.available"));
    const cJSON *one, *libraries = json_at(reply->json, "python.libraries");
    bool found = library == NULL;
    cJSON_ArrayForEach(one, libraries) found |= library && strcmp(one->valuestring, library) == 0;
    reply_free(reply);
    if (!there || !found)
        SKIP_BECAUSE("Python, or its %s, is not installed", library ? library : "headers");
}

size_t python_processes(const struct runner *runner, const char *name, pid_t *pids, size_t max)
{
    pid_t all[512];
    size_t found = 0, count = proc_descendants(runner->pid, all, COUNT(all));
    for (size_t i = 0; i < count && i < COUNT(all); i++) {
        char *path = textf("/proc/%d/comm", (int)all[i]);
        char *comm = read_file(path, NULL);
        if (comm && strncmp(comm, name, strlen(name)) == 0) {
            if (pids && found < max)
                pids[found] = all[i];
            found++;
        }
        free(comm);
        free(path);
    }
    return found;
}
