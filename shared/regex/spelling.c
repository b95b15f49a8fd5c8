/* Rewrites what Python spells in another way than PCRE2: see spelling.h. */
#include "regex/spelling.h"

#include "base/check.h"

#include <ctype.h>
#include <string.h>

struct reading {
    const char *at;
    struct buf *out;
    bool in_class; /* within [] */
    bool atom;     /* there is something before that can be repeated */
    bool ascii;
};

static size_t hex_digits(const char *text)
{
    size_t n = 0;
    while (isxdigit((unsigned char)text[n]))
        n++;
    return n;
}

/* "\u00e4" and "\U000000e4"; anything else after a backslash is copied. */
static void read_escape(struct reading *r)
{
    size_t wants = r->at[1] == 'u' ? 4 : r->at[1] == 'U' ? 8 : 0;
    if (wants > 0 && hex_digits(r->at + 2) >= wants) {
        buf_addf(r->out, "\\x{%.*s}", (int)wants, r->at + 2);
        r->at += 2 + wants;
    } else {
        size_t n = r->at[1] ? 2 : 1;
        buf_add(r->out, r->at, n);
        r->at += n;
    }
    r->atom = true;
}

/* Copies "\Q…\E" as it is. */
static void read_literal(struct reading *r)
{
    const char *end = strstr(r->at, "\\E");
    size_t n = end ? (size_t)(end - r->at) + 2 : strlen(r->at);
    buf_add(r->out, r->at, n);
    r->at += n;
    r->atom = true;
}

/* The "[" of a class with what may stand first in it: "[]a]" and "[^]a]" hold a bracket. */
static void read_class(struct reading *r)
{
    size_t n = 1 + (r->at[1] == '^');
    n += r->at[n] == ']';
    buf_add(r->out, r->at, n);
    r->at += n;
    r->in_class = true;
}

/* "(?aiu)" and "(?ai:…)": PCRE2 has no flags for the alphabet. False: it is another group. */
static bool read_flags(struct reading *r)
{
    size_t n = strspn(r->at + 2, "aiLmsux");
    char last = r->at[2 + n];
    if (n == 0 || (last != ')' && last != ':' && last != '-'))
        return false;
    buf_adds(r->out, "(?");
    for (size_t i = 0; i < n; i++) {
        char flag = r->at[2 + i];
        r->ascii |= flag == 'a';
        if (flag != 'a' && flag != 'u' && flag != 'L')
            buf_addc(r->out, flag);
    }
    r->at += 2 + n;
    r->atom = false;
    return true;
}

/* "{,3}": from none on. PCRE2 before 10.43 takes it for text. */
static bool read_repeat(struct reading *r)
{
    size_t n = r->at[1] == ',' ? strspn(r->at + 2, "0123456789") : 0;
    if (!r->atom || n == 0 || r->at[2 + n] != '}')
        return false;
    buf_addf(r->out, "{0,%.*s}", (int)n, r->at + 2);
    r->at += 3 + n;
    return true;
}

static void read_one(struct reading *r)
{
    if (!r->in_class && strncmp(r->at, "\\Q", 2) == 0)
        read_literal(r);
    else if (*r->at == '\\')
        read_escape(r);
    else if (!r->in_class && *r->at == '[')
        read_class(r);
    else if (r->in_class || !((strncmp(r->at, "(?", 2) == 0 && read_flags(r)) ||
                              (*r->at == '{' && read_repeat(r)))) {
        r->in_class = r->in_class && *r->at != ']';
        r->atom = *r->at != '(' && *r->at != '|';
        buf_addc(r->out, *r->at++);
    }
}

int spelling_of(const char *pattern, struct buf *out, bool *ret_ascii)
{
    REQUIRE(pattern && out && ret_ascii);
    struct reading r = {.at = pattern, .out = out};
    while (*r.at)
        read_one(&r);
    *ret_ascii = r.ascii;
    return buf_ok(out) ? 0 : -1;
}
