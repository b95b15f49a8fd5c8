/*
 * Python over HTTP: POST /python, its sessions, and what /run does with `code`.
 *
 * Threads: the request's worker.
 */
#ifndef API_PYTHON_H
#define API_PYTHON_H

#include "runner/api/handlers.h"
#include "runner/python/python.h"

#define PYTHON_BODY_MAX (10u << 20)

/* The form of the answer. */
enum python_style { PYTHON_STYLE_OWN, PYTHON_STYLE_PYRUNNER };

/* Runs the request and answers, now or later; the caller must not touch `req` again. Takes
 * ownership of the members of `request`. `body` is the request's body, for Idempotency-Key. */
void api_python_answer(struct http_request *req, struct api *api, struct python_request *request,
                       const char *session, enum python_style style, const struct buf *body);

/* pyrunner.c: true when a body of /run is meant for Python: it has `code` and no `prompt`, or no
 * field that only Claude has. */
bool pyrunner_takes(const struct buf *body);
/* Answers it as PyRunner does. */
void pyrunner_run(struct http_request *req, struct api *api, const struct buf *body);
/* Appends an outcome in PyRunner's form. */
void pyrunner_print(const struct python_outcome *outcome, int timeout_s, struct buf *out);

#endif
