/*
 * The body of a form: application/x-www-form-urlencoded, as browsers send it.
 *
 * Threads: no shared state. Ownership: results point into the text that was given.
 */
#ifndef HTTP_POSTED_H
#define HTTP_POSTED_H

#include "base/err.h"

#include <stddef.h>

#define POSTED_FIELDS_MAX 16

struct posted {
    struct {
        const char *name;
        const char *value;
    } fields[POSTED_FIELDS_MAX];
    size_t count;
};

/* Splits and decodes text[0..len] (text[len] is a NUL) in place. ERR_INVALID for too many fields, a
 * repeated field, broken %XX, control characters, and bytes that are not UTF-8. */
int posted_parse(char *text, size_t len, struct posted *ret_posted, struct err *err);

/* A field's value, or NULL. */
const char *posted_get(const struct posted *posted, const char *name);

#endif
