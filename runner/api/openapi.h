/*
 * GET /openapi.json: the contract as an OpenAPI 3.1 document. It is made from the table of routes
 * (routes.h), the table of request fields (runner/request), the table of errors (base/err.h) and
 * the schemas of answers (pages/schemas.json), when it is first asked for.
 *
 * Threads: any. Ownership: the caller of openapi_new() frees it by openapi_free().
 */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include "base/err.h"

struct openapi;

/* `version` is borrowed. NULL when memory ran out. */
struct openapi *openapi_new(const char *version);
void openapi_free(struct openapi *openapi);

/* The document, which `openapi` owns; *ret_etag (unless NULL) gets its tag. NULL with *err. */
const char *openapi_text(struct openapi *openapi, const char **ret_etag, struct err *err);

#endif
