#include "base/check.h"
#include "json/arena.h"
#include "json/json.h"
#include "json/names.h"
#include "json/scan.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* struct json is cJSON under another name; only this file knows that. */
static const cJSON *item_of(const struct json *node)
{
    return (const cJSON *)(const void *)node;
}

static const struct json *node_of(const cJSON *item)
{
    return (const struct json *)(const void *)item;
}

/* The end of the string whose inside begins at p: the byte after its closing quote. */
static const char *string_end(const char *p)
{
    for (; *p != '"'; p++)
        p += *p == '\\';
    return p + 1;
}

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Copies checked text and shortens its over-long numbers to a short form of the same double: cJSON
 * reads 63 bytes of a number and then fails on the rest. */
static void shorten_numbers(const char *text, size_t len, struct buf *out)
{
    const char *end = text + len;
    AUTO(buf) struct buf number = BUF_INIT(len);
    for (const char *p = text; p < end;) {
        const char *begin = p;
        if (*p == '"') {
            p = string_end(p + 1);
        } else if (*p != '-' && (*p < '0' || *p > '9')) {
            p++;
        } else {
            while (p < end && is_number_char(*p))
                p++;
            if (p - begin > SCAN_NUMBER_MAX) {
                buf_clear(&number);
                buf_add(&number, begin, (size_t)(p - begin));
                buf_addf(out, "%.17g", strtod(buf_str(&number), NULL));
                continue;
            }
        }
        buf_add(out, begin, (size_t)(p - begin));
    }
}

#define NUMBER_COPY 256

/* The most memory that cJSON takes for a checked text: an item for each value, for each string
 * (values and names) the bytes inside its quotes with a NUL, rounded up, and a copy of the number
 * that is being read. */
static size_t tree_size(const struct scan_facts *facts, size_t len)
{
    const size_t item = (sizeof(cJSON) + 15) & ~(size_t)15;
    return facts->values * item + facts->strings * 32 + len + NUMBER_COPY;
}

/* Builds the tree of checked text in an arena of its own. */
static cJSON *build(const char *text, size_t len, const struct scan_facts *facts)
{
    struct arena *arena = arena_new(tree_size(facts, len));
    if (!arena)
        return NULL;
    arena_use(arena);
    cJSON *root = cJSON_ParseWithLength(text, len);
    arena_use(NULL);
    if (root && (void *)root == arena_first(arena))
        return root;
    arena_free(arena); /* Memory ran out, or this cJSON does not allocate the root first. */
    return NULL;
}

struct json *json_parse_within(const char *text, size_t len, size_t max_values, struct err *err)
{
    struct scan_facts facts;
    AUTO(buf) struct buf shorter = BUF_INIT(len);
    if (scan_text(text, len, max_values, &facts, err))
        return NULL;
    if (facts.long_numbers > 0) {
        shorten_numbers(text, len, &shorter);
        text = buf_str(&shorter);
        len = shorter.len;
    }
    cJSON *root = buf_ok(&shorter) ? build(text, len, &facts) : NULL;
    if (!root)
        err_set(err, ERR_INTERNAL, "JSON: out of memory");
    return (struct json *)(void *)root;
}

struct json *json_parse(const char *text, size_t len, struct err *err)
{
    return json_parse_within(text, len, SIZE_MAX, err);
}

void json_free(struct json *root)
{
    if (root)
        arena_free(arena_of(root));
}

enum json_type json_type(const struct json *node)
{
    switch (item_of(node)->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        return JSON_BOOL;
    case cJSON_Number:
        return JSON_NUMBER;
    case cJSON_String:
        return JSON_STRING;
    case cJSON_Array:
        return JSON_ARRAY;
    case cJSON_Object:
        return JSON_OBJECT;
    default:
        return JSON_NULL;
    }
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",       [JSON_BOOL] = "true or false", [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a string", [JSON_ARRAY] = "an array",     [JSON_OBJECT] = "an object",
    };
    return names[type];
}

