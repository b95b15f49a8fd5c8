/*
 * Theory of operation: a loop over tokens with one state variable, `want`, and one bit per level
 * that says whether the container there is an object. Nothing recurses. Strings are read eight
 * bytes at a time while they are plain ASCII. The names of open objects are kept, so that a
 * repeated name is found (names.h).
 */
#include "base/str.h"
#include "json/json.h"
#include "json/names.h"
#include "json/scan.h"

#include <ctype.h>
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum want { WANT_VALUE, WANT_FIRST_VALUE, WANT_NAME, WANT_FIRST_NAME, WANT_COMMA, WANT_END, WRONG };

struct scan {
    const char *text;
    size_t len;
    size_t at;
    unsigned depth;
    uint64_t objects;               /* bit d: the container that is open at depth d + 1 */
    uint32_t first[JSON_DEPTH_MAX]; /* where the names of that container begin */
    struct names names;
    struct scan_facts facts;
    size_t max_values;
    struct err *err;
};

static enum want wrong(struct scan *s, size_t at, const char *what)
{
    err_set(s->err, ERR_INVALID, "JSON: %s at byte %zu", what, at);
    return WRONG;
}

/* The next character that is not white space, or -1 at the end. */
static int peek(struct scan *s)
{
    for (; s->at < s->len; s->at++) {
        char c = s->text[s->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return (unsigned char)c;
    }
    return -1;
}

/* True for what needs a closer look inside a string. */
static inline bool is_special(char c)
{
    return (signed char)c < 0x20 || c == '"' || c == '\\';
}

/* Passes over characters that need no closer look. */
static size_t skip_plain(const char *text, size_t at, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    while (at + 8 <= len) {
        uint64_t word;
        memcpy(&word, text + at, 8);
        word = le64toh(word);
        uint64_t control = word - ones * 0x20;
        uint64_t quote = (word ^ ones * '"') - ones;
        uint64_t escape = (word ^ ones * '\\') - ones;
        uint64_t found = (word | control | quote | escape) & ones * 0x80;
        if (found) /* The lowest marked byte is right; a borrow can only falsify the ones above
                    * it. */
            return at + (size_t)__builtin_ctzll(found) / 8;
        at += 8;
    }
    while (at < len && !is_special(text[at]))
        at++;
    return at;
}

/* Four hex digits as a number, or -1. */
static int read_hex4(const char *text, size_t len)
{
    int value = 0;
    if (len < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int c = (unsigned char)text[i];
        if (!isxdigit(c))
            return -1;
        value = value << 4 | (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* Reads the escape at s->at, which is a backslash. */
static enum want pass_escape(struct scan *s)
{
    const char *p = s->text + s->at;
    size_t left = s->len - s->at;
    if (left < 2)
        return wrong(s, s->len, "the text ends inside a string");
    if (p[1] != 'u') {
        if (p[1] == '\0' || !strchr("\"\\/bfnrt", p[1]))
            return wrong(s, s->at, "unknown escape");
        s->at += 2;
        return WANT_COMMA;
    }
    int unit = read_hex4(p + 2, left - 2);
    if (unit < 0)
        return wrong(s, s->at, "\\u needs four hex digits");
    if (unit == 0)
        return wrong(s, s->at, "NUL in a string");
    s->at += 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return WANT_COMMA;
    int low = left >= 12 && p[6] == '\\' && p[7] == 'u' ? read_hex4(p + 8, left - 8) : -1;
    if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return wrong(s, s->at - 6, "half of a surrogate pair");
    s->at += 6;
    return WANT_COMMA;
}

/* Reads the string at s->at, which is a quote. */
static enum want pass_string(struct scan *s)
{
    s->facts.strings++;
    for (s->at++;;) {
        s->at = skip_plain(s->text, s->at, s->len);
        if (s->at == s->len)
            return wrong(s, s->len, "the text ends inside a string");
        unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            s->at++;
            return WANT_COMMA;
        }
        if (c == '\\') {
            if (pass_escape(s) == WRONG)
                return WRONG;
        } else if (c < 0x20) {
            return wrong(s, s->at, "control character in a string");
        } else {
            size_t n = str_utf8_char(s->text + s->at, s->len - s->at);
            if (n == 0)
                return wrong(s, s->at, "invalid UTF-8");
            s->at += n;
        }
    }
}

static size_t pass_digits(struct scan *s)
{
    size_t begin = s->at;
    while (s->at < s->len && isdigit((unsigned char)s->text[s->at]))
        s->at++;
    return s->at - begin;
}

static bool pass_char(struct scan *s, const char *set)
{
    if (s->at == s->len || s->text[s->at] == '\0' || !strchr(set, s->text[s->at]))
        return false;
    s->at++;
    return true;
}

static bool is_finite(const char *text, size_t len)
{
    struct buf copy = BUF_INIT(SIZE_MAX / 2); /* strtod() needs a NUL at the end. */
    bool finite = buf_add(&copy, text, len) == 0 && isfinite(strtod(buf_str(&copy), NULL));
    buf_done(&copy);
    return finite;
}

/* Reads the number at s->at, which is a digit or '-'. */
static enum want pass_number(struct scan *s)
{
    size_t begin = s->at;
    pass_char(s, "-");
    size_t first = s->at, digits = pass_digits(s);
    if (digits == 0 || (digits > 1 && s->text[first] == '0'))
        return wrong(s, begin, "malformed number");
    if (pass_char(s, ".") && pass_digits(s) == 0)
        return wrong(s, begin, "malformed number");
    size_t exponent = 0;
    if (pass_char(s, "eE")) {
        pass_char(s, "+-");
        exponent = pass_digits(s);
        if (exponent == 0)
            return wrong(s, begin, "malformed number");
    }
    if (s->at - begin > SCAN_NUMBER_MAX)
        s->facts.long_numbers++;
    /* An exponent of two digits after 200 digits cannot overflow; only numbers that could are
     * converted. */
    if ((digits > 200 || exponent > 2) && !is_finite(s->text + begin, s->at - begin))
        return wrong(s, begin, "number out of range");
    return WANT_COMMA;
}

static enum want pass_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return wrong(s, s->at, "unexpected character");
    s->at += n;
    return WANT_COMMA;
}

static enum want open_container(struct scan *s, bool object)
{
    if (s->depth == JSON_DEPTH_MAX)
        return wrong(s, s->at, "nested too deeply");
    uint64_t bit = UINT64_C(1) << s->depth;
    s->objects = object ? s->objects | bit : s->objects & ~bit;
    s->first[s->depth++] = s->names.count;
    s->at++;
    return object ? WANT_FIRST_NAME : WANT_FIRST_VALUE;
}

static bool in_object(const struct scan *s)
{
    return s->depth > 0 && (s->objects >> (s->depth - 1) & 1);
}

static enum want close_container(struct scan *s)
{
    if (in_object(s))
        names_drop(&s->names, s->first[s->depth - 1]);
    s->depth--;
    s->at++;
    return WANT_COMMA;
}

static enum want pass_value(struct scan *s, int c)
{
    if (++s->facts.values > s->max_values) {
        err_set(s->err, ERR_TOO_LARGE, "JSON: more than %zu values", s->max_values);
        return WRONG;
    }
    switch (c) {
    case '{':
    case '[':
        return open_container(s, c == '{');
    case '"':
        return pass_string(s);
    case 't':
        return pass_word(s, "true");
    case 'f':
        return pass_word(s, "false");
    case 'n':
        return pass_word(s, "null");
    default:
        if (c == '-' || isdigit(c))
            return pass_number(s);
        return wrong(s, s->at, "unexpected character");
    }
}

static enum want pass_name(struct scan *s, int c)
{
    if (c != '"')
        return wrong(s, s->at, "expected a name");
    size_t begin = s->at + 1;
    if (pass_string(s) == WRONG)
        return WRONG;
    switch (names_add(&s->names, s->first[s->depth - 1], begin, s->at - 1 - begin)) {
    case NAMES_NEW:
        break;
    case NAMES_TWICE:
        return wrong(s, begin - 1, "the same name twice in an object");
    case NAMES_FULL:
        return wrong(s, begin - 1, "too many names");
    case NAMES_NO_MEMORY:
        err_set(s->err, ERR_INTERNAL, "JSON: out of memory");
        return WRONG;
    }
    if (peek(s) != ':')
        return wrong(s, s->at, "expected ':'");
    s->at++;
    return WANT_VALUE;
}

/* Reads one token. `c` is its first character, or -1 at the end of the text. */
static enum want step(struct scan *s, enum want want, int c)
{
    if (c < 0)
        return wrong(s, s->len, s->len == 0 ? "no text" : "the text ends too early");
    switch (want) {
    case WANT_FIRST_VALUE:
        return c == ']' ? close_container(s) : pass_value(s, c);
    case WANT_VALUE:
        return pass_value(s, c);
    case WANT_FIRST_NAME:
        return c == '}' ? close_container(s) : pass_name(s, c);
    case WANT_NAME:
        return pass_name(s, c);
    case WANT_COMMA:
        if (c == (in_object(s) ? '}' : ']'))
            return close_container(s);
        if (c != ',')
            return wrong(s, s->at, in_object(s) ? "expected ',' or '}'" : "expected ',' or ']'");
        s->at++;
        return in_object(s) ? WANT_NAME : WANT_VALUE;
    case WANT_END:
    case WRONG:
        break;
    }
    return WRONG;
}

int scan_text(const char *text, size_t len, size_t max_values, struct scan_facts *ret_facts,
              struct err *err)
{
    struct scan s; /* Not zeroed, because its tables are large: names_init() clears what is
                    * needed. */
    enum want want = WANT_VALUE;
    if (len >= SCAN_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "JSON: longer than %u bytes", SCAN_TEXT_MAX);
    s.text = text;
    s.len = len;
    s.at = 0;
    s.depth = 0;
    s.objects = 0;
    s.facts = (struct scan_facts){0};
    s.max_values = max_values;
    s.err = err;
    names_init(&s.names, text);
    do {
        want = step(&s, want, peek(&s));
    } while (want != WRONG && (s.depth > 0 || want != WANT_COMMA));
    if (want != WRONG && peek(&s) >= 0)
        want = wrong(&s, s.at, "something follows the value");
    names_done(&s.names);
    if (want == WRONG)
        return -1;
    *ret_facts = s.facts;
    return 0;
}

int json_check(const char *text, size_t len, struct err *err)
{
    struct scan_facts facts;
    return scan_text(text, len, SIZE_MAX, &facts, err);
}
