/*
 * Access to JSON by paths: field names and array indexes with dots between, "usage.input_tokens",
 * "errors.0.field".
 */
#ifndef TESTLIB_JSON_CHECK_H
#define TESTLIB_JSON_CHECK_H

#include <cjson/cJSON.h>
#include <stdbool.h>

/* The value at the path, or NULL. */
const cJSON *json_at(const cJSON *json, const char *path);

/* The text at the path, "" when there is none; the number at the path, NaN when there is none. */
const char *json_text(const cJSON *json, const char *path);
double json_number(const cJSON *json, const char *path);

/* Each fails the test and shows the JSON unless the statement holds. */
void assert_json_text(const cJSON *json, const char *path, const char *expected);
void assert_json_contains(const cJSON *json, const char *path, const char *part);
void assert_json_number(const cJSON *json, const char *path, double expected);
void assert_json_bool(const cJSON *json, const char *path, bool expected);
void assert_json_has(const cJSON *json, const char *path);
void assert_json_lacks(const cJSON *json, const char *path);

#endif
