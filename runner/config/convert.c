#include "base/check.h"
#include "base/form.h"
#include "base/place.h"
#include "base/str.h"
#include "runner/config/fields.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define TEXT_MAX 4096
#define SECRET_MAX 1024

/* One function per kind. It gets the member's address and the home directory. */
typedef int convert_fn(const char *home, const struct config_field *field, const char *text,
                       void *member, struct err *err);

static int convert_int(const char *home, const struct config_field *field, const char *text,
                       void *member, struct err *err)
{
    int64_t value;
    (void)home;
    if (str_to_int(text, field->takes.min, field->takes.max, &value))
        return err_set(err, ERR_CONFIG, "must be %d..%d", field->takes.min, field->takes.max);
    *(int *)member = (int)value;
    return 0;
}

static int put_text(const char *text, void *member, struct err *err)
{
    char *copy = strdup(text);
    if (!copy)
        return err_set(err, ERR_CONFIG, "does not fit into memory");
    *(char **)member = copy;
    return 0;
}

static int convert_text(const char *home, const struct config_field *field, const char *text,
                        void *member, struct err *err)
{
    (void)home;
    size_t len = strlen(text);
    if (len > TEXT_MAX)
        return err_set(err, ERR_CONFIG, "must be at most %d bytes", TEXT_MAX);
    if ((field->flags & CONFIG_SECRET) && !form_is_token(text))
        return err_set(err, ERR_CONFIG, "must be printable ASCII without spaces");
    bool plain = str_is_utf8(text, len);
    for (const char *p = text; plain && *p; p++)
        plain = (unsigned char)*p >= 0x20 && *p != 0x7f;
    if (!plain)
        return err_set(err, ERR_CONFIG, "must be one line of UTF-8 text");
    return put_text(text, member, err);
}

static int convert_address(const char *home, const struct config_field *field, const char *text,
                           void *member, struct err *err)
{
    struct place places[PLACE_LIST_MAX];
    struct err why;
    (void)home;
    (void)field;
    if (place_list_parse(text, places, &why) < 0)
        return err_set(err, ERR_CONFIG, "must be a list of addresses to listen on (%s)", why.msg);
    return put_text(text, member, err);
}

static int convert_host(const char *home, const struct config_field *field, const char *text,
                        void *member, struct err *err)
{
    char host[256];
    (void)home;
    (void)field;
    if (strncasecmp(text, "https://", 8) == 0)
        text += 8;
    size_t len = strlen(text);
    if (len > 0 && text[len - 1] == '/')
        len--;
    snprintf(host, sizeof(host), "%.*s", (int)len, text);
    if (len >= sizeof(host) || host[0] == '*' || !form_is_domain(host))
        return err_set(err, ERR_CONFIG, "must be a host name");
    return put_text(host, member, err);
}

static int convert_path(const char *home, const struct config_field *field, const char *text,
                        void *member, struct err *err)
{
    char *path = NULL, *cwd = NULL;
    (void)field;
    if (strlen(text) >= TEXT_MAX)
        return err_set(err, ERR_CONFIG, "must be a path of less than %d bytes", TEXT_MAX);
    bool in_home = strcmp(text, "~") == 0 || str_starts(text, "~/");
    if (in_home && !home)
        return err_set(err, ERR_CONFIG, "needs HOME to be set");
    if (in_home)
        path = asprintf(&path, "%s%s", home, text + 1) < 0 ? NULL : path;
    else if (text[0] == '/')
        path = strdup(text);
    else if ((cwd = getcwd(NULL, 0)))
        path = asprintf(&path, "%s/%s", cwd, text) < 0 ? NULL : path;
    free(cwd);
    if (!path)
        return err_set(err, ERR_CONFIG, "can't be made an absolute path");
    *(char **)member = path;
    return 0;
}

static int convert_url(const char *home, const struct config_field *field, const char *text,
                       void *member, struct err *err)
{
    struct form_url url;
    (void)home;
    bool any = field->kind == KIND_ANY_URL;
    if (form_url(text, &url) || (!any && !url.tls && !url.loopback))
        return err_set(err, ERR_CONFIG, "must be an https URL%s",
                       any ? " or an http one" : " (http to loopback only)");
    if (url.has_user && !(field->flags & CONFIG_SECRET))
        return err_set(err, ERR_CONFIG, "must not hold a user or password");
    if (put_text(text, member, err))
        return -1;
    char *copy = *(char **)member;
    for (size_t n = strlen(copy); n > 0 && copy[n - 1] == '/'; n--)
        copy[n - 1] = '\0';
    return 0;
}

