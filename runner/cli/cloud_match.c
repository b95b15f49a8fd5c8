/* Compares the wanted state with the existing one, and merges them. */
#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"
#include "google/jobs.h"
#include "runner/cli/cloud.h"

#include <stdlib.h>
#include <string.h>

/* --- values --------------------------------------------------------------------------------- */

/* The value of a number, a quantity ("1000m", "2Gi") or a duration ("3600s"). */
static bool amount(const struct json *node, double *ret_value)
{
    const char *text = json_text(node);
    if (!text)
        return json_number(node, ret_value) == 0;
    size_t len = strlen(text);
    if (len > 1 && len < 40 && text[len - 1] == 's') {
        char digits[40], *end;
        memcpy(digits, text, len - 1);
        digits[len - 1] = '\0';
        *ret_value = strtod(digits, &end);
        return !*end && strspn(digits, "0123456789.") == len - 1;
    }
    return jobs_quantity(text, ret_value) == 0;
}

/* True when `found` ends with the wanted name: Google returns names as full addresses. */
static bool ends_with_name(const char *found, const char *wish)
{
    size_t n = strlen(found), k = strlen(wish);
    return str_starts(wish, "projects/") && n > k && found[n - k - 1] == '/' &&
           strcmp(found + n - k, wish) == 0;
}

static bool is_nothing(const struct json *wish)
{
    double value;
    bool flag;
    const char *text = json_text(wish);
    return (text && !*text) || (json_bool(wish, &flag) == 0 && !flag) ||
           (amount(wish, &value) && value == 0);
}

static bool same_value(const struct json *wish, const struct json *found)
{
    double a, b;
    bool x, y;
    const char *s = json_text(wish), *t = json_text(found);
    if (!found || json_type(found) == JSON_NULL)
        return is_nothing(wish);
    if (s && t && (strcmp(s, t) == 0 || ends_with_name(t, s)))
        return true;
    if (json_bool(wish, &x) == 0)
        return json_bool(found, &y) == 0 && x == y;
    return amount(wish, &a) && amount(found, &b) && a == b;
}

/* --- differences ---------------------------------------------------------------------------- */

static bool same(const struct json *wish, const struct json *found, const char *label,
                 struct strlist *names);

static bool one_of(const char *name, const char *const *names)
{
    for (; name && *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* True for members whose own name tells a person nothing; their content does. */
static bool is_outer(const char *name)
{
    static const char *const outer[] = {"template", "containers", "resources", "limits", NULL};
    return one_of(name, outer);
}

static const struct json *item_named(const struct json *list, const char *name)
{
    for (const struct json *item = json_first(list); item; item = json_next(item)) {
        const char *is = json_text(json_get(item, "name"));
        if (is && name && strcmp(is, name) == 0)
            return item;
    }
    return NULL;
}

static bool has_item(const struct json *list, const struct json *wish)
{
    for (const struct json *item = json_first(list); item; item = json_next(item))
        if (same(wish, item, "", NULL))
            return true;
    return false;
}

/* True when everything wanted is there, and nothing else; in the job's environment and its
 * containers there may be more, because others may have added to them. */
static bool same_list(const struct json *wish, const struct json *found, const char *name,
                      const char *label, struct strlist *names)
{
    bool is_env = name && strcmp(name, "env") == 0;
    bool is_containers = name && strcmp(name, "containers") == 0, all = true;
    const struct json *item = json_first(wish), *other = json_first(found);
    if (!is_env && !is_containers && json_count(wish) != json_count(found))
        return false;
    for (; item; item = json_next(item), other = other ? json_next(other) : NULL) {
        if (is_containers)
            all &= same(item, other, label, names);
        else if (is_env)
            all &= same(item, item_named(found, json_text(json_get(item, "name"))), label, NULL);
        else
            all &= has_item(found, item);
    }
    return all;
}

static bool same_members(const struct json *wish, const struct json *found, const char *label,
                         struct strlist *names)
{
    bool all = true;
    for (const struct json *at = json_first(wish); at; at = json_next(at)) {
        const char *name = json_name(at);
        const char *inner = label || is_outer(name) ? label : name;
        const struct json *other = json_get(found, name);
        enum json_type type = json_type(at);
        bool is = type == JSON_ARRAY ? same_list(at, other, name, inner ? inner : label, names)
                                     : same(at, other, inner, names);
        if (!is && names && inner && !strlist_has(names, inner))
            strlist_add(names, inner);
        all &= is;
    }
    return all;
}

static bool same(const struct json *wish, const struct json *found, const char *label,
                 struct strlist *names)
{
    return json_type(wish) == JSON_OBJECT ? same_members(wish, found, label, names)
                                          : same_value(wish, found);
}

void match_differences(const struct json *wish, const struct json *found, struct strlist *names)
{
    REQUIRE(wish && names);
    same(wish, found, NULL, names);
}

/* --- merging -------------------------------------------------------------------------------- */

static void copy(struct json_writer *w, const char *name, const struct json *node)
{
    AUTO(buf) struct buf text = BUF_INIT(CLOUD_BODY_MAX);
    json_print(node, &text);
    if (!buf_ok(&text))
        w->out->failed = true;
    else
        json_add_raw(w, name, buf_str(&text), text.len);
}

static void merge_containers(struct json_writer *w, const struct json *found,
                             const struct json *wish)
{
    const struct json *other = json_first(wish);
    for (const struct json *item = json_first(found); item; item = json_next(item)) {
        match_merge(w, NULL, item, other);
        other = other ? json_next(other) : NULL;
    }
    for (; other; other = json_next(other))
        copy(w, NULL, other);
}

static void merge_env(struct json_writer *w, const struct json *found, const struct json *wish)
{
    for (const struct json *item = json_first(found); item; item = json_next(item))
        if (!item_named(wish, json_text(json_get(item, "name"))))
            copy(w, NULL, item);
    for (const struct json *item = json_first(wish); item; item = json_next(item))
        copy(w, NULL, item);
}

static void merge_objects(struct json_writer *w, const char *name, const struct json *found,
                          const struct json *wish)
{
    json_open_object(w, name);
    for (const struct json *at = json_first(found); at; at = json_next(at))
        if (strcmp(json_name(at), "buildInfo") != 0) /* Google writes this member itself and does
                                                      * not accept it back. */
            match_merge(w, json_name(at), at, json_get(wish, json_name(at)));
    for (const struct json *at = json_first(wish); at; at = json_next(at))
        if (!json_get(found, json_name(at)))
            copy(w, json_name(at), at);
    json_close(w);
}

void match_merge(struct json_writer *w, const char *name, const struct json *found,
                 const struct json *wish)
{
    if (!wish) {
        copy(w, name, found);
    } else if (json_type(found) == JSON_OBJECT && json_type(wish) == JSON_OBJECT) {
        merge_objects(w, name, found, wish);
    } else if (name && (strcmp(name, "containers") == 0 || strcmp(name, "env") == 0)) {
        json_open_array(w, name);
        (*name == 'e' ? merge_env : merge_containers)(w, found, wish);
        json_close(w);
    } else {
        copy(w, name, wish);
    }
}
