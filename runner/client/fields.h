/*
 * Makes the body of a request from the options of a command line.
 *
 * Threads: one.
 */
#ifndef CLIENT_FIELDS_H
#define CLIENT_FIELDS_H

#include "base/err.h"
#include "runner/client/client.h"
#include "json/json.h"

/* Writes the given fields as members of the open object. A value "@FILE" of a JSON field, a secret
 * or a prompt means that file's content. ERR_INVALID names the option. */
int fields_write(const struct call *call, struct json_writer *w, struct err *err);

/* Reads "90", "90s", "10m", "2h" or "500ms" as milliseconds, at least one. */
int fields_duration(const char *text, int64_t *ret_ms, struct err *err);

/* Appends the content of a file, "-" for standard input. */
int fields_read_file(const char *path, struct buf *out, struct err *err);

#endif
