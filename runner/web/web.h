/*
 * The console's files, which are part of the program.
 *
 * Threads: no shared state. Ownership: static.
 */
#ifndef WEB_WEB_H
#define WEB_WEB_H

#include <stddef.h>

struct web_file {
    const char *name; /* "app.js", "lib/purify.js" */
    const char *data, *end;
    const char *etag; /* with its quotes */
};

extern const struct web_file web_files[];
extern const size_t web_file_count;

/* The file of that name, or NULL. */
const struct web_file *web_find(const char *name);

/* Its media type, with the charset. */
const char *web_type(const struct web_file *file);

#endif
