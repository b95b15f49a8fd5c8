/* One decoder per kind: a JSON value becomes the member, or an error says what is wrong. */
#include "base/check.h"
#include "base/clock.h"
#include "base/form.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/request/rows.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int wrong_type(const struct json *value, const char *want, struct err *err)
{
    return err_set(err, ERR_INVALID, "must be %s, got %s", want, json_type_name(json_type(value)));
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "does not fit into memory");
}

static int check_length(const struct request_row *row, size_t len, struct err *err)
{
    if (row->takes.max > 0 && (double)len > row->takes.max)
        return err_set(err, ERR_INVALID, "is too long: at most %.0f bytes, got %zu", row->takes.max,
                       len);
    return 0;
}

static int put_text(const char *text, void *member, struct err *err)
{
    char *copy = strdup(text);
    if (!copy)
        return no_memory(err);
    *(char **)member = copy;
    return 0;
}

static int check_text(const struct request_row *row, const char *text, struct err *err)
{
    if (row->takes.min >= 1 && str_is_blank(text, strlen(text)))
        return err_set(err, ERR_INVALID, "must not be blank");
    return 0;
}

static int check_token(const struct request_row *row, const char *text, struct err *err)
{
    if ((double)strlen(text) < row->takes.min)
        return err_set(err, ERR_INVALID, "is too short: at least %.0f bytes", row->takes.min);
    if (!form_is_token(text))
        return err_set(err, ERR_INVALID, "must be printable ASCII without spaces");
    return 0;
}

static int check_id(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    if (strcmp(text, "status") == 0) /* GET /tasks/status is another resource. */
        return err_set(err, ERR_INVALID, "is a reserved word");
    if (!id_is_valid(text))
        return err_set(err, ERR_INVALID,
                       "must be 1 to %d characters of A-Z a-z 0-9 . _ ~ - and not begin with '.' "
                       "or '-'",
                       ID_SIZE - 1);
    return 0;
}

static int check_uuid(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    return form_is_uuid(text) ? 0 : err_set(err, ERR_INVALID, "must be a UUID");
}

static int check_url(const struct request_row *row, const char *text, struct err *err)
{
    struct form_url url;
    (void)row;
    if (form_url(text, &url))
        return err_set(err, ERR_INVALID, "must be an http or https URL");
    if (url.has_user)
        return err_set(err, ERR_INVALID, "must not hold a user or password");
    return 0;
}

/* True for GitHub's owner/name. */
static bool is_owner_name(const char *text)
{
    size_t slash = strcspn(text, "/");
    if (slash == 0 || text[slash] == '\0' || text[slash + 1] == '\0')
        return false;
    for (size_t i = 0; text[i]; i++)
        if (i != slash && !isalnum((unsigned char)text[i]) && !strchr("._-", text[i]))
            return false;
    return isalnum((unsigned char)text[0]) && text[slash + 1] != '.' && text[slash + 1] != '-';
}

/* True for user@host:path, or host:path. */
static bool is_scp_form(const char *text)
{
    char host[256];
    const char *at = strchr(text, '@'), *colon = strchr(text, ':');
    if (!colon || colon[1] == '\0' || colon[1] == '-' || colon[1] == ':' ||
        str_starts(colon, "://"))
        return false;
    if (at && at < colon) {
        if (at == text)
            return false;
        for (const char *p = text; p < at; p++)
            if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
                return false;
        text = at + 1;
    }
    size_t n = (size_t)(colon - text);
    if (n == 0 || n >= sizeof(host) || memchr(text, '/', n))
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    return form_is_domain(host) && host[0] != '*';
}

/* True for http, https, ssh or file. */
static bool is_git_url(const char *text)
{
    static const char *const schemes[] = {"https://", "http://", "ssh://"};
    struct form_url url;
    char plain[2200];
    if (str_starts(text, "file:///"))
        return true;
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncasecmp(text, schemes[i], n) != 0)
            continue;
        const char *rest = text + n, *path = strchr(rest, '/');
        int len = snprintf(plain, sizeof(plain), "https://%s", rest);
        return path && path[1] && len > 0 && (size_t)len < sizeof(plain) &&
               form_url(plain, &url) == 0;
    }
    return false;
}

