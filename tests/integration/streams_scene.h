/* Streams of one runner's tasks. */
#ifndef TESTS_STREAMS_SCENE_H
#define TESTS_STREAMS_SCENE_H

#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *runner;
static const char *const settings[] = {"KEEPALIVE_EVERY_MS", "300", NULL};

static inline struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

static inline struct stream *run(const char *base, const char *prompt, const char *more)
{
    char *json = prompt_json(prompt, more);
    struct stream *stream = stream_open(base, "POST", "/run", RUNNER_AUTH, json);
    free(json);
    return stream;
}

static inline struct stream *follow(const char *base, const char *id, const char *headers)
{
    char *path = textf("/tasks/%s/events", id);
    char *all = textf("%s%s", RUNNER_AUTH, headers);
    struct stream *stream = stream_open(base, "GET", path, all, NULL);
    free(all);
    free(path);
    return stream;
}

/* The id of the task that the stream follows. */
static inline char *task_of(struct stream *stream)
{
    stream_until(stream, "\"taskId\":\"", 20000);
    stream_until(stream, "\n\n", 20000);
    const char *id = strstr(stream->body, "\"taskId\":\"") + strlen("\"taskId\":\"");
    return strndup(id, strcspn(id, "\""));
}

/* Removes the heartbeats, which may stand between any two events. */
static inline void drop_heartbeats(char *text)
{
    for (char *at; (at = strstr(text, "\n\n:\n\n"));)
        memmove(at + 2, at + 5, strlen(at + 5) + 1);
    if (strncmp(text, ":\n\n", 3) == 0)
        memmove(text, text + 3, strlen(text + 3) + 1);
}

/* The offset after the last whole event in text[0..size), and that event's id. */
static inline size_t whole_part(const char *text, size_t size, long *ret_id)
{
    size_t end = size;
    while (end > 1 && !(text[end - 1] == '\n' && text[end - 2] == '\n'))
        end--;
    *ret_id = -1;
    if (end <= 1)
        return 0;
    size_t from = end - 2;
    while (from > 0 && !(text[from] == '\n' && text[from - 1] == '\n'))
        from--;
    assert_int_equal(sscanf(text + (from ? from + 1 : 0), "id: %ld", ret_id), 1);
    return end;
}

#endif
