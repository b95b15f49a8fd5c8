#include "regex/regex.h"

#include "base/check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>

#define STEPS_MAX 5000000
#define HEAP_KIB_MAX 65536

struct regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

struct regex *regex_new(const char *pattern, struct err *err)
{
    REQUIRE(pattern);
    int error;
    PCRE2_SIZE at;
    PCRE2_UCHAR text[160];
    struct regex *match = calloc(1, sizeof(*match));
    pcre2_compile_context *lines = match ? pcre2_compile_context_create(NULL) : NULL;
    if (!lines) {
        err_sys(err, "pattern");
        free(match);
        return NULL;
    }
    pcre2_set_newline(lines, PCRE2_NEWLINE_ANYCRLF);
    match->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                PCRE2_MULTILINE | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
                                    PCRE2_NEVER_BACKSLASH_C,
                                &error, &at, lines);
    pcre2_compile_context_free(lines);
    if (!match->code) {
        pcre2_get_error_message(error, text, sizeof(text));
        err_set(err, ERR_INVALID, "the pattern is wrong at character %zu: %s", (size_t)at,
                (const char *)text);
        regex_free(match);
        return NULL;
    }
    pcre2_jit_compile(match->code, PCRE2_JIT_COMPLETE); /* Where JIT is not available, matching
                                                         * works without it. */
    match->data = pcre2_match_data_create_from_pattern(match->code, NULL);
    match->context = pcre2_match_context_create(NULL);
    if (match->data && match->context) {
        pcre2_set_match_limit(match->context, STEPS_MAX);
        pcre2_set_heap_limit(match->context, HEAP_KIB_MAX);
        return match;
    }
    err_sys(err, "pattern");
    regex_free(match);
    return NULL;
}

void regex_free(struct regex *match)
{
    if (!match)
        return;
    pcre2_match_context_free(match->context);
    pcre2_match_data_free(match->data);
    pcre2_code_free(match->code);
    free(match);
}

int regex_next(struct regex *match, const char *text, size_t len, size_t from, size_t *ret_start,
               size_t *ret_end, struct err *err)
{
    REQUIRE(from <= len);
    int rc = pcre2_match(match->code, (PCRE2_SPTR)text, len, from, 0, match->data, match->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return err_set(err, ERR_TIMEOUT, "the pattern takes too many steps (%d)", rc);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match->data);
    *ret_start = ends[0];
    *ret_end = ends[1];
    return 1;
}
