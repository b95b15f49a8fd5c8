/*
 * The one pass over JSON text that json_check() and json_parse() share.
 *
 * Threads: no shared state.
 */
#ifndef JSON_SCAN_H
#define JSON_SCAN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct scan_facts {
    size_t values;
    size_t strings;      /* values and names */
    size_t long_numbers; /* numbers of more than SCAN_NUMBER_MAX bytes: cJSON would cut them */
};

#define SCAN_NUMBER_MAX 60
#define SCAN_TEXT_MAX UINT32_MAX

/* json_check(), which also counts what the tree will need. More than max_values values are
 * ERR_TOO_LARGE. */
int scan_text(const char *text, size_t len, size_t max_values, struct scan_facts *ret_facts,
              struct err *err);

#endif
