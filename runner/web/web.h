/*
 * The console's files, which are part of the program.
 *
 * Threads: no shared state. Ownership: static.
 */
#ifndef WEB_WEB_H
#define WEB_WEB_H

#include <stdbool.h>
#include <stddef.h>

struct web_file {
    const char *name; /* "app.js", "lib/purify.js" */
    const char *data, *end;
    const char *etag; /* with its quotes */
};

extern const struct web_file web_files[];
extern const size_t web_file_count;
extern const char web_version[]; /* 16 hex digits of all files' contents */

/* The file that the path names, or NULL: "app.js", or "VERSION/app.js" with the version of these
 * files, and with no other. *ret_versioned: with a version, so that this path never leads to
 * anything else. */
const struct web_file *web_find(const char *path, bool *ret_versioned);

/* Its media type, with the charset. */
const char *web_type(const struct web_file *file);

#endif
