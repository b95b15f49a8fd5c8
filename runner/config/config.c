#include "runner/config/config.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/place.h"
#include "base/str.h"
#include "runner/config/caller_limits.h"
#include "runner/config/fields.h"
#include "runner/config/unknown.h"
#include "runner/config/vars.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UID_LAST (UINT32_MAX - 1) /* the one behind it means no user */

const struct config_field config_fields[] = {
#define CONFIG_ROW(kind_, member, name_, alias_, default_, takes_, flags_, help_) \
    {.kind = KIND_##kind_,                                                        \
     .name = (name_),                                                             \
     .alias = (alias_),                                                           \
     .default_text = (default_),                                                  \
     .takes = {takes_},                                                           \
     .flags = (flags_),                                                           \
     .help = (help_),                                                             \
     .offset = offsetof(struct config, member)},
    CONFIG_FIELDS(CONFIG_ROW)
#undef CONFIG_ROW
};
const size_t config_field_count = COUNT_OF(config_fields);

void *config_member(const struct config *config, const struct config_field *field)
{
    return (char *)(uintptr_t)config + field->offset;
}

/* A load under way. */
struct load {
    struct vars env, file;
    struct config_report *report;
    const struct config *now; /* what a reload replaces, or NULL */
    bool no_callers;
};

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config_field_count; i++) {
        config_clear(config, &config_fields[i]);
        if (config->values)
            config_wipe_free(config->values[i].text);
    }
    free(config->values);
    free(config);
}

void config_report_done(struct config_report *report)
{
    strlist_done(&report->errors);
    strlist_done(&report->warnings);
}

/* The content of the file that `variable` names, without the line end at its end. */
static char *read_value_file(const char *variable, const char *path, struct config_report *report)
{
    struct err err = ERR_INIT;
    AUTO(buf_wipe) struct buf text = BUF_INIT(VARS_FILE_MAX);
    if (file_read(path, &text, &err)) {
        strlist_addf(&report->errors, "%s: %s", variable, err.msg);
        return NULL;
    }
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.data[--text.len] = '\0';
    if (strlen(buf_str(&text)) != text.len || text.len == 0) {
        strlist_addf(&report->errors, "%s: '%s' %s", variable, path,
                     text.len == 0 ? "is empty" : "holds a NUL");
        return NULL;
    }
    return strdup(buf_str(&text));
}

/*
 * Looks a field up in one place under its four spellings. Returns 1 and the text (NULL after an
 * error was reported), or 0 when it is not there.
 */
static int look_up(struct load *load, const struct vars *vars, const struct config_field *field,
                   char **ret_text)
{
    const char *bases[] = {field->name, field->alias}, *value = NULL;
    char names[4][64], *found = NULL;
    bool is_file = false;
    for (size_t i = 0; i < 4; i++) {
        if (!bases[i / 2])
            break;
        snprintf(names[i], sizeof(names[i]), "%s%s", bases[i / 2], i % 2 ? "_FILE" : "");
        const char *other = vars_get(vars, names[i]);
        if (!other)
            continue;
        if (value && (i % 2 || is_file || strcmp(value, other) != 0)) {
            strlist_addf(&load->report->errors, "%s and %s are both set", found, names[i]);
            *ret_text = NULL;
            return 1;
        }
        found = names[i];
        value = other;
        is_file = i % 2;
    }
    if (value)
        *ret_text = is_file ? read_value_file(found, value, load->report) : strdup(value);
    return value != NULL;
}

/* Finds the text of a field; -1 after an error was reported. */
static int find_text(struct load *load, const struct config_field *field,
                     struct config_value *value)
{
    if (look_up(load, &load->env, field, &value->text)) {
        value->from = "environment";
        value->given = true;
    } else if (look_up(load, &load->file, field, &value->text)) {
        value->from = "env-file";
        value->given = true;
    } else {
        value->from = "default";
        if (!field->default_text)
            return 0;
        if (strcmp(field->default_text, "cores") != 0)
            value->text = strdup(field->default_text);
        else if (asprintf(&value->text, "%ld", sysconf(_SC_NPROCESSORS_ONLN)) < 0)
            value->text = NULL;
    }
    return value->text ? 0 : -1;
}

