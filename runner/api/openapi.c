#include "runner/api/openapi.h"

#include "base/lock.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/api/pages/pages.h"
#include "runner/api/routes.h"
#include "runner/request/request.h"
#include "runner/store/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXT_BYTES_MAX (4u << 20)
#define ETAG_SIZE 40
#define METHOD_SIZE 16
#define PATH_SIZE 160
#define SCHEMA(name) "{\"$ref\":\"#/components/schemas/" name "\"}"

struct openapi {
    const char *version; /* borrowed */
    struct lock lock;    /* held while the document is made */
    char *text;
    char etag[ETAG_SIZE];
};

/* --- tables -------------------------------------------------------------------------------- */

/* Parameters that a row of routes.h can name. */
static const struct {
    const char *name, *in, *schema, *help;
} parameters[] = {
    {"verbose", "query", "{\"type\":\"boolean\"}",
     "with a secret: more, as the configuration in force"},
    {"status", "query", SCHEMA("TaskStatus"), "only tasks in that state"},
    {"kind", "query", "{\"type\":\"string\"}", "only tasks of that kind"},
    {"group", "query", "{\"type\":\"string\"}", "only tasks of that group"},
    {"webhook", "query", SCHEMA("WebhookStatus"), "only tasks whose webhook is in that state"},
    {"limit", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,\"default\":100}",
     "how many at most"},
    {"action", "query", "{\"type\":\"string\"}", "only these: task.run, or task for all of them"},
    {"caller", "query", "{\"type\":\"string\"}", "only what this caller did"},
    {"cursor", "query", "{\"type\":\"string\"}", "nextCursor of an earlier answer"},
    {"from", "query", "{\"type\":\"integer\",\"minimum\":0}", "the id of the first event"},
    {"Last-Event-ID", "header", "{\"type\":\"integer\",\"minimum\":0}",
     "the id of the last event that came; wins over from"},
    {"Idempotency-Key", "header", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":255}",
     "the same key with the same body is the same task; with another body it is refused"},
    {"Prefer", "header", "{\"type\":\"string\"}", "wait=SECONDS: then 202, and the task goes on"},
    {"Range", "header", "{\"type\":\"string\"}", "one range of bytes"},
    {"If-Range", "header", "{\"type\":\"string\"}", "the ETag that the range is meant of"},
    {"If-Match", "header", "{\"type\":\"string\"}", "the ETag that it must still have"},
    {"path", "query", "{\"type\":\"string\"}", "absolute, or from /workspace; that is the default"},
    {"recursive", "query", "{\"type\":\"boolean\"}", "what is below its directories as well"},
    {"startLine", "query", "{\"type\":\"integer\",\"minimum\":0}", "the first line, from 0"},
    {"endLine", "query", "{\"type\":\"integer\",\"minimum\":0}", "the line after the last"},
    {"maxLength", "query", "{\"type\":\"integer\",\"minimum\":0}",
     "characters; what is longer is cut and says so"},
    {"append", "query", "{\"type\":\"boolean\"}", "add to the file's end"},
    {"mode", "query", "{\"type\":\"string\",\"pattern\":\"^[0-7]{1,4}$\"}", "permissions, octal"},
    {"shell", "query", "{\"type\":\"string\"}",
     "that shell; not given: all of them (a terminal: default)"},
    {"cols", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000}", "columns"},
    {"rows", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000}", "rows"},
    {"pattern", "query", "{\"type\":\"string\"}", "only those whose command holds this text"},
    {"signal", "query", "{\"type\":\"string\"}",
     "TERM, 15, …; not given: TERM, three seconds, KILL"},
    {"wait", "query", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":3600}",
     "seconds to wait for its end"},
    {"console", "query", "{\"type\":\"boolean\"}", "with the commands before it"},
    {"If-None-Match", "header", "{\"type\":\"string\"}", "the ETag that is here already"},
};

