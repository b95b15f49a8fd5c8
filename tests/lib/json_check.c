#include "testing.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cJSON *json_at(const cJSON *json, const char *path)
{
    while (json && *path) {
        char name[128];
        size_t len = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        json = cJSON_IsArray(json) && isdigit((unsigned char)name[0])
                   ? cJSON_GetArrayItem(json, (int)strtol(name, NULL, 10))
                   : cJSON_GetObjectItemCaseSensitive(json, name);
        path += len + (path[len] == '.');
    }
    return json;
}

const char *json_text(const cJSON *json, const char *path)
{
    const char *text = cJSON_GetStringValue(json_at(json, path));
    return text ? text : "";
}

double json_number(const cJSON *json, const char *path)
{
    const cJSON *value = json_at(json, path);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

__attribute__((noreturn)) static void mismatch(const cJSON *json, const char *path,
                                               const char *expected)
{
    char *text = cJSON_Print(json);
    print_error("%.4000s\n", text ? text : "(no JSON)");
    fail_msg("%s: expected %s", path, expected);
    abort();
}

void assert_json_text(const cJSON *json, const char *path, const char *expected)
{
    const char *text = cJSON_GetStringValue(json_at(json, path));
    if (!text || strcmp(text, expected) != 0)
        mismatch(json, path, expected);
}

void assert_json_contains(const cJSON *json, const char *path, const char *part)
{
    if (!strstr(json_text(json, path), part))
        mismatch(json, path, part);
}

void assert_json_number(const cJSON *json, const char *path, double expected)
{
    char text[40];
    snprintf(text, sizeof text, "%g", expected);
    double number = json_number(json, path);
    if (isnan(number) || fabs(number - expected) > 1e-9)
        mismatch(json, path, text);
}

void assert_json_bool(const cJSON *json, const char *path, bool expected)
{
    const cJSON *value = json_at(json, path);
    if (!cJSON_IsBool(value) || (bool)cJSON_IsTrue(value) != expected)
        mismatch(json, path, expected ? "true" : "false");
}

void assert_json_has(const cJSON *json, const char *path)
{
    if (!json_at(json, path))
        mismatch(json, path, "to be there");
}

void assert_json_lacks(const cJSON *json, const char *path)
{
    if (json_at(json, path))
        mismatch(json, path, "not to be there");
}
