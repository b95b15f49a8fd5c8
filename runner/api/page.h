/*
 * Pages for browsers: templates with values, cookies, and the headers that keep a page private.
 * Private to runner/api.
 *
 * Threads: no shared state. Ownership: nothing is allocated except by buffers that are passed in.
 */
#ifndef API_PAGE_H
#define API_PAGE_H

#include "base/buf.h"
#include "http/http.h"

#define PAGE_MAX (256u << 10)

/* {{name}} of a template is replaced by `text`, escaped, or by `part`, which page_fill() has
 * made. */
struct page_value {
    const char *name;
    const char *text;
    const struct buf *part;
};

/* Appends the template with its values; a name without a value is removed. */
void page_fill(const char *template, const struct page_value *values, size_t count,
               struct buf *out);
#define PAGE_FILL(template, out, ...)                               \
    page_fill((template), (const struct page_value[]){__VA_ARGS__}, \
              sizeof((const struct page_value[]){__VA_ARGS__}) / sizeof(struct page_value), (out))

void page_send(struct http_request *req, int status, const char *type, const struct buf *body);
/* Answers 303 to one of our paths (POST, redirect, GET). */
void page_redirect(struct http_request *req, const char *path);

/* A cookie's value (at most size - 1 bytes), or "". */
void page_cookie(const struct http_request *req, const char *name, char *value, size_t size);
/* Sets a cookie for the paths below `path`; the value "" removes it. */
void page_set_cookie(struct http_request *req, const char *path, const char *name,
                     const char *value, int seconds);

#endif