/* Contents of an answer that are not a schema as application/json. */
static const struct {
    const char *name, *types, *schema;
} contents[] = {
    {"Nothing", "", NULL},
    {"Text", "text/plain", "{\"type\":\"string\"}"},
    {"Metrics", "text/plain", "{\"type\":\"string\"}"},
    {"Page", "text/html", "{\"type\":\"string\"}"},
    {"Css", "text/css", "{\"type\":\"string\"}"},
    {"Script", "text/javascript", "{\"type\":\"string\"}"},
    {"RunAnswer", "text/event-stream application/x-ndjson application/json",
     "{\"anyOf\":[" SCHEMA("PyRunnerResult") "," SCHEMA("Event") "]}"},
    {"Asset",
     "text/html text/css text/javascript image/svg+xml image/png application/manifest+json", NULL},
    {"Events", "text/event-stream application/x-ndjson", SCHEMA("Event")},
    {"Log", "text/plain text/event-stream", "{\"type\":\"string\"}"},
    {"File", "application/octet-stream", NULL},
    {"Lines", "application/x-ndjson", NULL},
    {"Diff", "text/x-diff application/json",
     "{\"oneOf\":[{\"type\":\"string\"}," SCHEMA("TaskDiff") "]}"},
    {"Archive", "application/gzip", NULL},
};

/* Schemas that are made from the table of request fields. */
static const struct {
    const char *name;
    unsigned where;
} requests[] = {
    {"ExecuteRequest", REQUEST_CLAUDE},
    {"RunRequest", REQUEST_CLAUDE | REQUEST_PYTHON},
    {"RunAsyncRequest", REQUEST_CLAUDE},
    {"ExecRequest", REQUEST_COMMAND},
};

static const struct {
    int http;
    const char *wire, *title;
} errors[] = {
#define ERROR_ROW(name, wire_, title_, http_, exit_) {(http_), (wire_), (title_)},
    ERR_CODES(ERROR_ROW)
#undef ERROR_ROW
};

static const char about[] =
    "Runs Claude Code, with supervision, for callers who hold a secret. With Cloudflare Access "
    "configured its assertion is asked for as well, on everything but /healthz. Every answer "
    "carries X-Request-ID.";

/* --- words of a row ------------------------------------------------------------------------ */

/* Takes the next word off *at; false past the last. */
static bool next_word(const char **at, char *word, size_t size)
{
    *at += strspn(*at, " ");
    size_t n = strcspn(*at, " ");
    snprintf(word, size, "%.*s", (int)n, *at);
    *at += n;
    return n > 0;
}

static const char *lower(const char *method, char to[METHOD_SIZE])
{
    size_t n = 0;
    for (; method[n] && n + 1 < METHOD_SIZE; n++)
        to[n] = (char)(method[n] - 'A' + 'a');
    to[n] = '\0';
    return to;
}

/* "{path...}" is "{path}" in the document. */
static const char *plain_path(const char *path, char to[PATH_SIZE])
{
    const char *dots = strstr(path, "...}");
    snprintf(to, PATH_SIZE, "%.*s%s", (int)(dots ? dots - path : (ptrdiff_t)strlen(path)), path,
             dots ? dots + 3 : "");
    return to;
}

/* --- parameters and body ------------------------------------------------------------------- */

static void add_ref(struct json_writer *w, const char *kind, const char *name)
{
    AUTO(buf) struct buf ref = BUF_INIT(256);
    buf_addf(&ref, "#/components/%s/%s", kind, name);
    json_add_text(w, "$ref", buf_str(&ref));
}

/* Adds the pattern's "{id}" and "{path...}". */
static void add_path_parameters(struct json_writer *w, const char *path)
{
    while ((path = strchr(path, '{'))) {
        size_t n = strcspn(++path, "}.");
        json_open_object(w, NULL);
        json_add_textn(w, "name", path, n);
        json_add_text(w, "in", "path");
        json_add_bool(w, "required", true);
        json_add_raw(w, "schema", "{\"type\":\"string\",\"minLength\":1}", 31);
        json_close(w);
    }
}

static void add_parameters(struct json_writer *w, const char *path, const char *names)
{
    char name[64];
    if (!*names && !strchr(path, '{'))
        return;
    json_open_array(w, "parameters");
    add_path_parameters(w, path);
    while (next_word(&names, name, sizeof(name))) {
        json_open_object(w, NULL);
        add_ref(w, "parameters", name);
        json_close(w);
    }
    json_close(w);
}

/* The example of that name (examples.json), where there is one. */
static void add_example(struct json_writer *w, const struct json *examples, const char *name)
{
    AUTO(buf) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    const struct json *example = json_get(examples, name);
    if (!example)
        return;
    json_print(example, &text);
    json_add_raw(w, "example", buf_str(&text), text.len);
}

