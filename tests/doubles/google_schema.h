/*
 * What Google's methods take: routes, query parameters and messages, out of Google's own
 * descriptions, and requests held against them.
 *
 * A method is a line "ID METHOD PATH MESSAGE NAME=TYPE…", `*` being a segment of the path, MESSAGE
 * "-" when there is no body, the rest its query parameters. A message is a line "SERVICE.NAME
 * FIELD=TYPE…". A TYPE is s (string), b (boolean), i (integer), l (64 bits: a string of digits),
 * n (number), y (base64), t (time), d (duration), f (field mask), * (anything), (A|B) (one of),
 * [TYPE], {TYPE} (map), or the name of another message of that service; `!` before it: read-only.
 *
 * Threads: google_schema_init() first, then any.
 */
#ifndef DOUBLES_GOOGLE_SCHEMA_H
#define DOUBLES_GOOGLE_SCHEMA_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

extern const char *const google_methods[], *const google_schemas[]; /* google_tables.c */

enum { GOOGLE_SEGMENTS_MAX = 12, GOOGLE_FAULT_MAX = 512 };

struct google_method {
    char *id;   /* "run.projects.locations.jobs.get" */
    char *http; /* "GET" */
    char *path; /* "/v2/projects/…" */
    char *message;
    char **params; /* "NAME=TYPE", ends with NULL */
    char *line;    /* private */
};

/* Reads both tables; then more of them, where a service's are written by hand. */
void google_schema_init(void);
void google_schema_add(const char *const *methods, const char *const *schemas);

/* The method of a request, or NULL; its `*` decoded into args (the caller frees them). */
const struct google_method *google_route(const char *http, const char *path,
                                         char *args[GOOGLE_SEGMENTS_MAX], size_t *ret_count);

/* True, and what is wrong in Google's words, when the query or the body is not what is taken. */
bool google_query_fault(const struct google_method *method, const char *query,
                        char fault[GOOGLE_FAULT_MAX]);
bool google_body_fault(const struct google_method *method, const cJSON *body,
                       char fault[GOOGLE_FAULT_MAX]);

/* A parameter of the query, decoded, in fresh memory; NULL when it is not there. */
char *google_param(const char *query, const char *name);
/* Percent signs decoded, in fresh memory; plus is a space only when `form`. NULL: malformed. */
char *google_decode(const char *text, size_t len, bool form);

#endif
