#include "google_schema.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METHODS_MAX = 256, SCHEMAS_MAX = 400, FIELDS_MAX = 80 };

/* Taken by every method. */
static const char *const common[] = {
    "$alt=s",
    "alt=(json|media|proto)",
    "fields=s",
    "key=s",
    "prettyPrint=b",
    "quotaUser=s",
    "userIp=s",
    "upload_protocol=s",
    "uploadType=s",
    "callback=s",
    "$.xgafv=s",
    "upload_id=s",
    NULL,
};

static struct google_method methods[METHODS_MAX];
static size_t n_methods;
static struct schema {
    char *name;
    char **fields; /* "FIELD=TYPE" */
} schemas[SCHEMAS_MAX];
static size_t n_schemas;

/* ---- the tables ---- */

/* Cuts `line` at its spaces; the list ends with NULL. */
static char **words(char *line)
{
    char **list = calloc(FIELDS_MAX + 1, sizeof *list);
    size_t n = 0;
    char *save = NULL;
    for (char *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (n == FIELDS_MAX)
            abort();
        list[n++] = word;
    }
    return list;
}

static void add_methods(const char *const *lines)
{
    for (; lines && *lines; lines++) {
        char *line = strdup(*lines);
        char **parts = words(line);
        if (n_methods == METHODS_MAX || !parts[3])
            abort();
        methods[n_methods++] = (struct google_method){.id = parts[0],
                                                      .http = parts[1],
                                                      .path = parts[2],
                                                      .message = parts[3],
                                                      .params = parts + 4,
                                                      .line = line};
    }
}

static void add_schemas(const char *const *lines)
{
    for (; lines && *lines; lines++) {
        char **parts = words(strdup(*lines));
        if (n_schemas == SCHEMAS_MAX || !parts[0])
            abort();
        schemas[n_schemas++] = (struct schema){.name = parts[0], .fields = parts + 1};
    }
}

void google_schema_add(const char *const *more_methods, const char *const *more_schemas)
{
    add_methods(more_methods);
    add_schemas(more_schemas);
}

void google_schema_init(void)
{
    google_schema_add(google_methods, google_schemas);
}

/* The type of NAME in a list of NAME=TYPE. */
static const char *type_of(char *const *list, const char *name)
{
    size_t len = strlen(name);
    for (; *list; list++)
        if (strncmp(*list, name, len) == 0 && (*list)[len] == '=')
            return *list + len + 1;
    return NULL;
}

/* ---- URLs ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

char *google_decode(const char *text, size_t len, bool form)
{
    char *out = malloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%') {
            int high = i + 2 < len ? hex(text[i + 1]) : -1;
            int low = high >= 0 ? hex(text[i + 2]) : -1;
            if (low < 0 || (high == 0 && low == 0)) {
                free(out);
                return NULL;
            }
            out[n++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[n++] = form && text[i] == '+' ? ' ' : text[i];
        }
    }
    out[n] = '\0';
    return out;
}

char *google_param(const char *query, const char *name)
{
    while (*query) {
        size_t len = strcspn(query, "&");
        size_t key_len = strcspn(query, "=&");
        char *key = google_decode(query, key_len, true);
        bool hit = key && strcmp(key, name) == 0;
        free(key);
        if (hit)
            return key_len < len ? google_decode(query + key_len + 1, len - key_len - 1, true)
                                 : strdup("");
        query += len;
        query += *query == '&';
    }
    return NULL;
}

/* One segment: `*`, `*:verb` or a literal. The value of `*` goes to *ret_arg. */
static bool segment_matches(const char *pattern, size_t pattern_len, const char *text, size_t len,
                            char **ret_arg)
{
    *ret_arg = NULL;
    if (*pattern != '*')
        return pattern_len == len && memcmp(pattern, text, len) == 0;
    size_t verb = pattern_len - 1;
    if (len <= verb || memcmp(text + len - verb, pattern + 1, verb) != 0)
        return false;
    *ret_arg = google_decode(text, len - verb, false);
    return *ret_arg != NULL;
}

static bool path_matches(const char *pattern, const char *path, char *args[], size_t *ret_count)
{
    size_t n = 0;
    bool good = true;
    while (good && *pattern == '/' && *path == '/') {
        size_t pattern_len = strcspn(++pattern, "/"), len = strcspn(++path, "/");
        char *arg;
        good = segment_matches(pattern, pattern_len, path, len, &arg) && n < GOOGLE_SEGMENTS_MAX;
        if (arg && good)
            args[n++] = arg;
        pattern += pattern_len;
        path += len;
    }
    if (good && !*pattern && !*path) {
        *ret_count = n;
        return true;
    }
    while (n)
        free(args[--n]);
    return false;
}