static int refuse_choice(const struct config_field *field, struct err *err)
{
    AUTO(buf) struct buf takes = BUF_INIT(1024);
    config_add_takes(field, &takes);
    return err_set(err, ERR_CONFIG, "must be %s", buf_str(&takes));
}

static int convert_choice(const char *home, const struct config_field *field, const char *text,
                          void *member, struct err *err)
{
    (void)home;
    int index = form_choice(field->takes.choices, text);
    if (index < 0)
        return refuse_choice(field, err);
    if (field->kind == KIND_CHOICE)
        return put_text(text, member, err);
    *(int *)member = index;
    return 0;
}

static int convert_list(const char *home, const struct config_field *field, const char *text,
                        void *member, struct err *err)
{
    struct strlist *list = member;
    const char *bad;
    int64_t seconds;
    (void)home;
    if (strlist_split(list, text))
        return err_set(err, ERR_CONFIG, "must be at most %d items", STRLIST_MAX);
    if (field->kind == KIND_DOMAINS && !form_are_domains(list, &bad))
        return err_set(err, ERR_CONFIG, "must be open, none, or domain names separated by commas");
    for (size_t i = 0; field->kind == KIND_NETWORKS && i < list->count; i++)
        if (place_is_within("", list->items[i]) < 0)
            return err_set(err, ERR_CONFIG,
                           "must be addresses or networks (10.0.0.0/8) separated by commas; "
                           "'%.60s' is none",
                           list->items[i]);
    for (size_t i = 0; field->kind == KIND_SECONDS && i < list->count; i++)
        if (str_to_int(list->items[i], field->takes.min, field->takes.max, &seconds))
            return err_set(err, ERR_CONFIG, "must be numbers of %d..%d separated by commas",
                           field->takes.min, field->takes.max);
    return 0;
}