static void add_body(struct json_writer *w, const struct json *examples, const char *schema)
{
    bool form = strcmp(schema, "Form") == 0;
    if (!*schema)
        return;
    json_open_object(w, "requestBody");
    json_add_bool(w, "required", true);
    json_open_object(w, "content");
    json_open_object(w, form ? "application/x-www-form-urlencoded" : "application/json");
    json_open_object(w, "schema");
    add_ref(w, "schemas", schema);
    json_close(w);
    add_example(w, examples, schema);
    json_close(w);
    json_close(w);
    json_close(w);
}

/* --- answers ------------------------------------------------------------------------------- */

static const char *describe_status(int status)
{
    static const struct {
        int status;
        const char *text;
    } good[] = {{101, "It goes on in the other protocol."},
                {200, "It is done, or here it is."},
                {201, "It has been made."},
                {202, "It has been accepted."},
                {204, "There is nothing more."},
                {206, "A part of it."},
                {303, "Go on there."},
                {304, "It has not changed."}};
    for (size_t i = 0; i < COUNT_OF(good); i++)
        if (good[i].status == status)
            return good[i].text;
    return "";
}

/* Answers that have no schema of their own are shown by "method /path". */
static void add_content(struct json_writer *w, const struct json *examples,
                        const struct http_route *route, const char *name)
{
    char path[PATH_SIZE], key[PATH_SIZE + METHOD_SIZE];
    char method[METHOD_SIZE];
    snprintf(key, sizeof(key), "%s %s", lower(route->method, method),
             plain_path(route->path, path));
    char type[64];
    AUTO(buf) struct buf schema = BUF_INIT(256);
    const char *types = "application/json";
    buf_addf(&schema, SCHEMA("%s"), name);
    for (size_t i = 0; i < COUNT_OF(contents); i++)
        if (strcmp(contents[i].name, name) == 0) {
            types = contents[i].types;
            buf_clear(&schema);
            buf_adds(&schema, contents[i].schema ? contents[i].schema : "");
        }
    if (!*types)
        return;
    json_open_object(w, "content");
    while (next_word(&types, type, sizeof(type))) {
        json_open_object(w, type);
        if (schema.len > 0)
            json_add_raw(w, "schema", buf_str(&schema), schema.len);
        add_example(w, examples, json_get(examples, key) ? key : name);
        json_close(w);
    }
    json_close(w);
}

static void add_answer(struct json_writer *w, const struct json *examples,
                       const struct http_route *route, int status, const char *content)
{
    char text[32];
    snprintf(text, sizeof(text), "%d", status);
    json_open_object(w, text);
    if (*content) {
        json_add_text(w, "description", describe_status(status));
        add_content(w, examples, route, content);
    } else {
        snprintf(text, sizeof(text), "Error%d", status);
        add_ref(w, "responses", text);
    }
    json_close(w);
}

/* Adds the answers that any route may give besides those in its row. */
static void add_common_answers(const struct http_route *route, const struct route_text *text,
                               struct buf *answers)
{
    if (*text->body || *text->parameters)
        buf_adds(answers, " 400");
    if (*text->body)
        buf_adds(answers, " 408 413");
    if (!(route->flags & ROUTE_OPEN))
        buf_adds(answers, " 403");
    if (!(route->flags & (ROUTE_OPEN | ROUTE_PAGE)))
        buf_adds(answers, " 429");
    if (!(route->flags & ROUTE_DRAIN))
        buf_adds(answers, " 503");
}

static void add_answers(struct json_writer *w, const struct json *examples,
                        const struct http_route *route, const struct route_text *text)
{
    char word[64];
    AUTO(buf) struct buf all = BUF_INIT(1024);
    buf_adds(&all, text->answers);
    add_common_answers(route, text, &all);
    const char *at = buf_str(&all);
    json_open_object(w, "responses");
    while (next_word(&at, word, sizeof(word))) {
        const char *colon = strchr(word, ':');
        add_answer(w, examples, route, (int)strtol(word, NULL, 10), colon ? colon + 1 : "");
    }
    json_open_object(w, "default");
    add_ref(w, "responses", "Error");
    json_close(w);
    json_close(w);
}

/* --- operations ---------------------------------------------------------------------------- */

