#include "runner/client/screen.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"

#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

struct range {
    uint32_t first, last;
};

/* East Asian wide characters and emoji, by block: exact enough to keep a line from wrapping. */
static const struct range wide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x23e9, 0x23ec},   {0x23f0, 0x23f3},
    {0x25fd, 0x25fe},   {0x2614, 0x2615},   {0x2648, 0x2653},   {0x267f, 0x2693},
    {0x26a1, 0x26a1},   {0x26aa, 0x26ab},   {0x26bd, 0x26be},   {0x26c4, 0x26ce},
    {0x26d4, 0x26ea},   {0x26f2, 0x26fd},   {0x2705, 0x2705},   {0x270a, 0x270b},
    {0x2728, 0x2728},   {0x274c, 0x274e},   {0x2753, 0x2757},   {0x2795, 0x2797},
    {0x27b0, 0x27bf},   {0x2b1b, 0x2b1c},   {0x2b50, 0x2b55},   {0x2e80, 0x303e},
    {0x3041, 0x33ff},   {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xa000, 0xa4cf},
    {0xa960, 0xa97f},   {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe10, 0xfe19},
    {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18aff},
    {0x1b000, 0x1b2ff}, {0x1f004, 0x1f0cf}, {0x1f18e, 0x1f19a}, {0x1f200, 0x1f320},
    {0x1f32d, 0x1faff}, {0x20000, 0x3fffd},
};

static const struct range zero[] = {
    {0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd},   {0x0610, 0x061a}, {0x064b, 0x065f},
    {0x0e31, 0x0e31}, {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
    {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x206f},   {0x20d0, 0x20ff}, {0xfe00, 0xfe0f},
    {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}, {0xe0000, 0xe0fff},
};

static bool is_in(const struct range *ranges, size_t count, uint32_t c)
{
    for (size_t i = 0; i < count; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

static uint32_t decode(const unsigned char *text, size_t len)
{
    if (len == 1)
        return text[0];
    uint32_t c = text[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++)
        c = c << 6 | (text[i] & 0x3fu);
    return c;
}

static size_t char_width(const char *text, size_t len)
{
    uint32_t c = decode((const unsigned char *)text, len);
    if (c < 0x300)
        return 1;
    return is_in(zero, COUNT_OF(zero), c) ? 0 : is_in(wide, COUNT_OF(wide), c) ? 2 : 1;
}

/* True for control characters of both sets, and for marks that change the direction of a line. */
static bool is_control(const char *text, size_t len)
{
    uint32_t c = decode((const unsigned char *)text, len);
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

size_t screen_width(const char *text, size_t len)
{
    size_t width = 0;
    for (size_t i = 0, n; i < len; i += n) {
        n = str_utf8_char(text + i, len - i);
        width += n ? char_width(text + i, n) : 1;
        n = n ? n : 1;
    }
    return width;
}

void screen_add_line(struct buf *out, const char *text, size_t width)
{
    REQUIRE(out && text);
    size_t used = 0, last_at = out->len, last_used = 0;
    for (size_t n; *text; text += n) {
        n = str_utf8_char(text, strnlen(text, 4));
        bool plain = n > 0 && !is_control(text, n);
        size_t columns = plain ? char_width(text, n) : 1;
        if (used + columns > width) {
            /* Drop the characters after the last one that leaves room for the mark. */
            out->len = last_at;
            if (out->data)
                out->data[out->len] = '\0';
            if (width > last_used)
                buf_adds(out, "…");
            return;
        }
        if (plain)
            buf_add(out, text, n);
        else
            buf_adds(out, n ? " " : "\xef\xbf\xbd");
        used += columns;
        if (used < width) {
            last_at = out->len;
            last_used = used;
        }
        n = n ? n : 1;
    }
}

void screen_add_text(struct buf *out, const char *text, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = str_utf8_char(text + i, len - i);
        if (n == 0)
            buf_adds(out, "\xef\xbf\xbd");
        else if (text[i] != '\n' && text[i] != '\t' && is_control(text + i, n))
            buf_addc(out, ' ');
        else
            buf_add(out, text + i, n);
        n = n ? n : 1;
    }
}

void screen_size(int fd, int *ret_columns, int *ret_rows)
{
    struct winsize size = {0};
    bool knows = ioctl(fd, TIOCGWINSZ, &size) == 0;
    *ret_columns = knows && size.ws_col > 0 ? size.ws_col : 80;
    *ret_rows = knows && size.ws_row > 0 ? size.ws_row : 24;
}

void screen_add_duration(struct buf *out, double seconds)
{
    long whole = (long)(seconds + 0.5);
    if (seconds < 60)
        buf_addf(out, "%.1f s", seconds);
    else if (whole < 3600)
        buf_addf(out, "%ld min %02ld s", whole / 60, whole % 60);
    else
        buf_addf(out, "%ld h %02ld min", whole / 3600, whole % 3600 / 60);
}

void screen_add_cost(struct buf *out, double usd)
{
    buf_addf(out, "$%.*f", usd >= 1 ? 2 : 4, usd);
}
