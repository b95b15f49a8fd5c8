#include "script.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum directive_kind { IS_STEP, IS_DRIP, IS_USAGE, IS_WINDOWS };

static const struct directive {
    const char *name;
    enum directive_kind kind;
    enum step_kind step;
} directives[] = {
    {"text", IS_STEP, STEP_TEXT},       {"repeat", IS_STEP, STEP_REPEAT},
    {"echo", IS_STEP, STEP_ECHO},       {"tool", IS_STEP, STEP_TOOL},
    {"error", IS_STEP, STEP_ERROR},     {"cut", IS_STEP, STEP_CUT},
    {"hang", IS_STEP, STEP_HANG},       {"stop", IS_STEP, STEP_STOP},
    {"drip", IS_DRIP, STEP_TEXT},       {"usage", IS_USAGE, STEP_TEXT},
    {"windows", IS_WINDOWS, STEP_TEXT},
};

/* The directive that starts at `at` ("[[name…"), or NULL. */
static const struct directive *directive_at(const char *at)
{
    for (size_t i = 0; i < sizeof directives / sizeof *directives; i++) {
        size_t len = strlen(directives[i].name);
        if (strncmp(at + 2, directives[i].name, len) == 0 &&
            (at[2 + len] == ':' || strncmp(at + 2 + len, "]]", 2) == 0))
            return &directives[i];
    }
    return NULL;
}

static const char *next_directive(const char *text, const struct directive **ret_directive)
{
    for (const char *at = strstr(text, "[["); at; at = strstr(at + 1, "[["))
        if ((*ret_directive = directive_at(at)))
            return at;
    return NULL;
}

bool script_present(const char *text)
{
    const struct directive *directive;
    return next_directive(text, &directive) != NULL;
}

bool script_arg(const char *args, const char *key, char *out, size_t size)
{
    size_t len = strlen(key);
    for (const char *at = args; (at = strstr(at, key)); at += len) {
        bool starts = at == args || at[-1] == ' ' || at[-1] == ':';
        if (!starts || at[len] != '=')
            continue;
        const char *value = at + len + 1;
        snprintf(out, size, "%.*s", (int)strcspn(value, " "), value);
        return true;
    }
    return false;
}

static long arg_number(const char *args, const char *key, long other)
{
    char value[32];
    return script_arg(args, key, value, sizeof value) ? strtol(value, NULL, 10) : other;
}

/* A tool's input may hold "]]", so its end is where its JSON ends. Returns what follows the
 * directive, or NULL when it is malformed. */
static const char *parse_tool(struct step *step, const char *args)
{
    size_t name = strcspn(args, " ]\n");
    const char *json = args + name + strspn(args + name, " ");
    const char *end = NULL;
    cJSON *input = cJSON_ParseWithOpts(json, &end, 0);
    if (!cJSON_IsObject(input)) {
        cJSON_Delete(input);
        return NULL;
    }
    step->arg = strndup(args, name);
    step->input = cJSON_PrintUnformatted(input);
    cJSON_Delete(input);
    if (strncmp(end, " with ", 6) == 0) {
        const char *close = strstr(end, "]]");
        if (!close)
            return NULL;
        step->say = strndup(end + 6, (size_t)(close - end - 6));
        end = close;
    }
    return strncmp(end, "]]", 2) == 0 ? end + 2 : NULL;
}

/* Reads the directive at `at`, adding a step or changing `pace` for the steps after it. */
static const char *parse_directive(struct script *script, struct step *pace,
                                   const struct directive *directive, const char *at)
{
    const char *args = at + 2 + strlen(directive->name);
    if (*args == ':')
        args++;
    struct step step = *pace;
    step.kind = directive->step;
    const char *after;
    if (directive->step == STEP_TOOL) {
        after = parse_tool(&step, args);
    } else {
        const char *close = strstr(args, "]]");
        after = close ? close + 2 : NULL;
        step.arg = strndup(args, close ? (size_t)(close - args) : 0);
        step.times = directive->step == STEP_TEXT ? 0 : arg_number(step.arg, "times", 0);
    }
    if (after && directive->kind == IS_STEP && script->n < SCRIPT_STEPS_MAX) {
        script->steps[script->n++] = step;
        return after;
    }
    if (directive->kind == IS_DRIP) {
        pace->drip_ms = (int)strtol(step.arg, NULL, 10);
    } else if (directive->kind == IS_USAGE) {
        pace->usage_in = arg_number(step.arg, "input", 0);
        pace->usage_out = arg_number(step.arg, "output", 0);
        pace->usage_cached = arg_number(step.arg, "cache_read", 0);
    } else if (directive->kind == IS_WINDOWS) {
        script_arg(step.arg, "5h", pace->used_5h, sizeof pace->used_5h);
        script_arg(step.arg, "7d", pace->used_7d, sizeof pace->used_7d);
        pace->windows_end = arg_number(step.arg, "reset", 3600);
    } else {
        after = NULL;
    }
    free(step.arg);
    free(step.input);
    free(step.say);
    return after;
}

struct script *script_new(const char *text)
{
    struct script *script = calloc(1, sizeof *script);
    struct step pace = {0};
    const struct directive *directive;
    const char *at = text;
    while (script && (at = next_directive(at, &directive))) {
        const char *after = parse_directive(script, &pace, directive, at);
        if (!after) {
            if (asprintf(&script->error, "bad or too many directives at: %.60s", at) < 0)
                script->error = NULL;
            break;
        }
        at = after;
    }
    return script;
}

void script_free(struct script *script)
{
    if (!script)
        return;
    for (size_t i = 0; i < script->n; i++) {
        free(script->steps[i].arg);
        free(script->steps[i].input);
        free(script->steps[i].say);
    }
    free(script->error);
    free(script);
}