/* Adds an id such as "get_tasks_id_events", from which generators name their functions. */
static void add_operation_id(struct json_writer *w, const struct http_route *route)
{
    AUTO(buf) struct buf id = BUF_INIT(256);
    buf_addf(&id, "%s %s", route->method, route->path);
    size_t len = 0;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (plain || (len > 0 && id.data[len - 1] != '_'))
            id.data[len++] = (char)(!plain ? '_' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    while (len > 0 && id.data[len - 1] == '_')
        len--;
    json_add_textn(w, "operationId", buf_str(&id), len);
}

static void add_operation(struct json_writer *w, const struct json *examples,
                          const struct http_route *route, const struct route_text *text)
{
    char method[METHOD_SIZE];
    json_open_object(w, lower(route->method, method));
    add_operation_id(w, route);
    json_open_array(w, "tags");
    json_add_text(w, NULL, text->tag);
    json_close(w);
    json_add_text(w, "summary", text->summary);
    if (route->flags & (ROUTE_OPEN | ROUTE_PAGE)) {
        json_open_array(w, "security");
        json_close(w);
    }
    add_parameters(w, route->path, text->parameters);
    add_body(w, examples, text->body);
    add_answers(w, examples, route, text);
    json_close(w);
}

static void add_paths(struct json_writer *w, const struct json *examples)
{
    size_t count;
    char path[PATH_SIZE];
    const struct http_route *routes = api_routes(&count);
    json_open_object(w, "paths");
    for (size_t i = 0; i < count; i++) {
        size_t first = 0;
        while (strcmp(routes[first].path, routes[i].path) != 0)
            first++;
        if (first < i)
            continue; /* It was printed with the first route of its path. */
        json_open_object(w, plain_path(routes[i].path, path));
        for (size_t k = i; k < count; k++)
            if (strcmp(routes[k].path, routes[i].path) == 0)
                add_operation(w, examples, &routes[k], &api_route_texts[k]);
        json_close(w);
    }
    json_close(w);
}

/* --- components ---------------------------------------------------------------------------- */

static void add_parameter_table(struct json_writer *w)
{
    json_open_object(w, "parameters");
    for (size_t i = 0; i < COUNT_OF(parameters); i++) {
        json_open_object(w, parameters[i].name);
        json_add_text(w, "name", parameters[i].name);
        json_add_text(w, "in", parameters[i].in);
        json_add_text(w, "description", parameters[i].help);
        json_add_raw(w, "schema", parameters[i].schema, strlen(parameters[i].schema));
        json_close(w);
    }
    json_close(w);
}

static void add_error_response(struct json_writer *w, const char *name, const char *description)
{
    static const char schema[] = SCHEMA("Problem");
    json_open_object(w, name);
    json_add_text(w, "description", description);
    json_open_object(w, "content");
    json_open_object(w, "application/problem+json");
    json_add_raw(w, "schema", schema, sizeof(schema) - 1);
    json_close(w);
    json_close(w);
    json_close(w);
}

/* Adds a response for each status in the table of errors. */
static void add_responses(struct json_writer *w)
{
    char name[32];
    json_open_object(w, "responses");
    add_error_response(w, "Error", "An error");
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        AUTO(buf) struct buf titles = BUF_INIT(1024);
        bool seen = errors[i].http < 400;
        for (size_t k = 0; k < i; k++)
            seen |= errors[k].http == errors[i].http;
        for (size_t k = i; k < COUNT_OF(errors) && !seen; k++)
            if (errors[k].http == errors[i].http)
                buf_addf(&titles, "%s%s", titles.len > 0 ? "; " : "", errors[k].title);
        snprintf(name, sizeof(name), "Error%d", errors[i].http);
        if (!seen)
            add_error_response(w, name, buf_str(&titles));
    }
    json_close(w);
}

static void add_security_schemes(struct json_writer *w)
{
    static const char schemes[] =
        "{\"secret\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"X-Runner-Secret\"},"
        "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}";
    json_add_raw(w, "securitySchemes", schemes, sizeof(schemes) - 1);
}

static void add_words(struct json_writer *w, const char *name, const char *const words[],
                      size_t count)
{
    json_open_object(w, name);
    json_add_text(w, "type", "string");
    json_open_array(w, "enum");
    for (size_t i = 0; i < count; i++)
        json_add_text(w, NULL, words[i]);
    json_close(w);
    json_close(w);
}

