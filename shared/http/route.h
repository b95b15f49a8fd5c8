/*
 * The router: which row of a table serves a method and a path.
 *
 * A row without parameters wins over one with, one with a last "{name...}" comes last; among equals
 * the earlier one wins. Only rows with the winner's path compete for the method.
 *
 * Threads: no shared state. Ownership: a match points into the table and the path.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include "base/buf.h"
#include "http/http.h"

#define ROUTE_PARAMS_MAX 8

struct route_match {
    const struct http_route *route;   /* NULL: none serves this */
    const struct http_route *pattern; /* a row whose path fits, or NULL */
    size_t param_count;
    struct {
        const char *name; /* in the table, ended by '}' or '.' */
        const char *value;
        size_t name_len, value_len;
    } params[ROUTE_PARAMS_MAX];
};

/* Finds the row that serves the method and path. HEAD is served by GET's row. Values point into
 * path. */
void route_find(const struct http_route *routes, size_t count, const char *method, const char *path,
                struct route_match *ret_match);

/* Appends "GET, HEAD, OPTIONS": the methods of a path, or of the whole table for "*". */
void route_add_allow(const struct http_route *routes, size_t count, const char *pattern,
                     struct buf *out);

#endif
