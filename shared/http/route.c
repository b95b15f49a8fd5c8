#include "http/route.h"

#include <string.h>

enum rank { RANK_EXACT, RANK_PARTS, RANK_REST, RANK_NONE };

/* Reads one "{name}" or "{name...}" of the pattern and its value in the path. */
static bool take_param(const char **pattern, const char **path, struct route_match *match,
                       enum rank *rank)
{
    const char *name = *pattern + 1;
    size_t name_len = strcspn(name, "}.");
    size_t value_len = strcspn(*path, "/");
    *pattern = name + name_len;
    if (**pattern == '.') {
        *rank = RANK_REST;
        value_len = strlen(*path);
        *pattern += 3;
    } else if (*rank == RANK_EXACT) {
        *rank = RANK_PARTS;
    }
    if (value_len == 0 || match->param_count == ROUTE_PARAMS_MAX)
        return false;
    match->params[match->param_count].name = name;
    match->params[match->param_count].name_len = name_len;
    match->params[match->param_count].value = *path;
    match->params[match->param_count++].value_len = value_len;
    *path += value_len;
    *pattern += 1;
    return true;
}

static enum rank fit(const char *pattern, const char *path, struct route_match *match)
{
    enum rank rank = RANK_EXACT;
    match->param_count = 0;
    while (*pattern) {
        if (*pattern == '{') {
            if (!take_param(&pattern, &path, match, &rank))
                return RANK_NONE;
        } else if (*pattern++ != *path++) {
            return RANK_NONE;
        }
    }
    return *path ? RANK_NONE : rank;
}

void route_find(const struct http_route *routes, size_t count, const char *method, const char *path,
                struct route_match *ret_match)
{
    enum rank best = RANK_NONE;
    ret_match->route = ret_match->pattern = NULL;
    ret_match->param_count = 0;
    for (size_t i = 0; i < count && best != RANK_EXACT; i++) {
        struct route_match match = {0};
        enum rank rank = fit(routes[i].path, path, &match);
        if (rank < best) {
            best = rank;
            *ret_match = match;
            ret_match->pattern = &routes[i];
        }
    }
    if (!ret_match->pattern)
        return;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t i = 0; i < count && !ret_match->route; i++)
        if (strcmp(routes[i].path, ret_match->pattern->path) == 0 &&
            strcmp(routes[i].method, method) == 0)
            ret_match->route = &routes[i];
}

void route_add_allow(const struct http_route *routes, size_t count, const char *pattern,
                     struct buf *out)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (size_t m = 0; m < COUNT_OF(methods); m++) {
        bool served = false;
        for (size_t i = 0; i < count; i++)
            served |= strcmp(routes[i].method, methods[m]) == 0 &&
                      (strcmp(pattern, "*") == 0 || strcmp(routes[i].path, pattern) == 0);
        if (served)
            buf_addf(out, "%s%s, ", methods[m], m == 0 ? ", HEAD" : "");
    }
    buf_adds(out, "OPTIONS");
}