/* Removes the user in an http URL and the password in an ssh URL, which are secrets in the wrong
 * place, before anything is stored. */
static void strip_user(char *url)
{
    char *authority = strstr(url, "://"), *path, *at;
    if (!authority || !(path = strchr(authority + 3, '/')))
        return;
    authority += 3;
    at = memrchr(authority, '@', (size_t)(path - authority));
    if (!at)
        return;
    char *from = authority, *to = at + 1;
    if (strncasecmp(url, "ssh", 3) == 0) {
        from = memchr(authority, ':', (size_t)(at - authority));
        to = at;
    }
    if (from)
        memmove(from, to, strlen(to) + 1);
}

static int check_repo(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    bool plain = form_is_token(text) && *text != '-';
    if (!plain || (!is_git_url(text) && !is_owner_name(text) && !is_scp_form(text)))
        return err_set(err, ERR_INVALID,
                       "must be an https or ssh URL, user@host:path, or owner/name for GitHub");
    return 0;
}

/* Checks git check-ref-format's rules, and that there is no '-' at the beginning. */
static int check_ref(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    size_t len = strlen(text);
    bool ok = len > 0 && text[0] != '-' && text[0] != '/' && text[0] != '.' &&
              text[len - 1] != '/' && text[len - 1] != '.' && !strstr(text, "..") &&
              !strstr(text, "//") && !strstr(text, "/.") && !strstr(text, "@{") &&
              !strstr(text, ".lock/") && strcmp(text, "@") != 0 &&
              !(len >= 5 && strcmp(text + len - 5, ".lock") == 0);
    for (size_t i = 0; ok && i < len; i++)
        ok = (unsigned char)text[i] > ' ' && text[i] != 0x7f && !strchr("~^:?*[\\", text[i]);
    return ok ? 0 : err_set(err, ERR_INVALID, "must be the name of a git branch, tag or commit");
}

static int check_path(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    if (!path_is_inside(text))
        return err_set(err, ERR_INVALID, "must be a relative path without '.' and '..' parts");
    return 0;
}

static int check_ssh_key(const struct request_row *row, const char *text, struct err *err)
{
    (void)row;
    if (!str_starts(text, "-----BEGIN ") || !strstr(text, "PRIVATE KEY-----") ||
        !strstr(text, "-----END "))
        return err_set(err, ERR_INVALID, "must be a private key in OpenSSH or PEM form");
    return 0;
}

static int check_time(const struct request_row *row, const char *text, struct err *err)
{
    int64_t ms;
    (void)row;
    if (clock_parse(text, &ms))
        return err_set(err, ERR_INVALID,
                       "must be a time as in RFC 3339 (2026-01-02T03:04:05Z), got '%.*s'",
                       (int)request_cut(text, 40), text);
    return 0;
}

typedef int check_fn(const struct request_row *row, const char *text, struct err *err);

static check_fn *const checks[] = {
    [KIND_TEXT] = check_text, [KIND_TOKEN] = check_token, [KIND_ID] = check_id,
    [KIND_UUID] = check_uuid, [KIND_URL] = check_url,     [KIND_REPO] = check_repo,
    [KIND_REF] = check_ref,   [KIND_PATH] = check_path,   [KIND_SSH_KEY] = check_ssh_key,
    [KIND_TIME] = check_time,
};

static int decode_string(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    const char *text = json_text(value);
    if (!text)
        return wrong_type(value, "a string", err);
    if (check_length(row, strlen(text), err) || checks[row->kind](row, text, err))
        return -1;
    return put_text(text, member, err);
}