/* Splits one secret, "name:value" or "value"; messages hold nothing of it. */
static int split_secret(const char *item, size_t index, struct config_secret *ret_secret,
                        struct err *err)
{
    const char *colon = strchr(item, ':');
    const char *value = colon ? colon + 1 : item;
    size_t name_len = colon ? (size_t)(colon - item) : 0;
    if (colon && (name_len == 0 || name_len > 32 ||
                  name_len != strspn(item, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789-_.")))
        return err_set(err, ERR_CONFIG,
                       "must be name:secret with a name of up to 32 letters, digits, '-', '_' and "
                       "'.'; number %zu is not",
                       index + 1);
    size_t len = strlen(value);
    if (len < CONFIG_SECRET_MIN || len > SECRET_MAX || !form_is_token(value))
        return err_set(err, ERR_CONFIG,
                       "must have %d to %d printable ASCII characters without spaces in each "
                       "secret; number %zu has not",
                       CONFIG_SECRET_MIN, SECRET_MAX, index + 1);
    int rc = colon ? asprintf(&ret_secret->name, "%.*s", (int)name_len, item)
                   : asprintf(&ret_secret->name, "secret-%zu", index + 1);
    ret_secret->name = rc < 0 ? NULL : ret_secret->name;
    ret_secret->value = str_copy(value, len);
    return ret_secret->name && ret_secret->value ? 0 : err_set(err, ERR_CONFIG, "needs memory");
}

static int convert_secrets(const char *home, const struct config_field *field, const char *text,
                           void *member, struct err *err)
{
    struct config_secrets *secrets = member;
    AUTO(strlist) struct strlist items = STRLIST_INIT;
    (void)home;
    (void)field;
    strlist_split(&items, text);
    secrets->items = calloc(items.count ? items.count : 1, sizeof(*secrets->items));
    if (items.failed || items.count == 0 || !secrets->items)
        return err_set(err, ERR_CONFIG, "must hold at least one secret");
    for (size_t i = 0; i < items.count; i++) {
        secrets->count++;
        if (split_secret(items.items[i], i, &secrets->items[i], err))
            return -1;
        for (size_t k = 0; k < i; k++)
            if (strcmp(secrets->items[k].name, secrets->items[i].name) == 0)
                return err_set(err, ERR_CONFIG, "must not give the name '%s' twice",
                               secrets->items[i].name);
    }
    return 0;
}

/* The memory of this machine, or the container's limit where there is one. */
static int machine_memory_mb(void)
{
    char text[32] = "";
    int64_t limit, mb = (int64_t)sysconf(_SC_PHYS_PAGES) / 1024 * (sysconf(_SC_PAGESIZE) / 1024);
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "re");
    if (file && fgets(text, sizeof(text), file)) {
        text[strcspn(text, "\n")] = '\0';
        if (str_to_int(text, 1, INT64_MAX, &limit) == 0 && limit >> 20 < mb)
            mb = limit >> 20;
    }
    if (file)
        fclose(file);
    return mb > INT_MAX ? INT_MAX : (int)mb;
}

int config_machine_memory_mb(void)
{
    static _Atomic int mb;
    if (mb == 0)
        mb = machine_memory_mb();
    return mb;
}

static int cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* Reads one "name=number". */
static int set_limit(const char *item, struct config_limits *limits, struct err *err)
{
    const struct {
        const char *name;
        int *member;
        int min, max;
    } numbers[] = {{"memoryMb=", &limits->memory_mb, 16, 10000000},
                   {"pids=", &limits->pids, 1, 1000000},
                   {"diskMb=", &limits->disk_mb, 1, 100000000}};
    int64_t value;
    char *end;
    if (strcmp(item, "cpu=cores") == 0 || strcmp(item, "memoryMb=half") == 0)
        return 0; /* Left as it is. */
    if (str_starts(item, "cpu=")) {
        limits->cpu = strtod(item + 4, &end);
        return *end == '\0' && item[4] && limits->cpu >= 0.01 && limits->cpu <= 1024
                   ? 0
                   : err_set(err, ERR_CONFIG, "must have a cpu of 0.01..1024 or the word cores");
    }
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        if (!str_starts(item, numbers[i].name))
            continue;
        const char *name = numbers[i].name, *text = item + strlen(name);
        if (str_to_int(text, numbers[i].min, numbers[i].max, &value))
            return err_set(err, ERR_CONFIG, "must have %s%d..%d", name, numbers[i].min,
                           numbers[i].max);
        *numbers[i].member = (int)value;
        return 0;
    }
    return err_set(err, ERR_CONFIG, "must be name=number of cpu, memoryMb, pids and diskMb");
}

static int convert_limits(const char *home, const struct config_field *field, const char *text,
                          void *member, struct err *err)
{
    AUTO(strlist) struct strlist items = STRLIST_INIT;
    struct config_limits limits = {.cpu = cores(),
                                   .memory_mb = config_machine_memory_mb() / 2,
                                   .pids = 1024,
                                   .disk_mb = 10240};
    (void)home;
    (void)field;
    if (strlist_split(&items, text))
        return err_set(err, ERR_CONFIG, "must be at most %d items", STRLIST_MAX);
    for (size_t i = 0; i < items.count; i++)
        if (set_limit(items.items[i], &limits, err))
            return -1;
    *(struct config_limits *)member = limits;
    return 0;
}

static convert_fn *const converters[] = {
    [KIND_INT] = convert_int,         [KIND_TEXT] = convert_text,
    [KIND_ADDRESS] = convert_address, [KIND_HOST] = convert_host,
    [KIND_PATH] = convert_path,       [KIND_URL] = convert_url,
    [KIND_ANY_URL] = convert_url,     [KIND_CHOICE] = convert_choice,
    [KIND_ENUM] = convert_choice,     [KIND_LIST] = convert_list,
    [KIND_SECONDS] = convert_list,    [KIND_DOMAINS] = convert_list,
    [KIND_NETWORKS] = convert_list,   [KIND_SECRETS] = convert_secrets,
    [KIND_LIMITS] = convert_limits,
};

int config_convert(struct config *config, const struct config_field *field, const char *home,
                   const char *text, struct err *err)
{
    REQUIRE(field && text);
    return converters[field->kind](home, field, text, config_member(config, field), err);
}

void config_wipe_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void config_clear(struct config *config, const struct config_field *field)
{
    void *member = config_member(config, field);
    struct config_secrets *secrets = member;
    switch (field->kind) {
    case KIND_INT:
    case KIND_ENUM:
    case KIND_LIMITS:
        return;
    case KIND_LIST:
    case KIND_SECONDS:
    case KIND_DOMAINS:
    case KIND_NETWORKS:
        strlist_done(member);
        return;
    case KIND_SECRETS:
        for (size_t i = 0; i < secrets->count; i++) {
            free(secrets->items[i].name);
            config_wipe_free(secrets->items[i].value);
        }
        free(secrets->items);
        *secrets = (struct config_secrets){0};
        return;
    case KIND_TEXT:
    case KIND_ADDRESS:
    case KIND_HOST:
    case KIND_PATH:
    case KIND_URL:
    case KIND_ANY_URL:
    case KIND_CHOICE:
        config_wipe_free(*(char **)member);
        *(char **)member = NULL;
        return;
    }
}
