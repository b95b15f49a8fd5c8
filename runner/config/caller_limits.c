#include "runner/config/caller_limits.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define MOST 1000000

static const char *const kinds[] = {"claude", "command", "python", "session"};

/* Whether one of "a|b" is `kind`. */
static bool lists(const char *list, const char *kind)
{
    size_t len = strlen(kind);
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, "|");
        if (n == len && memcmp(at, kind, n) == 0)
            return true;
        at += n;
        if (!*at)
            return false;
    }
}

static bool are_kinds(const char *list)
{
    for (const char *at = list;; at++) {
        bool known = false;
        size_t n = strcspn(at, "|");
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
            known |= n == strlen(kinds[i]) && memcmp(at, kinds[i], n) == 0;
        if (!known)
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

static int take_count(const char *text, int *value, struct err *err)
{
    int64_t number;
    if (str_to_int(text, 1, MOST, &number))
        return err_set(err, ERR_CONFIG, "must be 1..%d", MOST);
    *value = (int)number;
    return 0;
}

/* One "LIMIT=VALUE". */
static int take(const char *text, struct caller_limits *limits, struct err *err)
{
    const char *equals = strchr(text, '='), *value = equals ? equals + 1 : "";
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    char *rest = NULL;
    if (len == 5 && memcmp(text, "tasks", len) == 0)
        return take_count(value, &limits->tasks, err);
    if (len == 9 && memcmp(text, "perMinute", len) == 0)
        return take_count(value, &limits->per_minute, err);
    if (len == 9 && memcmp(text, "usdPerDay", len) == 0) {
        limits->usd_per_day = strtod(value, &rest);
        return *value && !*rest && limits->usd_per_day > 0 && limits->usd_per_day <= MOST
                   ? 0
                   : err_set(err, ERR_CONFIG, "must be a number above 0");
    }
    if (len == 5 && memcmp(text, "kinds", len) == 0) {
        limits->kinds = value;
        return are_kinds(value) ? 0
                                : err_set(err, ERR_CONFIG,
                                          "must be of claude, command, python and session, with "
                                          "'|' between them");
    }
    if (len == 6 && memcmp(text, "egress", len) == 0) {
        limits->egress_none = strcmp(value, "none") == 0;
        return limits->egress_none ? 0 : err_set(err, ERR_CONFIG, "must be none");
    }
    if (len == 4 && memcmp(text, "push", len) == 0) {
        limits->no_push = strcmp(value, "no") == 0;
        return limits->no_push ? 0 : err_set(err, ERR_CONFIG, "must be no");
    }
    return err_set(err, ERR_CONFIG,
                   "must be NAME.tasks, perMinute, usdPerDay, kinds, egress or push, '=' and a "
                   "value");
}

/* What follows "NAME." of an item of that caller's; NULL for another's. Names may have dots. */
static const char *limit_of(const char *item, const char *name)
{
    size_t len = strlen(name);
    return strncmp(item, name, len) == 0 && item[len] == '.' &&
                   !memchr(item + len + 1, '.', strcspn(item + len + 1, "="))
               ? item + len + 1
               : NULL;
}

int caller_limits_check_one(const char *limit, struct err *err)
{
    struct caller_limits ignored = {0};
    return take(limit, &ignored, err);
}

void caller_limits_check(const struct config *config, struct strlist *errors)
{
    for (size_t i = 0; i < config->caller_limits.count; i++) {
        const char *item = config->caller_limits.items[i], *limit = NULL;
        struct caller_limits limits = {0};
        struct err err;
        for (size_t k = 0; !limit && k < config->secrets.count; k++)
            limit = limit_of(item, config->secrets.items[k].name);
        if (!limit)
            strlist_addf(errors, "CALLER_LIMITS: '%.80s' names no secret of RUNNER_SECRET", item);
        else if (take(limit, &limits, &err))
            strlist_addf(errors, "CALLER_LIMITS: '%.80s': %s", item, err.msg);
    }
}

bool caller_limits_find(const struct config *config, const char *name,
                        struct caller_limits *ret_limits)
{
    struct err ignored; /* it has been checked */
    bool found = false;
    *ret_limits = (struct caller_limits){0};
    for (size_t i = 0; i < config->caller_limits.count; i++) {
        const char *limit = limit_of(config->caller_limits.items[i], name);
        if (limit && take(limit, ret_limits, &ignored) == 0)
            found = true;
    }
    return found;
}

bool caller_limits_allow(const struct caller_limits *limits, const char *kind)
{
    return !limits->kinds || lists(limits->kinds, kind);
}