static void report_wrong(struct load *load, const struct config_field *field, const char *text,
                         const struct err *err)
{
    struct strlist *errors = &load->report->errors;
    if (field->flags & CONFIG_SECRET)
        strlist_addf(errors, "%s %s", field->name, err->msg);
    else
        strlist_addf(errors, "%s %s, got '%.80s'", field->name, err->msg, text);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* On a reload: keeps the old value of a setting that cannot change while the service runs. */
static void keep_value(struct load *load, size_t index, struct config_value *value)
{
    const struct config_value *now = &load->now->values[index];
    if (same_text(now->text, value->text))
        return;
    strlist_addf(&load->report->warnings, "%s has changed; that takes a restart",
                 config_fields[index].name);
    config_wipe_free(value->text);
    *value = *now;
    value->text = now->text ? strdup(now->text) : NULL;
}

static void load_field(struct load *load, struct config *config, size_t index)
{
    const struct config_field *field = &config_fields[index];
    struct config_value *value = &config->values[index];
    struct err err = ERR_INIT;
    if (find_text(load, field, value))
        return;
    if (load->now && !(field->flags & CONFIG_RELOADABLE))
        keep_value(load, index, value);
    if (!value->text) {
        if ((field->flags & CONFIG_REQUIRED) && !load->no_callers)
            strlist_addf(&load->report->errors,
                         "%s is not set: callers need a secret of at least %d characters (make "
                         "one with: openssl rand -hex 24)",
                         field->name, CONFIG_SECRET_MIN);
        return;
    }
    if (config_convert(config, field, vars_get(&load->env, "HOME"), value->text, &err))
        report_wrong(load, field, value->text, &err);
    else if (value->given && (field->flags & CONFIG_LATER))
        strlist_addf(&load->report->warnings, "%s is set, but nothing uses it yet", field->name);
}

static bool is_given(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config_field_count; i++)
        if (strcmp(config_fields[i].name, name) == 0)
            return config->values[i].given;
    return false;
}

/* 0 none, 1 restricted, 2 full. */
static int rank_of(int jail, int automatic)
{
    return jail == CONFIG_JAIL_FULL         ? 2
           : jail == CONFIG_JAIL_RESTRICTED ? 1
           : jail == CONFIG_JAIL_NONE       ? 0
                                            : automatic;
}

int config_jail_most(const struct config *config)
{
    return rank_of(config->jail, 2);
}

/* When the owner has set JAIL, the default of JAIL_MIN does not require more than that. */
int config_jail_least(const struct config *config)
{
    int least = rank_of(config->jail_min, 0), most = config_jail_most(config);
    return least > most && !is_given(config, "JAIL_MIN") ? most : least;
}

void config_print_unchanging(const struct config *config, struct buf *out)
{
    for (size_t i = 0; i < config_field_count; i++)
        if (config->values[i].given && strcmp(config->values[i].from, "environment") == 0)
            buf_addf(out, "%s%s", out->len > 0 ? ", " : "", config_fields[i].name);
}

bool config_uids(const struct config *config, unsigned *ret_first, unsigned *ret_last)
{
    const char *text = config->uids, *dash = text ? strchr(text, '-') : NULL;
    int64_t first, last;
    AUTO(str) char *low = dash ? str_copy(text, (size_t)(dash - text)) : NULL;
    if (!low || str_to_int(low, 0, UID_LAST, &first) || str_to_int(dash + 1, 0, UID_LAST, &last))
        return false;
    *ret_first = (unsigned)first;
    *ret_last = (unsigned)last;
    return true;
}

static void check_uids(struct load *load, const struct config *config)
{
    unsigned first, last;
    struct strlist *errors = &load->report->errors;
    if (!config->uids)
        return;
    if (!config_uids(config, &first, &last) || first == 0 || last < first ||
        last - first >= CONFIG_UIDS_MAX)
        strlist_addf(errors,
                     "RUNNER_UIDS must be first-last, at most %d numbers without 0, got '%.40s'",
                     CONFIG_UIDS_MAX, config->uids);
    else if (last - first + 1 < (unsigned)config->max_concurrent_tasks)
        strlist_addf(errors, "RUNNER_UIDS has %u users, MAX_CONCURRENT_TASKS is %d",
                     last - first + 1, config->max_concurrent_tasks);
}

static void check_lan(struct load *load, const struct config *config)
{
    const struct strlist *lan = &config->egress_lan;
    if (lan->count == 1 && strcmp(lan->items[0], "none") == 0)
        return;
    for (size_t i = 0; i < lan->count; i++)
        if (place_is_within("", lan->items[i]) < 0)
            strlist_addf(&load->report->errors,
                         "EGRESS_LAN must be none, or networks like 192.168.1.0/24, got '%.60s'",
                         lan->items[i]);
}

