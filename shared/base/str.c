#include "base/str.h"

#include "base/auto.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

char *str_copy(const char *text, size_t len)
{
    len = strnlen(text, len);
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

/* How many continuation bytes must follow, with the range of the first of them (RFC 3629, table
 * 3-7). */
static size_t utf8_shape(unsigned char lead, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = 0x80;
    *ret_high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 1;
    if (lead >= 0xe0 && lead <= 0xef) {
        if (lead == 0xe0)
            *ret_low = 0xa0;
        if (lead == 0xed)
            *ret_high = 0x9f;
        return 2;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        if (lead == 0xf0)
            *ret_low = 0x90;
        if (lead == 0xf4)
            *ret_high = 0x8f;
        return 3;
    }
    return 0;
}

size_t str_utf8_char(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char low, high;
    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t more = utf8_shape(p[0], &low, &high);
    if (more == 0 || len <= more || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return more + 1;
}

/* Bytes of plain ASCII at the start of text, eight at a time. */
static size_t ascii_run(const char *text, size_t len)
{
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, text + i, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < len && (unsigned char)text[i] < 0x80)
        i++;
    return i;
}

bool str_is_utf8(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        i += ascii_run(text + i, len - i);
        if (i == len)
            break;
        size_t n = str_utf8_char(text + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

void str_add_utf8(struct buf *out, const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        size_t n = ascii_run(text + i, len - i);
        if (n == 0)
            n = str_utf8_char(text + i, len - i);
        if (n == 0) {
            buf_adds(out, "\xef\xbf\xbd");
            i++;
        } else {
            buf_add(out, text + i, n);
            i += n;
        }
    }
}

/* Unicode's White_Space property, beyond ASCII's. */
static bool is_wide_space(const char *p, size_t n)
{
    static const char *const spaces[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };
    if (n == 3 && memcmp(p, "\xe2\x80", 2) == 0 && (unsigned char)p[2] <= 0x8b)
        return true; /* U+2000..U+200B */
    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
        if (strlen(spaces[i]) == n && memcmp(p, spaces[i], n) == 0)
            return true;
    return n == 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0;
}

bool str_is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = str_utf8_char(text + i, len - i);
        bool blank = n == 1 ? (unsigned char)text[i] <= ' ' : n > 1 && is_wide_space(text + i, n);
        if (!blank)
            return false;
        i += n;
    }
    return true;
}

int str_to_int(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
        return -1;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || value < min || value > max)
        return -1;
    *ret_value = value;
    return 0;
}

bool str_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_equal_nocase(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

#define NAME_MAX_LEN 48

/* Edit distance in which a swap of two neighbours costs 1 and case and '_' are ignored. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_MAX_LEN + 1];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_len % 3][b_len];
}

/* Lower case without '_' and '-'; returns the length, 0 when the name is too long to be near one.
 */
static size_t fold_name(const char *name, char folded[NAME_MAX_LEN])
{
    size_t n = 0;
    for (; *name; name++) {
        if (*name == '_' || *name == '-')
            continue;
        if (n == NAME_MAX_LEN)
            return 0;
        folded[n++] = (char)tolower((unsigned char)*name);
    }
    return n;
}

const char *str_nearest(const char *name, const char *(*next)(size_t index, void *arg), void *arg)
{
    char wanted[NAME_MAX_LEN], folded[NAME_MAX_LEN];
    size_t wanted_len = fold_name(name, wanted);
    size_t best = wanted_len / 3 + 1; /* Allows one error in three letters. */
    const char *found = NULL, *candidate;
    if (wanted_len == 0)
        return NULL;
    for (size_t i = 0; (candidate = next(i, arg)); i++) {
        size_t len = fold_name(candidate, folded);
        size_t d = distance(wanted, wanted_len, folded, len);
        if (len > 0 && d < wanted_len && d <= best && (!found || d < best)) {
            best = d;
            found = candidate;
        }
    }
    return found;
}

void str_add_hex(struct buf *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = data;
    char *to = buf_room(out, len * 2);
    if (!to)
        return;
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[p[i] >> 4];
        to[2 * i + 1] = digits[p[i] & 15];
    }
    buf_grew(out, len * 2);
}