static int add_schemas(struct json_writer *w, struct err *err)
{
    const char *codes[COUNT_OF(errors)], *states[TASK_STATE_COUNT];
    const char *webhooks[WEBHOOK_STATE_COUNT];
    AUTO(buf) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    AUTO(json) struct json *answers = json_parse(page_schemas_json, strlen(page_schemas_json), err);
    for (size_t i = 0; i < COUNT_OF(errors); i++)
        codes[i] = errors[i].wire;
    for (int i = 0; i < TASK_STATE_COUNT; i++)
        states[i] = task_state_name((enum task_state)i);
    json_open_object(w, "schemas");
    add_words(w, "ErrorCode", codes + 1,
              COUNT_OF(errors) - 1); /* The first code means that there is no error. */
    add_words(w, "TaskStatus", states, COUNT_OF(states));
    for (int i = 0; i < WEBHOOK_STATE_COUNT; i++)
        webhooks[i] = webhook_state_name((enum webhook_state)i);
    add_words(w, "WebhookStatus", webhooks + 1, COUNT_OF(webhooks) - 1); /* the first: none */
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        buf_clear(&text);
        request_print_schema(requests[i].where, &text);
        json_add_raw(w, requests[i].name, buf_str(&text), text.len);
    }
    for (const struct json *at = json_first(answers); at; at = json_next(at)) {
        buf_clear(&text);
        json_print(at, &text);
        json_add_raw(w, json_name(at), buf_str(&text), text.len);
    }
    json_close(w);
    return answers ? buf_check(&text, "the schemas", err) : err_wrap(err, "schemas.json");
}

/* --- the document -------------------------------------------------------------------------- */

static int print_document(const char *version, struct buf *out, struct err *err)
{
    static const char security[] = "[{\"secret\":[]},{\"bearer\":[]}]";
    struct json_writer w;
    AUTO(json)
    struct json *examples = json_parse(page_examples_json, strlen(page_examples_json), err);
    if (!examples)
        return err_wrap(err, "examples.json");
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "openapi", "3.1.0");
    json_open_object(&w, "info");
    json_add_text(&w, "title", "Claude Runner");
    json_add_text(&w, "version", version);
    json_add_text(&w, "description", about);
    json_close(&w);
    json_open_array(&w, "servers");
    json_open_object(&w, NULL);
    json_add_text(&w, "url", "/");
    json_close(&w);
    json_close(&w);
    json_add_raw(&w, "security", security, sizeof(security) - 1);
    add_paths(&w, examples);
    json_open_object(&w, "components");
    int rc = add_schemas(&w, err);
    add_parameter_table(&w);
    add_responses(&w);
    add_security_schemes(&w);
    json_close(&w);
    json_close(&w);
    return rc ? -1 : buf_check(out, "the OpenAPI document", err);
}

struct openapi *openapi_new(const char *version)
{
    struct openapi *openapi = calloc(1, sizeof(*openapi));
    if (!openapi)
        return NULL;
    openapi->version = version;
    lock_init(&openapi->lock);
    return openapi;
}

void openapi_free(struct openapi *openapi)
{
    if (!openapi)
        return;
    lock_done(&openapi->lock);
    free(openapi->text);
    free(openapi);
}

static void make_locked(struct openapi *openapi, struct err *err) HOLDS(openapi->lock);
static void make_locked(struct openapi *openapi, struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    AUTO(buf) struct buf hex = BUF_INIT(2 * CRYPTO_SHA256_SIZE + 1);
    if (print_document(openapi->version, &text, err))
        return;
    crypto_sha256(text.data, text.len, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    snprintf(openapi->etag, sizeof(openapi->etag), "\"%.32s\"", buf_str(&hex));
    openapi->text = buf_steal(&text);
}

const char *openapi_text(struct openapi *openapi, const char **ret_etag, struct err *err)
{
    lock_take(&openapi->lock);
    if (!openapi->text)
        make_locked(openapi, err);
    const char *text = openapi->text; /* The document does not change once it is made. */
    lock_drop(&openapi->lock);
    if (text && ret_etag)
        *ret_etag = openapi->etag;
    return text;
}

void openapi_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    const char *etag;
    const char *text = openapi_text(api->openapi, &etag, &err);
    if (!text) {
        send_err(req, &err);
        return;
    }
    http_add_header(req, "Cache-Control", "no-cache");
    if (meets_condition(req, etag))
        http_send(req, 200, "application/json", text, strlen(text));
}
