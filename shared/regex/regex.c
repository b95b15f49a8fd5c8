#include "regex/regex.h"

#include "base/check.h"
#include "regex/spelling.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>
#include <string.h>

#define SPELLED_BYTES_MAX (64u << 10)
#define STACK_BYTES_MAX (8u << 20)
#define STEPS_MAX 5000000
#define HEAP_KIB_MAX 65536

struct regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL: the small one that PCRE2 has by itself */
};

/* Says where the pattern is wrong, as long as that is the caller's own spelling. */
static int refuse(const char *pattern, const struct buf *spelled, int error, size_t at,
                  struct err *err)
{
    PCRE2_UCHAR text[160];
    pcre2_get_error_message(error, text, sizeof(text));
    if (strcmp(pattern, buf_str(spelled)) != 0)
        return err_set(err, ERR_INVALID, "the pattern is wrong: %s", (const char *)text);
    return err_set(err, ERR_INVALID, "the pattern is wrong at character %zu: %s", at,
                   (const char *)text);
}

static int compile(struct regex *match, const char *pattern, struct err *err)
{
    int error;
    PCRE2_SIZE at;
    bool ascii;
    AUTO(buf) struct buf spelled = BUF_INIT(SPELLED_BYTES_MAX);
    if (spelling_of(pattern, &spelled, &ascii))
        return err_set(err, ERR_INVALID, "the pattern is too long");
    pcre2_compile_context *lines = pcre2_compile_context_create(NULL);
    if (!lines)
        return err_sys(err, "pattern");
    pcre2_set_newline(lines, PCRE2_NEWLINE_ANYCRLF);
    match->code = pcre2_compile((PCRE2_SPTR)buf_str(&spelled), spelled.len,
                                PCRE2_MULTILINE | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
                                    PCRE2_NEVER_BACKSLASH_C | (ascii ? 0 : PCRE2_UCP),
                                &error, &at, lines);
    pcre2_compile_context_free(lines);
    return match->code ? 0 : refuse(pattern, &spelled, error, at, err);
}

struct regex *regex_new(const char *pattern, struct err *err)
{
    REQUIRE(pattern);
    struct regex *match = calloc(1, sizeof(*match));
    if (!match || compile(match, pattern, err)) {
        if (!match)
            err_sys(err, "pattern");
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
        match->stack = pcre2_jit_stack_create(32768, STACK_BYTES_MAX, NULL);
        if (match->stack)
            pcre2_jit_stack_assign(match->context, NULL, match->stack);
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
    if (match->stack)
        pcre2_jit_stack_free(match->stack);
    pcre2_match_data_free(match->data);
    pcre2_code_free(match->code);
    free(match);
}

int regex_next(struct regex *match, const char *text, size_t len, size_t from, size_t *ret_start,
               size_t *ret_end, struct err *err)
{
    REQUIRE(from <= len);
    int rc = pcre2_match(match->code, (PCRE2_SPTR)text, len, from, 0, match->data, match->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* Without JIT it has the heap. */
        rc = pcre2_match(match->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_JIT, match->data,
                         match->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return err_set(err, ERR_MISMATCH, "the pattern takes too many steps on this text (%d)", rc);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match->data);
    *ret_start = ends[0];
    *ret_end = ends[1];
    return 1;
}
