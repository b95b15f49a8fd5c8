/*
 * Looking into JSON. A path is field names and array indexes with dots between:
 * "usage.input_tokens", "errors.0.field".
 */
#ifndef TESTLIB_JSON_CHECK_H
#define TESTLIB_JSON_CHECK_H

#include <cjson/cJSON.h>
#include <stdbool.h>

/* The value at the path, or NULL. */
const cJSON *json_at(const cJSON *json, const char *path);

/* Its text; "" when it isn't a string. Its number; NaN when it isn't one. */
const char *json_text(const cJSON *json, const char *path);
double json_number(const cJSON *json, const char *path);

/* Fail the test, showing the JSON, unless it is so. */
void assert_json_text(const cJSON *json, const char *path, const char *expected);
void assert_json_contains(const cJSON *json, const char *path, const char *part);
void assert_json_number(const cJSON *json, const char *path, double expected);
void assert_json_bool(const cJSON *json, const char *path, bool expected);
void assert_json_has(const cJSON *json, const char *path);
void assert_json_lacks(const cJSON *json, const char *path);

#endif