static bool is(const struct json *node, enum json_type type)
{
    return node && json_type(node) == type;
}

const struct json *json_get(const struct json *object, const char *name)
{
    const struct json *child = is(object, JSON_OBJECT) ? json_first(object) : NULL;
    while (child && strcmp(json_name(child), name) != 0)
        child = json_next(child);
    return child;
}

const struct json *json_first(const struct json *node)
{
    return is(node, JSON_ARRAY) || is(node, JSON_OBJECT) ? node_of(item_of(node)->child) : NULL;
}

const struct json *json_next(const struct json *child)
{
    return node_of(item_of(child)->next);
}

const char *json_name(const struct json *child)
{
    return item_of(child)->string;
}

size_t json_count(const struct json *node)
{
    size_t n = 0;
    for (const struct json *child = json_first(node); child; child = json_next(child))
        n++;
    return n;
}

const char *json_text(const struct json *node)
{
    return is(node, JSON_STRING) ? item_of(node)->valuestring : NULL;
}

int json_number(const struct json *node, double *ret_value)
{
    if (!is(node, JSON_NUMBER))
        return -1;
    *ret_value = item_of(node)->valuedouble;
    return 0;
}

int json_int(const struct json *node, int64_t *ret_value)
{
    double value;
    if (json_number(node, &value) || value != trunc(value) || fabs(value) > (double)JSON_INT_MAX)
        return -1;
    *ret_value = (int64_t)value;
    return 0;
}

int json_bool(const struct json *node, bool *ret_value)
{
    if (!is(node, JSON_BOOL))
        return -1;
    *ret_value = cJSON_IsTrue(item_of(node));
    return 0;
}

/* Recursion ends at JSON_DEPTH_MAX: only checked text becomes a tree. */
static void print_node(struct json_writer *w, const char *name, const struct json *node)
{
    switch (json_type(node)) {
    case JSON_NULL:
        json_add_null(w, name);
        return;
    case JSON_BOOL:
        json_add_bool(w, name, cJSON_IsTrue(item_of(node)));
        return;
    case JSON_NUMBER:
        json_add_number(w, name, item_of(node)->valuedouble);
        return;
    case JSON_STRING:
        json_add_text(w, name, item_of(node)->valuestring);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    (json_type(node) == JSON_ARRAY ? json_open_array : json_open_object)(w, name);
    for (const struct json *child = json_first(node); child; child = json_next(child))
        print_node(w, json_name(child), child);
    json_close(w);
}

void json_print(const struct json *node, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    print_node(&w, NULL, node);
}

char *json_print_new(const struct json *node, size_t max)
{
    AUTO(buf) struct buf text = BUF_INIT(max);
    if (!node)
        return NULL;
    json_print(node, &text);
    return buf_steal(&text);
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The end of the value at p, in checked text. */
static const char *value_end(const char *p, const char *end)
{
    size_t depth = 0;
    do {
        if (*p == '"') {
            p = string_end(p + 1);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (depth > 0) {
            p++;
        } else {
            while (p < end && !strchr(",]} \n\r\t", *p))
                p++;
        }
    } while (depth > 0);
    return p;
}

const char *json_raw_member(const char *text, size_t len, const char *name, size_t *ret_len)
{
    REQUIRE(name && ret_len);
    const char *end = text + len;
    const char *p = skip_space(text, end);
    if (p == end || *p != '{')
        return NULL;
    for (p = skip_space(p + 1, end); *p != '}'; p = skip_space(p, end)) {
        if (*p == ',')
            p = skip_space(p + 1, end);
        const char *inside = p + 1;
        p = string_end(inside);
        size_t inside_len = (size_t)(p - 1 - inside);
        p = skip_space(skip_space(p, end) + 1, end);
        const char *value = p;
        p = value_end(p, end);
        if (names_is(inside, inside_len, name)) {
            *ret_len = (size_t)(p - value);
            return value;
        }
    }
    return NULL;
}
