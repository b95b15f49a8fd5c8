/*
 * Text: checks, numbers, encodings, and the nearest name to a misspelt one.
 *
 * Threads: no shared state.
 * Ownership: the caller frees the text of str_copy(); buffers are borrowed.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first len bytes of text, up to a NUL, as a new string that the caller frees. NULL when memory
 * ran out. */
char *str_copy(const char *text, size_t len);

/* Length of the valid UTF-8 character at the start of text (1..4), or 0: overlong forms,
 * surrogates and anything past U+10FFFF are not valid. */
size_t str_utf8_char(const char *text, size_t len);

/* True when all of text is valid UTF-8. */
bool str_is_utf8(const char *text, size_t len);

/* Appends text with every invalid byte replaced by U+FFFD. */
void str_add_utf8(struct buf *out, const char *text, size_t len);

/* True when nothing but spaces, tabs, line ends and other Unicode white space is in text. */
bool str_is_blank(const char *text, size_t len);

/* Whole text as a decimal number within min..max. Returns 0, or -1 with *ret_value untouched. */
int str_to_int(const char *text, int64_t min, int64_t max, int64_t *ret_value);

bool str_starts(const char *text, const char *prefix);
bool str_equal_nocase(const char *a, const char *b);

/* The candidate that `name` was most likely meant to be, or NULL when none is near. `next` is
 * called with 0, 1, 2, … until it returns NULL. */
const char *str_nearest(const char *name, const char *(*next)(size_t index, void *arg), void *arg);

/* Appends len bytes as lower-case hex. */
void str_add_hex(struct buf *out, const void *data, size_t len);

enum base64_kind { BASE64_STD, BASE64_URL /* no padding */ };
void str_add_base64(struct buf *out, enum base64_kind kind, const void *data, size_t len);

/* Appends the bytes that base64url text without padding stands for. -1 when it has another
 * character, a length that no encoding has, or nonzero unused bits: each byte string has exactly
 * one text. */
int str_read_base64url(const char *text, size_t len, struct buf *out);

/* The same for the standard alphabet with its padding. */
int str_read_base64(const char *text, size_t len, struct buf *out);

/* Appends text percent-encoded: all but unreserved characters (RFC 3986) and those in `keep`. */
void str_add_url(struct buf *out, const char *text, const char *keep);

/* Appends text so that it can stand between tags and in quoted attributes of HTML. */
void str_add_html(struct buf *out, const char *text);

/* Appends "a, b or c" for "a|b|c"; NULL is nothing. */
void str_add_choices(struct buf *out, const char *choices);

/* Appends text as the inside of a JSON string (no quotes), invalid UTF-8 replaced. */
void str_add_json(struct buf *out, const char *text, size_t len);

/* Frees *to and puts a copy of text there (NULL for NULL). -1 when memory ran out; then *to is
 * unchanged. */
int str_replace(char **to, const char *text);

#endif
