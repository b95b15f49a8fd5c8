/* Objects in the stand-in's bucket. */
#ifndef TESTS_GOOGLE_OBJECTS_SCENE_H
#define TESTS_GOOGLE_OBJECTS_SCENE_H

#include "cloud.h"
#include "testing.h"

#include <stdlib.h>

#define BEARER "Authorization: Bearer " CLOUD_TOKEN "\r\n"
#define OBJECTS "/storage/v1/b/" CLOUD_BUCKET "/o"
#define UPLOAD "/upload/storage/v1/b/" CLOUD_BUCKET "/o"
#define HELLO "hello world\n"

static struct cloud *cloud;

static inline int start(void **state)
{
    (void)state;
    cloud = cloud_new(NULL, NULL);
    cloud_furnish(cloud, "a secret key");
    return 0;
}

static inline int stop(void **state)
{
    (void)state;
    cloud_free(cloud);
    return 0;
}

/* ---- helpers ---- */

static inline struct reply *put(const char *name, const char *query, const char *headers,
                                const char *text)
{
    char *path = textf(UPLOAD "?uploadType=media&name=%s%s", name, query);
    char *all = textf(BEARER "%s", headers);
    struct reply *reply = http_call(cloud->base, "POST", path, all, text);
    free(all);
    free(path);
    return reply;
}

/* The object's generation. */
static inline long long put_hello(const char *name)
{
    struct reply *reply = put(name, "", "Content-Type: text/plain\r\n", HELLO);
    assert_status(reply, 200);
    long long generation = strtoll(json_text(reply->json, "generation"), NULL, 10);
    reply_free(reply);
    return generation;
}

static inline struct reply *get_with(const char *name, const char *query, const char *headers)
{
    char *path = textf(OBJECTS "/%s%s", name, query), *all = textf(BEARER "%s", headers);
    struct reply *reply = http_call(cloud->base, "GET", path, all, NULL);
    free(all);
    free(path);
    return reply;
}

static inline void assert_header(const struct reply *reply, const char *name, const char *expected)
{
    char value[512] = "";
    reply_header(reply, name, value, sizeof value);
    assert_string_equal(value, expected);
}

#endif