/* Simplifies a path: "./a/b/" means a/b. */
static const char *plain_path(const char *text, size_t *ret_len)
{
    while (text[0] == '.' && text[1] == '/')
        for (text++; *text == '/';)
            text++;
    size_t len = strlen(text);
    while (len > 1 && text[len - 1] == '/')
        len--;
    *ret_len = len;
    return text;
}

static int decode_path(const struct request_row *row, const struct json *value, void *member,
                       struct err *err)
{
    size_t len;
    const char *text = json_text(value);
    if (!text)
        return wrong_type(value, "a string", err);
    text = plain_path(text, &len);
    AUTO(str) char *plain = str_copy(text, len);
    if (!plain)
        return no_memory(err);
    if (len == 0 || strcmp(plain, ".") == 0) /* The workspace itself, as without the field. */
        return 0;
    if (check_length(row, len, err) || checks[row->kind](row, plain, err))
        return -1;
    *(char **)member = STEAL_PTR(plain);
    return 0;
}

static int decode_repo(const struct request_row *row, const struct json *value, void *member,
                       struct err *err)
{
    if (decode_string(row, value, member, err))
        return -1;
    strip_user(*(char **)member);
    return 0;
}

static int decode_choice(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    const char *text = json_text(value);
    int index = text ? form_choice(row->takes.choices, text) : -1;
    if (index < 0) {
        AUTO(buf) struct buf list = BUF_INIT(512);
        str_add_choices(&list, row->takes.choices);
        if (!text)
            return err_set(err, ERR_INVALID, "must be one of %s, got %s", buf_str(&list),
                           json_type_name(json_type(value)));
        return err_set(err, ERR_INVALID, "must be one of %s, got '%.*s'", buf_str(&list),
                       (int)request_cut(text, 40), text);
    }
    if (row->kind == KIND_CHOICE)
        return put_text(text, member, err);
    *(int *)member = index;
    return 0;
}

static int decode_int(const struct request_row *row, const struct json *value, void *member,
                      struct err *err)
{
    double number;
    if (json_number(value, &number))
        return wrong_type(value, "a number", err);
    if (number != trunc(number))
        return err_set(err, ERR_INVALID, "must be a whole number, got %.15g", number);
    if (number < row->takes.min || number > row->takes.max)
        return err_set(err, ERR_INVALID, "must be %.0f..%.0f, got %.15g", row->takes.min,
                       row->takes.max, number);
    *(int *)member = (int)number;
    return 0;
}

static int decode_number(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    double number;
    if (json_number(value, &number))
        return wrong_type(value, "a number", err);
    if (number < row->takes.min || number > row->takes.max)
        return err_set(err, ERR_INVALID, "must be %.15g..%.15g, got %.15g", row->takes.min,
                       row->takes.max, number);
    *(double *)member = number;
    return 0;
}

static int decode_bool(const struct request_row *row, const struct json *value, void *member,
                       struct err *err)
{
    (void)row;
    return json_bool(value, member) ? wrong_type(value, "true or false", err) : 0;
}

static int add_items(const struct json *array, struct strlist *list, struct err *err)
{
    size_t index = 0;
    for (const struct json *item = json_first(array); item; item = json_next(item), index++) {
        const char *text = json_text(item);
        if (!text)
            return err_set(err, ERR_INVALID, "must hold strings only, item %zu is %s", index,
                           json_type_name(json_type(item)));
        if (str_is_blank(text, strlen(text)))
            return err_set(err, ERR_INVALID, "must not hold blank strings, as item %zu is", index);
        if (strlen(text) > REQUEST_ITEM_MAX)
            return err_set(err, ERR_INVALID, "is too long in item %zu: at most %d bytes", index,
                           REQUEST_ITEM_MAX);
        if (strlist_add(list, text))
            return no_memory(err);
    }
    return 0;
}

