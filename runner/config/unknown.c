/*
 * A prefix is the part of a row's name or alias before the first '_', so there is no second list.
 * Some prefixes belong to other programs as well (GIT_AUTHOR_NAME is no mistake); there only a name
 * that resembles one of ours gets a warning.
 */
#include "runner/config/unknown.h"

#include "base/form.h"
#include "base/str.h"
#include "runner/config/fields.h"

#include <stdint.h>
#include <string.h>

static const char *const shared_prefixes[] = {
    "CLAUDE", "ANTHROPIC", "GIT",  "GITHUB",  "GOOGLE", "GCP", "GCS",  "GCE",  "LOG",  "CLOUD",
    "DISK",   "SYSTEM",    "TASK", "DEFAULT", "HTTP",   "MAX", "KILL", "AUTH", "IDLE", "FIRST"};

static size_t prefix_length(const char *name)
{
    size_t n = strcspn(name, "_");
    return name[n] == '_' ? n : 0;
}

/* The index'th name of the table, aliases after all names; NULL past the end. */
static const char *name_at(size_t index)
{
    if (index < config_field_count)
        return config_fields[index].name;
    for (size_t i = 0, left = index - config_field_count; i < config_field_count; i++)
        if (config_fields[i].alias && left-- == 0)
            return config_fields[i].alias;
    return NULL;
}

static bool has_prefix_of(const char *name, const char *other)
{
    size_t n = prefix_length(other);
    return n > 0 && n == prefix_length(name) && strncmp(name, other, n) == 0;
}

static bool is_shared(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(shared_prefixes); i++)
        if (strncmp(name, shared_prefixes[i], strlen(shared_prefixes[i])) == 0 &&
            name[strlen(shared_prefixes[i])] == '_')
            return true;
    return false;
}

/* True for what the client's commands read: an owner has these in the same shell. */
static bool is_of_client(const char *name)
{
    static const char *const names[] = {"RUNNER_URL", "RUNNER_NAME"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_known(const char *name)
{
    const char *known;
    if (is_of_client(name))
        return true;
    for (size_t i = 0; (known = name_at(i)); i++) {
        size_t n = strlen(known);
        if (strncmp(name, known, n) == 0 && (name[n] == '\0' || strcmp(name + n, "_FILE") == 0))
            return true;
    }
    return false;
}

static bool is_ours(const char *name)
{
    const char *known;
    for (size_t i = 0; (known = name_at(i)); i++)
        if (has_prefix_of(name, known))
            return true;
    return false;
}

/* Names with the prefix `arg`, without it; all others as "", which resembles nothing. */
static const char *next_rest(size_t index, void *arg)
{
    const char *known = name_at(index);
    if (!known)
        return NULL;
    return has_prefix_of(arg, known) ? known + prefix_length(known) + 1 : "";
}

static const char *next_name(size_t index, void *arg)
{
    (void)arg;
    return name_at(index);
}

static const char *nearest_of(const char *name)
{
    size_t n = prefix_length(name) + 1;
    const char *rest = str_nearest(name + n, next_rest, (void *)(uintptr_t)name);
    return rest ? rest - n : NULL;
}

static void warn(const char *name, struct strlist *warnings)
{
    if (!form_is_env_name(name) || strlen(name) > 64 || is_known(name) || !is_ours(name))
        return;
    const char *near = nearest_of(name);
    if (!near && !is_shared(name))
        near = str_nearest(name, next_name, NULL);
    if (near)
        strlist_addf(warnings, "unknown variable %s; did you mean %s?", name, near);
    else if (!is_shared(name))
        strlist_addf(warnings, "unknown variable %s", name);
}

void unknown_warn(const struct vars *vars, struct strlist *warnings)
{
    for (size_t i = 0; i < vars->names.count; i++)
        warn(vars->names.items[i], warnings);
}
