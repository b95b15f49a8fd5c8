#include "base/glob.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct part {
    const char *text;
    size_t len;
};

static size_t split(const char *text, struct part parts[GLOB_PARTS_MAX])
{
    size_t count = 0;
    for (;;) {
        size_t len = strcspn(text, "/");
        if (count == GLOB_PARTS_MAX)
            return GLOB_PARTS_MAX + 1;
        parts[count++] = (struct part){text, len};
        if (text[len] == '\0')
            return count;
        text += len + 1;
    }
}

/* Matches a set such as [abc], [a-z] or [!a-z], which takes *ret_len characters of the pattern; 0
 * when it is not closed. */
static bool in_set(const char *p, size_t len, char c, size_t *ret_len)
{
    size_t i = 1;
    bool negate = len > 1 && (p[1] == '!' || p[1] == '^'), found = false;
    i += negate;
    for (size_t first = i; i < len && (p[i] != ']' || i == first); i++) {
        if (i + 2 < len && p[i + 1] == '-' && p[i + 2] != ']') {
            found |= p[i] <= c && c <= p[i + 2];
            i += 2;
        } else {
            found |= p[i] == c;
        }
    }
    *ret_len = i < len ? i + 1 : 0;
    return found != negate;
}

/* Matches one character of the text against the pattern at p, of which it uses *ret_len
 * characters. */
static bool match_one(const char *p, size_t len, char c, size_t *ret_len)
{
    *ret_len = 1;
    if (*p == '?')
        return true;
    if (*p == '[') {
        size_t used;
        bool in = in_set(p, len, c, &used);
        if (used) {
            *ret_len = used;
            return in;
        }
    }
    if (*p == '\\' && len > 1) {
        *ret_len = 2;
        return p[1] == c;
    }
    return *p == c;
}

/* Matches one part, in which * stands for any characters. On a mismatch only the last * takes one
 * more character. */
static bool match_part(struct part pattern, struct part text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, mark = 0, used;
    while (t < text.len) {
        if (p < pattern.len && pattern.text[p] == '*') {
            star = p++;
            mark = t;
        } else if (p < pattern.len &&
                   match_one(pattern.text + p, pattern.len - p, text.text[t], &used)) {
            p += used;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.text[p] == '*')
        p++;
    return p == pattern.len;
}

bool glob_match(const char *pattern, const char *path)
{
    struct part want[GLOB_PARTS_MAX], have[GLOB_PARTS_MAX];
    bool row[GLOB_PARTS_MAX + 1] = {true}; /* row[j]: the pattern so far matches j parts */
    size_t wants = split(pattern, want), haves = split(path, have);
    if (wants > GLOB_PARTS_MAX || haves > GLOB_PARTS_MAX)
        return false;
    for (size_t i = 0; i < wants; i++) {
        bool any = want[i].len == 2 && memcmp(want[i].text, "**", 2) == 0;
        bool diagonal = row[0];
        row[0] = row[0] && any;
        for (size_t j = 1; j <= haves; j++) {
            bool above = row[j];
            row[j] = any ? above || row[j - 1] : diagonal && match_part(want[i], have[j - 1]);
            diagonal = above;
        }
    }
    return row[haves];
}