const struct google_method *google_route(const char *http, const char *path,
                                         char *args[GOOGLE_SEGMENTS_MAX], size_t *ret_count)
{
    const struct google_method *plain = NULL;
    bool has_verb = false;
    const char *last = strrchr(path, '/');
    /* ":verb" binds closer than a name with a colon in it. */
    for (size_t i = 0; i < n_methods && !has_verb; i++) {
        if (strcmp(methods[i].http, http) != 0)
            continue;
        char *found[GOOGLE_SEGMENTS_MAX];
        size_t count;
        if (!path_matches(methods[i].path, path, found, &count))
            continue;
        has_verb = strchr(methods[i].path, ':') != NULL;
        for (size_t k = 0; plain && k < *ret_count; k++)
            free(args[k]);
        memcpy(args, found, sizeof found);
        *ret_count = count;
        plain = &methods[i];
    }
    if (plain && !has_verb && last && strchr(last, ':') && strncmp(path, "/storage/", 9) != 0) {
        for (size_t k = 0; k < *ret_count; k++)
            free(args[k]);
        return NULL;
    }
    return plain;
}

/* ---- values ---- */

static bool is_integer(const char *text)
{
    text += *text == '-';
    size_t n = strspn(text, "0123456789");
    return n > 0 && n < 20 && !text[n];
}

static bool is_duration(const char *text)
{
    size_t n = strspn(text, "0123456789");
    size_t dot = text[n] == '.' ? 1 + strspn(text + n + 1, "0123456789") : 0;
    return n > 0 && dot != 1 && dot <= 10 && strcmp(text + n + dot, "s") == 0;
}

static bool is_time(const char *text)
{
    int y, mo, d, h, mi, n = 0;
    return sscanf(text, "%4d-%2d-%2dT%2d:%2d:%*f%n", &y, &mo, &d, &h, &mi, &n) == 5 && n > 0;
}

static bool is_base64(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_");
    size_t pad = strspn(text + n, "=");
    return pad <= 2 && !text[n + pad] && n % 4 != 1;
}

static bool in_enum(const char *type, const char *text)
{
    size_t len = strlen(text);
    for (const char *p = type + 1; *p && *p != ')'; p += *p == '|') {
        size_t n = strcspn(p, "|)");
        if (n == len && memcmp(p, text, n) == 0)
            return true;
        p += n;
    }
    return false;
}

/* What a text of this type is not, or NULL. */
static const char *text_fault(const char *type, const char *text)
{
    switch (*type) {
    case 'b':
        return strcmp(text, "true") == 0 || strcmp(text, "false") == 0 ? NULL : "TYPE_BOOL";
    case 'i':
        return is_integer(text) && strlen(text) < 12 ? NULL : "TYPE_INT32";
    case 'l':
        return is_integer(text) ? NULL : "TYPE_INT64";
    case 'd':
        return is_duration(text) ? NULL : "type.googleapis.com/google.protobuf.Duration";
    case 't':
        return is_time(text) ? NULL : "type.googleapis.com/google.protobuf.Timestamp";
    case 'y':
        return is_base64(text) ? NULL : "TYPE_BYTES";
    case '(':
        return in_enum(type, text) ? NULL : "TYPE_ENUM";
    default:
        return NULL;
    }
}

bool google_query_fault(const struct google_method *method, const char *query,
                        char fault[GOOGLE_FAULT_MAX])
{
    while (*query) {
        size_t len = strcspn(query, "&"), key_len = strcspn(query, "=&");
        char *key = google_decode(query, key_len, true);
        char *value = key_len < len ? google_decode(query + key_len + 1, len - key_len - 1, true)
                                    : strdup("");
        const char *type = key ? type_of(method->params, key) : NULL;
        if (key && !type)
            type = type_of((char *const *)(uintptr_t)common, key);
        const char *inner = type && *type == '[' ? type + 1 : type;
        const char *bad = inner && value ? text_fault(inner, value) : NULL;
        bool repeated = type && *type != '[' && strstr(query + len, key) == query + len + 1;
        if (!type || !value)
            snprintf(fault, GOOGLE_FAULT_MAX,
                     "Invalid JSON payload received. Unknown name \"%s\": Cannot bind query "
                     "parameter. Field '%s' could not be found in request message.",
                     key ? key : "", key ? key : "");
        else if (bad || repeated)
            snprintf(fault, GOOGLE_FAULT_MAX, "Invalid value at '%s' (%s), \"%.200s\"", key,
                     bad ? bad : "given twice", value);
        bool faulty = !type || !value || bad || repeated;
        free(key);
        free(value);
        if (faulty)
            return true;
        query += len;
        query += *query == '&';
    }
    return false;
}

/* ---- bodies ---- */

struct check {
    const char *service;
    char *fault;
};

static bool value_fault(struct check *check, const char *type, const cJSON *value,
                        const char *where);

static const struct schema *find_schema(const char *service, const char *name, size_t len)
{
    size_t prefix = strlen(service);
    for (size_t i = 0; i < n_schemas; i++) {
        const char *have = schemas[i].name;
        if (strncmp(have, service, prefix) == 0 && have[prefix] == '.' &&
            strncmp(have + prefix + 1, name, len) == 0 && !have[prefix + 1 + len])
            return &schemas[i];
    }
    return NULL;
}

