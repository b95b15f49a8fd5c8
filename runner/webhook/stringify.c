#include "runner/webhook/stringify.h"

#include "base/str.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 17
#define INDEX_DIGITS_MAX 10
#define INDEX_MAX 4294967294u /* 2^32 - 2: the largest index of an array */

/* --- numbers ------------------------------------------------------------------------------- */

/* The shortest digits, without a point, and the power of ten of a point before the first digit. */
static void shortest(double number, char digits[DIGITS_MAX + 1], int *ret_point)
{
    char text[40];
    for (int precision = 0; precision < DIGITS_MAX; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, number);
        if (strtod(text, NULL) == number)
            break;
    }
    const char *mark = strchr(text, 'e');
    size_t n = 0;
    for (const char *at = text; at < mark && n < DIGITS_MAX; at++)
        if (*at != '.')
            digits[n++] = *at;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
    *ret_point = (int)strtol(mark + 1, NULL, 10) + 1;
}

static void add_zeros(int count, struct buf *out)
{
    for (int i = 0; i < count; i++)
        buf_addc(out, '0');
}

void stringify_number(double number, struct buf *out)
{
    char digits[DIGITS_MAX + 1];
    int point;
    if (number == 0) { /* Also for -0. */
        buf_addc(out, '0');
        return;
    }
    if (number < 0)
        buf_addc(out, '-');
    shortest(number < 0 ? -number : number, digits, &point);
    int count = (int)strlen(digits);
    if (point >= count && point <= 21) {
        buf_adds(out, digits);
        add_zeros(point - count, out);
    } else if (point > 0 && point <= 21) {
        buf_addf(out, "%.*s.%s", point, digits, digits + point);
    } else if (point > -6 && point <= 0) {
        buf_adds(out, "0.");
        add_zeros(-point, out);
        buf_adds(out, digits);
    } else {
        buf_addf(out, "%c%s%se%+d", digits[0], count > 1 ? "." : "", digits + 1, point - 1);
    }
}

/* --- everything else ----------------------------------------------------------------------- */

/* Adds text. str_add_json() escapes DEL, but JavaScript does not. */
static void add_text(const char *text, struct buf *out)
{
    buf_addc(out, '"');
    for (;;) {
        size_t n = strcspn(text, "\x7f");
        str_add_json(out, text, n);
        if (text[n] == '\0')
            break;
        buf_addc(out, '\x7f');
        text += n + 1;
    }
    buf_addc(out, '"');
}

/* True for a name that JavaScript treats as an index: digits in the form in which a number is
 * printed. */
static bool is_index(const char *name, unsigned *ret_index)
{
    size_t len = strlen(name);
    if (len == 0 || len > INDEX_DIGITS_MAX || strspn(name, "0123456789") != len ||
        (name[0] == '0' && len > 1))
        return false;
    unsigned long long value = strtoull(name, NULL, 10);
    *ret_index = (unsigned)value;
    return value <= INDEX_MAX;
}

static void add_value(const struct json *node, struct buf *out);

static void add_member(const struct json *child, bool first, struct buf *out)
{
    if (!first)
        buf_addc(out, ',');
    add_text(json_name(child), out);
    buf_addc(out, ':');
    add_value(child, out);
}

struct indexed {
    unsigned index;
    const struct json *child;
};

static int by_index(const void *a, const void *b)
{
    const struct indexed *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void add_object(const struct json *node, struct buf *out)
{
    unsigned index;
    size_t count = 0, n = 0;
    bool first = true;
    for (const struct json *at = json_first(node); at; at = json_next(at))
        count += is_index(json_name(at), &index);
    struct indexed *indexed = count > 0 ? calloc(count, sizeof(*indexed)) : NULL;
    if (count > 0 && !indexed) {
        out->failed = true;
        return;
    }
    for (const struct json *at = json_first(node); at && n < count; at = json_next(at))
        if (is_index(json_name(at), &index))
            indexed[n++] = (struct indexed){index, at};
    if (count > 1)
        qsort(indexed, count, sizeof(*indexed), by_index);
    buf_addc(out, '{');
    for (size_t i = 0; i < count; i++, first = false)
        add_member(indexed[i].child, first, out);
    for (const struct json *at = json_first(node); at; at = json_next(at)) {
        if (count > 0 && is_index(json_name(at), &index))
            continue;
        add_member(at, first, out);
        first = false;
    }
    buf_addc(out, '}');
    free(indexed);
}

static void add_array(const struct json *node, struct buf *out)
{
    buf_addc(out, '[');
    for (const struct json *at = json_first(node); at; at = json_next(at)) {
        if (at != json_first(node))
            buf_addc(out, ',');
        add_value(at, out);
    }
    buf_addc(out, ']');
}

/* JSON is at most 64 levels deep (json_check). */
static void add_value(const struct json *node, struct buf *out)
{
    double number = 0;
    bool flag = false;
    switch (json_type(node)) {
    case JSON_NULL:
        buf_adds(out, "null");
        return;
    case JSON_BOOL:
        json_bool(node, &flag);
        buf_adds(out, flag ? "true" : "false");
        return;
    case JSON_NUMBER:
        json_number(node, &number);
        stringify_number(number, out);
        return;
    case JSON_STRING:
        add_text(json_text(node), out);
        return;
    case JSON_ARRAY:
        add_array(node, out);
        return;
    case JSON_OBJECT:
        add_object(node, out);
        return;
    }
}

int stringify(const char *text, size_t len, struct buf *out, struct err *err)
{
    AUTO(json) struct json *root = json_parse(text, len, err);
    if (!root)
        return -1;
    add_value(root, out);
    return buf_check(out, "the webhook", err);
}
