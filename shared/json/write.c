#include "base/check.h"
#include "base/clock.h"
#include "base/str.h"
#include "json/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_write(struct json_writer *w, struct buf *out)
{
    REQUIRE(out);
    *w = (struct json_writer){.out = out};
}

static uint64_t top_bit(const struct json_writer *w)
{
    return UINT64_C(1) << (w->depth - 1);
}

/* Writes what comes before a value: a comma where one is due, and the name. */
static void begin_item(struct json_writer *w, const char *name)
{
    if (w->depth > 0) {
        if (w->begun & top_bit(w))
            buf_addc(w->out, ',');
        w->begun |= top_bit(w);
    }
    if (name) {
        buf_addc(w->out, '"');
        str_add_json(w->out, name, strlen(name));
        buf_adds(w->out, "\":");
    }
}

static void open_container(struct json_writer *w, const char *name, bool array)
{
    begin_item(w, name);
    if (w->depth == JSON_DEPTH_MAX) {
        w->out->failed = true;
        return;
    }
    w->depth++;
    w->begun &= ~top_bit(w);
    w->array = array ? w->array | top_bit(w) : w->array & ~top_bit(w);
    buf_addc(w->out, array ? '[' : '{');
}

void json_open_object(struct json_writer *w, const char *name)
{
    open_container(w, name, false);
}

void json_open_array(struct json_writer *w, const char *name)
{
    open_container(w, name, true);
}

void json_close(struct json_writer *w)
{
    REQUIRE(w->depth > 0);
    if (w->depth == 0)
        return;
    buf_addc(w->out, w->array & top_bit(w) ? ']' : '}');
    w->depth--;
}

void json_add_textn(struct json_writer *w, const char *name, const char *text, size_t len)
{
    begin_item(w, name);
    buf_addc(w->out, '"');
    str_add_json(w->out, text, len);
    buf_addc(w->out, '"');
}

void json_add_text(struct json_writer *w, const char *name, const char *text)
{
    if (text)
        json_add_textn(w, name, text, strlen(text));
    else
        json_add_null(w, name);
}

void json_add_int(struct json_writer *w, const char *name, int64_t value)
{
    begin_item(w, name);
    buf_addi(w->out, value);
}

/* 15 digits are enough for every double that has a short form, 17 for every double. Only denormals
 * below DBL_MIN need to try fewer. */
static void add_shortest(struct buf *out, double value)
{
    char text[32];
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_adds(out, text);
}

void json_add_number(struct json_writer *w, const char *name, double value)
{
    if (!isfinite(value)) {
        json_add_null(w, name);
        return;
    }
    begin_item(w, name);
    if (value == trunc(value) && fabs(value) <= (double)JSON_INT_MAX && value != 0)
        buf_addi(w->out, (int64_t)value);
    else
        add_shortest(w->out, value);
}

void json_add_bool(struct json_writer *w, const char *name, bool value)
{
    begin_item(w, name);
    buf_adds(w->out, value ? "true" : "false");
}

void json_add_null(struct json_writer *w, const char *name)
{
    begin_item(w, name);
    buf_adds(w->out, "null");
}

void json_add_raw(struct json_writer *w, const char *name, const char *json, size_t len)
{
    begin_item(w, name);
    buf_add(w->out, json, len);
}

void json_add_given(struct json_writer *w, const char *name, const char *json)
{
    if (json)
        json_add_raw(w, name, json, strlen(json));
}

void json_add_texts(struct json_writer *w, const char *name, const struct strlist *texts)
{
    json_open_array(w, name);
    for (size_t i = 0; i < texts->count; i++)
        json_add_text(w, NULL, texts->items[i]);
    json_close(w);
}

void json_add_time(struct json_writer *w, const char *name, int64_t real_ms)
{
    char text[CLOCK_TEXT_SIZE];
    json_add_text(w, name, real_ms ? clock_format(real_ms, text) : NULL);
}