static int decode_list(const struct request_row *row, const struct json *value, void *member,
                       struct err *err)
{
    struct strlist *list = member;
    const char *text = row->kind == KIND_LINES ? NULL : json_text(value);
    const char *bad;
    if (!text && json_type(value) != JSON_ARRAY)
        return wrong_type(value, "an array of strings", err);
    if (text && strlen(text) > REQUEST_ITEM_MAX)
        return err_set(err, ERR_INVALID, "is too long: at most %d bytes as one string",
                       REQUEST_ITEM_MAX);
    if (!text && (double)json_count(value) > row->takes.max)
        return err_set(err, ERR_INVALID, "must hold at most %.0f items, got %zu", row->takes.max,
                       json_count(value));
    if (text ? strlist_split(list, text) : add_items(value, list, err))
        return text ? no_memory(err) : -1;
    if ((double)list->count > row->takes.max)
        return err_set(err, ERR_INVALID, "must hold at most %.0f items, got %zu", row->takes.max,
                       list->count);
    if (row->kind == KIND_DOMAINS && !form_are_domains(list, &bad))
        return err_set(err, ERR_INVALID, "must be open, none, or domain names, got '%.*s'",
                       (int)request_cut(bad, 80), bad);
    return 0;
}

static int put_tree(const struct request_row *row, const struct json *value, void *member,
                    struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(16 << 20);
    json_print(value, &text);
    if (check_length(row, text.len, err))
        return -1;
    if (!(*(char **)member = buf_steal(&text)))
        return no_memory(err);
    return 0;
}

/* Decodes an object, or a string that contains one; `what` is its name with an article. */
static int decode_embedded(const struct request_row *row, const char *what,
                           const struct json *value, void *member, struct err *err)
{
    const char *text = json_text(value);
    struct err inner = ERR_INIT;
    char wanted[60];
    snprintf(wanted, sizeof(wanted), "%s object", what);
    if (!text && json_type(value) != JSON_OBJECT)
        return wrong_type(value, wanted, err);
    AUTO(json) struct json *parsed = text ? json_parse(text, strlen(text), &inner) : NULL;
    if (text && !parsed)
        return err_set(err, ERR_INVALID, "must be %s: %s", what, inner.msg);
    if (text && json_type(parsed) != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "must be %s, got %s in a string", wanted,
                       json_type_name(json_type(parsed)));
    const struct json *object = text ? parsed : value;
    if (row->kind == KIND_CONFIG && !json_first(object)) /* An empty one means none. */
        return 0;
    return put_tree(row, object, member, err);
}

static int decode_schema(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    return decode_embedded(row, "a JSON Schema", value, member, err);
}

static int decode_config(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    return decode_embedded(row, "a JSON", value, member, err);
}

/* Variables that the runner itself passes to Claude: with two values for one name it would be left
 * to chance which one counts. */