void str_add_base64(struct buf *out, enum base64_kind kind, const void *data, size_t len)
{
    static const char *const alphabets[] = {
        [BASE64_STD] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        [BASE64_URL] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    };
    const char *digits = alphabets[kind];
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16;
        if (have > 1)
            bits |= (uint32_t)p[i + 1] << 8;
        if (have > 2)
            bits |= p[i + 2];
        for (size_t k = 0; k <= have; k++)
            buf_addc(out, digits[(bits >> (18 - 6 * k)) & 63]);
        for (size_t k = have; k < 3 && kind == BASE64_STD; k++)
            buf_addc(out, '=');
    }
}

/* Bytes at the start of text that stand for themselves inside a JSON string. */
static size_t json_plain_run(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (unsigned char)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\' &&
           (unsigned char)text[i] < 0x7f)
        i++;
    return i;
}

static void add_json_escape(struct buf *out, unsigned char c)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; names[i]; i += 2) {
        if ((unsigned char)names[i] == c) {
            buf_addc(out, '\\');
            buf_addc(out, names[i + 1]);
            return;
        }
    }
    buf_addf(out, "\\u%04x", c);
}

static int base64_value(char c, enum base64_kind kind)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (kind == BASE64_STD)
        return c == '+' ? 62 : c == '/' ? 63 : -1;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static int read_base64(const char *text, size_t len, enum base64_kind kind, struct buf *out)
{
    unsigned bits = 0, count = 0;
    if (len % 4 == 1)
        return -1;
    for (size_t i = 0; i < len; i++) {
        int value = base64_value(text[i], kind);
        if (value < 0)
            return -1;
        bits = bits << 6 | (unsigned)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            buf_addc(out, (char)(bits >> count & 0xff));
        }
    }
    return (bits & ((1u << count) - 1)) == 0 && buf_ok(out) ? 0 : -1;
}

int str_read_base64url(const char *text, size_t len, struct buf *out)
{
    return read_base64(text, len, BASE64_URL, out);
}

int str_read_base64(const char *text, size_t len, struct buf *out)
{
    if (len % 4 != 0)
        return -1;
    for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
        len--;
    return read_base64(text, len, BASE64_STD, out);
}

void str_add_html(struct buf *out, const char *text)
{
    static const struct {
        char c;
        const char *entity;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    while (*text) {
        size_t plain = strcspn(text, "&<>\"'");
        buf_add(out, text, plain);
        text += plain;
        for (size_t i = 0; *text && i < COUNT_OF(entities); i++) {
            if (*text == entities[i].c) {
                buf_adds(out, entities[i].entity);
                text++;
                break;
            }
        }
    }
}

void str_add_choices(struct buf *out, const char *choices)
{
    for (bool first = true; choices; first = false) {
        size_t n = strcspn(choices, "|");
        if (!first)
            buf_adds(out, choices[n] ? ", " : " or ");
        buf_add(out, choices, n);
        choices = choices[n] ? choices + n + 1 : NULL;
    }
}

void str_add_json(struct buf *out, const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        size_t n = json_plain_run(text + i, len - i);
        if (n == 0 && (unsigned char)text[i] >= 0x80)
            n = str_utf8_char(text + i, len - i);
        if (n > 0) {
            buf_add(out, text + i, n);
            i += n;
        } else if ((unsigned char)text[i] >= 0x80) {
            buf_adds(out, "\xef\xbf\xbd");
            i++;
        } else {
            add_json_escape(out, (unsigned char)text[i++]);
        }
    }
}

void str_add_url(struct buf *out, const char *text, const char *keep)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text) || strchr(keep, *text))
            buf_addc(out, *text);
        else
            buf_addf(out, "%%%02X", (unsigned char)*text);
    }
}

int str_replace(char **to, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return -1;
    free(*to);
    *to = copy;
    return 0;
}
