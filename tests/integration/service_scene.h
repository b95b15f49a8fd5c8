/* Two instances of the service at Google, over one bucket. */
#ifndef TESTS_SERVICE_SCENE_H
#define TESTS_SERVICE_SCENE_H

#include "overflow_scene.h"

static struct runner *other; /* the second instance; `runner` is the first */

static inline struct runner *instance_new(void)
{
    struct runner *one = runner_new();
    cloud_use(cloud, one);
    runner_set(one, "CLOUD_SERVICE", "on");
    runner_set(one, "CLOUD_RESOLVE_SECONDS", "6");
    return one;
}

static inline int set_up_service(void **state)
{
    set_up(state);
    runner_set(runner, "CLOUD_SERVICE", "on");
    other = instance_new();
    return 0;
}

static inline int tear_down_service(void **state)
{
    runner_free(other);
    return tear_down(state);
}

static inline char *submit_to(struct runner *one, const char *id, const char *prompt,
                              const char *more)
{
    char *fields = textf("\"taskId\":\"%s\"%s%s", id, *more ? "," : "", more);
    char *json = prompt_json(prompt, fields);
    struct reply *reply = runner_post(one, "/run-async", json);
    assert_status(reply, 202);
    char *text = strdup(json_text(reply->json, "taskId"));
    reply_free(reply);
    free(json);
    free(fields);
    return text;
}

static inline void assert_result(struct runner *one, const char *id, const char *status)
{
    runner_await(one, id, status, END_MS);
    struct reply *reply = runner_result(one, id);
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", status);
    reply_free(reply);
}

static inline bool is_claimed(const char *id)
{
    return object_is_there(id, "claim-1.json");
}

#define SERVICE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_service, tear_down_service)

#endif