bool request_is_runners_variable(const char *name)
{
    static const char *const names[] = {
        "ANTHROPIC_API_KEY",       "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR",    "CLAUDE_RUNNER_INSTANCE",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* What is wrong with a member of an ENV, STRINGS or INPUTS object, or NULL. */
static const char *member_fault(enum request_kind kind, const char *name, const char *text)
{
    if (!text)
        return "must hold strings only";
    if (kind == KIND_ENV && (!form_is_env_name(name) || strlen(name) > 255))
        return "must have names of A-Z a-z 0-9 _ that do not begin with a digit";
    if (kind == KIND_ENV && request_is_runners_variable(name))
        return "must not set what the runner sets (a credential has a field of its own)";
    if (kind == KIND_ENV && strlen(text) + strlen(name) > REQUEST_ARG_MAX)
        return "must have values of at most 100 KiB";
    if (kind != KIND_ENV && (!path_is_inside(name) || strlen(name) > 255))
        return "must have file names as names";
    if (kind == KIND_INPUTS && strchr(name, '/'))
        return "must have file names without '/' as names";
    if (kind == KIND_INPUTS && (!str_starts(text, "sha256:") || strlen(text) != 7 + 64 ||
                                strspn(text + 7, "0123456789abcdef") != 64))
        return "must hold \"sha256:\" and 64 lower-case hex digits";
    return NULL;
}

static int decode_object(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    size_t count = 0;
    if (json_type(value) != JSON_OBJECT)
        return wrong_type(value, "an object", err);
    for (const struct json *child = json_first(value); child; child = json_next(child)) {
        if (++count > REQUEST_VARIABLES_MAX && row->kind == KIND_ENV)
            return err_set(err, ERR_INVALID, "must have at most %d variables",
                           REQUEST_VARIABLES_MAX);
        if (count > REQUEST_INPUTS_MAX && row->kind == KIND_INPUTS)
            return err_set(err, ERR_INVALID, "must have at most %d inputs", REQUEST_INPUTS_MAX);
        const char *fault = member_fault(row->kind, json_name(child), json_text(child));
        if (fault)
            return err_set(err, ERR_INVALID, "%s, '%.*s' is not right", fault,
                           (int)request_cut(json_name(child), 40), json_name(child));
    }
    return put_tree(row, value, member, err);
}

typedef int decode_fn(const struct request_row *row, const struct json *value, void *member,
                      struct err *err);

static const struct {
    decode_fn *decode;
    enum request_form form;
    const char *type;
} kinds[] = {
    [KIND_TEXT] = {decode_string, FORM_STRING, "string"},
    [KIND_TOKEN] = {decode_string, FORM_STRING, "string"},
    [KIND_ID] = {decode_string, FORM_STRING, "string"},
    [KIND_UUID] = {decode_string, FORM_STRING, "UUID"},
    [KIND_URL] = {decode_string, FORM_STRING, "URL"},
    [KIND_REPO] = {decode_repo, FORM_STRING, "repository"},
    [KIND_REF] = {decode_string, FORM_STRING, "git ref"},
    [KIND_PATH] = {decode_path, FORM_STRING, "relative path"},
    [KIND_TIME] = {decode_string, FORM_STRING, "time"},
    [KIND_SSH_KEY] = {decode_string, FORM_STRING, "private key"},
    [KIND_CHOICE] = {decode_choice, FORM_STRING, "string"},
    [KIND_ENUM] = {decode_choice, FORM_ENUM, "string"},
    [KIND_INT] = {decode_int, FORM_INT, "integer"},
    [KIND_NUMBER] = {decode_number, FORM_NUMBER, "number"},
    [KIND_BOOL] = {decode_bool, FORM_BOOL, "boolean"},
    [KIND_LIST] = {decode_list, FORM_LIST, "array of strings, or a comma separated string"},
    [KIND_LINES] = {decode_list, FORM_LIST, "array of strings"},
    [KIND_DOMAINS] = {decode_list, FORM_LIST, "open, none, or array of domains"},
    [KIND_SCHEMA] = {decode_schema, FORM_JSON, "object, or a string with one"},
    [KIND_CONFIG] = {decode_config, FORM_JSON, "object, or a string with one"},
    [KIND_COMMANDS] = {request_decode_commands, FORM_JSON, "object of texts or objects"},
    [KIND_AGENTS] = {request_decode_agents, FORM_JSON, "object of texts or objects"},
    [KIND_STRINGS] = {decode_object, FORM_JSON, "object of strings"},
    [KIND_ENV] = {decode_object, FORM_JSON, "object of strings"},
    [KIND_INPUTS] = {decode_object, FORM_JSON, "object of strings"},
    [KIND_PUSH] = {request_decode_push, FORM_JSON, "boolean, or object"},
    [KIND_JSON] = {NULL, FORM_JSON, "any JSON"},
    [KIND_GROUP] = {NULL, FORM_BOOL, "object"},
};

int request_decode_value(const struct request_row *row, const struct json *value, void *member,
                         struct err *err)
{
    REQUIRE(row->kind != KIND_GROUP && row->kind != KIND_JSON);
    return kinds[row->kind].decode(row, value, member, err);
}

enum request_form request_form(const struct request_row *row)
{
    return kinds[row->kind].form;
}

const char *request_type(const struct request_row *row)
{
    return kinds[row->kind].type;
}