static bool say(struct check *check, const char *format, const char *a, const char *b)
{
    /* The formats are this file's own. */
    _Pragma("GCC diagnostic push");
    _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"");
    snprintf(check->fault, GOOGLE_FAULT_MAX, format, a, b);
    _Pragma("GCC diagnostic pop");
    return true;
}

static bool message_fault(struct check *check, const struct schema *schema, const cJSON *object,
                          const char *where)
{
    if (!cJSON_IsObject(object))
        return say(check, "Invalid value at '%s' (type %s): an object is wanted", where,
                   schema->name);
    const cJSON *field;
    cJSON_ArrayForEach(field, object)
    {
        char path[256];
        const char *type = type_of(schema->fields, field->string);
        snprintf(path, sizeof path, "%.180s%s%.70s", where, *where ? "." : "", field->string);
        if (!type)
            return say(
                check,
                "Invalid JSON payload received. Unknown name \"%s\" at '%s': Cannot find field.",
                field->string, where);
        if (*type == '!')
            return say(check, "Invalid value at '%s': the field is output only%s", path, "");
        for (const cJSON *other = field->next; other; other = other->next)
            if (strcmp(other->string, field->string) == 0)
                return say(check, "Invalid value at '%s': the field is given twice%s", path, "");
        if (value_fault(check, type, field, path))
            return true;
    }
    return false;
}

/* [TYPE] and {TYPE} */
static bool list_fault(struct check *check, const char *type, const cJSON *value, const char *where)
{
    bool array = *type == '[';
    if (array ? !cJSON_IsArray(value) : !cJSON_IsObject(value))
        return say(check, "Invalid value at '%s': %s is wanted", where,
                   array ? "a list" : "an object");
    const cJSON *item;
    int i = 0;
    cJSON_ArrayForEach(item, value)
    {
        char path[256];
        if (array)
            snprintf(path, sizeof path, "%.200s[%d]", where, i++);
        else
            snprintf(path, sizeof path, "%.180s.%.70s", where, item->string);
        if (value_fault(check, type + 1, item, path))
            return true;
    }
    return false;
}

static bool scalar_fault(struct check *check, const char *type, const cJSON *value,
                         const char *where)
{
    if (*type == 'b')
        return !cJSON_IsBool(value) && say(check, "Invalid value at '%s' (%s)", where, "TYPE_BOOL");
    if (*type == 'i' || *type == 'n')
        return (!cJSON_IsNumber(value) ||
                (*type == 'i' && value->valuedouble != (double)value->valueint)) &&
               say(check, "Invalid value at '%s' (%s)", where, "TYPE_INT32");
    if (*type == '(' && cJSON_IsNumber(value)) /* as proto3 allows */
        return value->valuedouble != (double)value->valueint &&
               say(check, "Invalid value at '%s' (%s)", where, "TYPE_ENUM");
    if (!cJSON_IsString(value))
        return say(check, "Invalid value at '%s' (%s): a string is wanted", where, "TYPE_STRING");
    const char *bad = text_fault(type, value->valuestring);
    return bad && say(check, "Invalid value at '%s' (%s)", where, bad);
}

static bool value_fault(struct check *check, const char *type, const cJSON *value,
                        const char *where)
{
    if (*type == '*')
        return false;
    if (cJSON_IsNull(value)) /* takes a value away, and only Cloud Storage's clients say it so */
        return strcmp(check->service, "storage") != 0 &&
               say(check, "Invalid value at '%s'%s: null", where, "");
    if (*type == '[' || *type == '{')
        return list_fault(check, type, value, where);
    if (!isupper((unsigned char)*type))
        return scalar_fault(check, type, value, where);
    size_t len = strcspn(type, "]}");
    const struct schema *schema = find_schema(check->service, type, len);
    return schema ? message_fault(check, schema, value, where)
                  : say(check, "no schema for %s at %s", type, where);
}

bool google_body_fault(const struct google_method *method, const cJSON *body,
                       char fault[GOOGLE_FAULT_MAX])
{
    char service[64];
    size_t len = strcspn(method->message, ".");
    struct check check = {.service = service, .fault = fault};
    if (strcmp(method->message, "-") == 0)
        return body && cJSON_GetArraySize(body) > 0 &&
               say(&check,
                   "Invalid JSON payload received. Unknown name \"%s\": Cannot find "
                   "field.%s",
                   body->child->string ? body->child->string : "", "");
    if (!body)
        return false;
    snprintf(service, sizeof service, "%.*s", (int)len, method->message);
    const struct schema *schema =
        find_schema(service, method->message + len + 1, strlen(method->message + len + 1));
    return schema ? message_fault(&check, schema, body, "")
                  : say(&check, "no schema for %s%s", method->message, "");
}
