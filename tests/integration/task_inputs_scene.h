/* A runner whose tasks get inputs, and the archives that become them. */
#ifndef TESTS_TASK_INPUTS_SCENE_H
#define TESTS_TASK_INPUTS_SCENE_H

#include "githost.h"
#include "session.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *runner;

static const char *const settings[] = {
    "KILL_GRACE_SECONDS", "1", "GIT_ALLOW", "file:/tmp", "INPUTS_MAX_MB", "40",
    "DISK_MIN_FREE_MB",   "1", NULL};

static inline struct runner *make(const char *name, const char *value)
{
    struct runner *made = runner_new_with(settings);
    unlink(made->cli);
    write_file(made->cli, githost_cli, 0755);
    if (name)
        runner_set(made, name, value);
    runner_start(made);
    return made;
}

static inline struct runner *get(void)
{
    return runner ? runner : (runner = make(NULL, NULL));
}

static inline int stop(void **state)
{
    (void)state;
    runner_free(runner);
    runner = NULL;
    return 0;
}

/* Posts {"FIELD":"TEXT", more} with the text as JSON. */
static inline struct reply *post(const struct runner *to, const char *path, const char *field,
                                 const char *text, const char *more)
{
    cJSON *json = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(json);
    char *body = textf("{\"%s\":%s%s%s}", field, quoted, *more ? "," : "", more);
    struct reply *reply = runner_post(to, path, body);
    cJSON_Delete(json);
    free(quoted);
    free(body);
    return reply;
}

static inline struct reply *command(const struct runner *to, const char *text, const char *more)
{
    return post(to, "/exec", "command", text, more);
}

/* Returns the output of that path; "" when there is none. The caller frees it. */
static inline char *output(const struct runner *to, const char *id, const char *path)
{
    char *url = textf("/tasks/%s/outputs%s%s", id, *path ? "/" : "", path);
    struct reply *reply = runner_get(to, url);
    char *body = strdup(reply->status == 200 ? reply->body : "");
    reply_free(reply);
    free(url);
    return body;
}

static inline void has_output(const struct runner *to, const char *id, const char *path,
                              const char *text)
{
    char *body = output(to, id, path);
    assert_string_equal(body, text);
    free(body);
}

#endif