char *config_jail_path(const char *item, bool *ret_writable)
{
    size_t len = strlen(item);
    bool writable = len > 3 && strcmp(item + len - 3, ":rw") == 0;
    len -= writable ? 3 : 0;
    while (len > 1 && item[len - 1] == '/')
        len--;
    AUTO(str) char *path = str_copy(item, len);
    if (!path || path[0] != '/' || !path_is_inside(path + 1))
        return NULL;
    *ret_writable = writable;
    return STEAL_PTR(path);
}

/* Refuses what would keep every task from its start. */
static void check_paths(struct load *load, const struct config *config)
{
    bool ignored;
    for (size_t i = 0; i < config->jail_paths.count; i++) {
        AUTO(str) char *path = config_jail_path(config->jail_paths.items[i], &ignored);
        if (!path)
            strlist_addf(&load->report->errors,
                         "JAIL_PATHS must be whole paths, like /srv/cache or /srv/cache:rw, got "
                         "'%.60s'",
                         config->jail_paths.items[i]);
    }
}

/* Checks settings that must fit together. */
static void check_together(struct load *load, const struct config *config)
{
    if (!config->cf_access_team_domain != !config->cf_access_aud)
        strlist_add(&load->report->errors,
                    "CF_ACCESS_TEAM_DOMAIN and CF_ACCESS_AUD must be set together");
    if (config_jail_least(config) > config_jail_most(config))
        strlist_add(&load->report->errors, "JAIL is weaker than JAIL_MIN");
    if (config_jail_most(config) < 2 && config->egress.count > 0 &&
        strcmp(config->egress.items[0], "open") != 0)
        strlist_add(&load->report->errors,
                    "EGRESS other than open takes tier full, and JAIL is weaker");
    if (config->system_prompt_file && config->system_prompt_secret)
        strlist_add(&load->report->errors,
                    "SYSTEM_PROMPT_FILE and SYSTEM_PROMPT_SECRET are both set");
    check_uids(load, config);
    check_lan(load, config);
    check_paths(load, config);
    caller_limits_check(config, &load->report->errors);
}

static struct config *load_all(struct load *load, const struct config_source *source)
{
    AUTO(config) struct config *config = calloc(1, sizeof(*config));
    if (!config || !(config->values = calloc(config_field_count, sizeof(*config->values))))
        return NULL;
    if (vars_read_env(&load->env, source->env))
        return NULL;
    for (size_t i = 0; i < CONFIG_ENV_FILES_MAX && source->env_files[i]; i++)
        vars_read_file(&load->file, "--env-file", source->env_files[i], &load->report->errors);
    for (size_t i = 0; i < config_field_count; i++)
        load_field(load, config, i);
    check_together(load, config);
    unknown_warn(&load->env, &load->report->warnings);
    unknown_warn(&load->file, &load->report->warnings);
    return STEAL_PTR(config);
}

struct config *config_reload(const struct config *now, const struct config_source *source,
                             struct config_report *report, struct err *err)
{
    struct load load = {.report = report, .now = now, .no_callers = source->no_callers};
    AUTO(config) struct config *config = load_all(&load, source);
    vars_done(&load.env);
    vars_done(&load.file);
    size_t errors = report->errors.count;
    if (!config || report->errors.failed || report->warnings.failed) {
        err_set(err, ERR_CONFIG, "configuration: out of memory");
        return NULL;
    }
    if (errors == 0)
        return STEAL_PTR(config);
    if (errors > 1)
        err_set(err, ERR_CONFIG, "%.200s (and %zu more)", report->errors.items[0], errors - 1);
    else
        err_set(err, ERR_CONFIG, "%s", report->errors.items[0]);
    return NULL;
}

struct config *config_load(const struct config_source *source, struct config_report *report,
                           struct err *err)
{
    REQUIRE(source);
    return config_reload(NULL, source, report, err);
}

int config_redact(const struct config *config, struct redact_set *set)
{
    int rc = 0;
    for (size_t i = 0; i < config_field_count; i++) {
        const struct config_field *field = &config_fields[i];
        if ((field->flags & CONFIG_SECRET) && field->kind != KIND_SECRETS && config->values[i].text)
            rc |= redact_add(set, config->values[i].text);
    }
    for (size_t i = 0; i < config->secrets.count; i++)
        rc |= redact_add(set, config->secrets.items[i].value);
    return rc ? -1 : 0;
}
