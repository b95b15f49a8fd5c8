/* Decodes a body, for the tests of requests. */
#ifndef TESTS_REQUEST_SCENE_H
#define TESTS_REQUEST_SCENE_H

#include "runner/request/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct request_defaults defaults = {.where = REQUEST_CLAUDE | REQUEST_PYTHON,
                                                 .timeout_minutes = 55};

struct decoded {
    struct task_request *request;
    struct request_errors errors;
    struct err err;
};

static inline void auto_decoded(struct decoded *d)
{
    task_request_free(d->request);
    request_errors_done(&d->errors);
}

static inline struct decoded decode_with(const char *body, const struct request_defaults *with)
{
    struct decoded d = {0};
    d.request = task_request_decode(body, strlen(body), with, &d.errors, &d.err);
    return d;
}

static inline struct decoded decode(const char *body)
{
    return decode_with(body, &defaults);
}

#endif
