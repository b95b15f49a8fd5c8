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

/* How an outcome is told. */
enum python_style { PYTHON_STYLE_OWN, PYTHON_STYLE_PYRUNNER };

/* Runs it and answers, now or later: the request must not be touched again. Takes the request's
 * fields over. `body` is what came, for Idempotency-Key. */
void api_python_answer(struct http_request *req, struct api *api, struct python_request *request,
                       const char *session, enum python_style style, const struct buf *body);

/* pyrunner.c: true when a body of /run is Python's: it has `code` and no `prompt`, or nothing that
 * speaks for Claude. */
bool pyrunner_takes(const struct buf *body);
/* Answers it as PyRunner did. */
void pyrunner_run(struct http_request *req, struct api *api, const struct buf *body);
/* Appends an outcome as PyRunner told it. */
void pyrunner_print(const struct python_outcome *outcome, int timeout_s, struct buf *out);

#endif
