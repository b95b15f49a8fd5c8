#include "base/check.h"
#include "base/str.h"
#include "runner/request/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD_SHOWN 80 /* bytes that are shown of a name that a caller chose */

void request_errors_done(struct request_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        free(errors->items[i].field);
        free(errors->items[i].message);
    }
    free(errors->items);
    *errors = (struct request_errors){0};
}

size_t request_cut(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);
    if (len <= max)
        return len;
    while (--len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
        ;
    return len;
}

static char *shown(const char *field)
{
    char *copy = NULL;
    size_t len = request_cut(field, FIELD_SHOWN);
    if (field[len] == '\0')
        return strdup(field);
    return asprintf(&copy, "%.*s\xe2\x80\xa6", (int)len, field) < 0 ? NULL : copy;
}

void request_errors_add(struct request_errors *errors, enum err_code code, const char *field,
                        const char *message)
{
    REQUIRE(code != ERR_NONE && field && message);
    if (!errors->items)
        errors->items = calloc(REQUEST_ERRORS_MAX, sizeof(*errors->items));
    if (!errors->items || errors->count == REQUEST_ERRORS_MAX) {
        errors->more++;
        return;
    }
    struct request_error *error = &errors->items[errors->count];
    error->code = code;
    error->field = shown(field);
    error->message = str_copy(message, strlen(message));
    if (error->field && error->message) {
        errors->count++;
        return;
    }
    free(error->field);
    free(error->message);
    errors->more++;
}

void request_errors_print(const struct request_errors *errors, struct buf *out)
{
    struct json_writer w;
    if (errors->count == 0)
        return;
    buf_adds(out, ",\"errors\":");
    json_write(&w, out);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < errors->count; i++) {
        const struct request_error *error = &errors->items[i];
        json_open_object(&w, NULL);
        json_add_text(&w, "field", error->field);
        json_add_text(&w, "message", error->message);
        if (error->code != ERR_INVALID)
            json_add_text(&w, "code", err_wire(error->code));
        json_close(&w);
    }
    json_close(&w);
}
