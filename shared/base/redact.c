#include "base/redact.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAP_BITS 16
#define NEEDLES_MAX 8192

struct needle {
    char *text;
    size_t len;
};

struct redact_set {
    pthread_rwlock_t lock;
    struct needle *needles;
    size_t count;
    size_t longest;
    uint64_t map[(1u << MAP_BITS) / 64];
};

struct redact_set *redact_new(void)
{
    struct redact_set *set = calloc(1, sizeof(*set));
    if (set)
        pthread_rwlock_init(&set->lock, NULL);
    return set;
}

void redact_free(struct redact_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++) {
        explicit_bzero(set->needles[i].text, set->needles[i].len);
        free(set->needles[i].text);
    }
    free(set->needles);
    pthread_rwlock_destroy(&set->lock);
    free(set);
}

static uint32_t slot_of(const char *text)
{
    uint32_t word;
    memcpy(&word, text, 4);
    return (word * UINT32_C(2654435761)) >> (32 - MAP_BITS);
}

static bool has_needle_locked(const struct redact_set *set, const char *text, size_t len)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->needles[i].len == len && memcmp(set->needles[i].text, text, len) == 0)
            return true;
    return false;
}

static int add_needle_locked(struct redact_set *set, const char *text, size_t len)
{
    if (len < REDACT_MIN_BYTES || has_needle_locked(set, text, len))
        return 0;
    if (set->count == NEEDLES_MAX)
        return -1;
    if ((set->count & (set->count - 1)) == 0) { /* at powers of two */
        size_t room = set->count ? set->count * 2 : 1;
        struct needle *needles = realloc(set->needles, room * sizeof(*needles));
        if (!needles)
            return -1;
        set->needles = needles;
    }
    char *copy = malloc(len);
    if (!copy)
        return -1;
    memcpy(copy, text, len);
    set->needles[set->count++] = (struct needle){copy, len};
    if (len > set->longest)
        set->longest = len;
    uint32_t slot = slot_of(copy);
    set->map[slot / 64] |= UINT64_C(1) << (slot % 64);
    return 0;
}

/* Adds the part of the secret's base64 text that does not depend on its surroundings, when the
 * secret begins `shift` bytes into a group of three. */
static int add_base64_locked(struct redact_set *set, const char *secret, size_t len, size_t shift,
                             enum base64_kind kind)
{
    AUTO(buf) struct buf padded = BUF_INIT(REDACT_MAX_BYTES + 3);
    AUTO(buf) struct buf text = BUF_INIT(2 * REDACT_MAX_BYTES);
    buf_add(&padded, "\0\0", shift);
    buf_add(&padded, secret, len);
    str_add_base64(&text, kind, buf_str(&padded), padded.len / 3 * 3);
    size_t skip = shift == 0 ? 0 : shift + 1;
    if (!buf_ok(&text) || text.len < skip + REDACT_MIN_BYTES + 2)
        return 0;
    return add_needle_locked(set, text.data + skip, text.len - skip);
}

/* What an encoder escapes besides what JSON requires. */
enum escaping { ESCAPE_PLAIN, ESCAPE_SLASHES, ESCAPE_HTML, ESCAPE_ASCII, ESCAPE_ASCII_SLASHES };

static void add_unit(struct buf *out, unsigned unit)
{
    buf_addf(out, "\\u%04x", unit);
}

/* Appends one valid UTF-8 character of len bytes as \uXXXX or as a pair of them. */
static void add_code_units(struct buf *out, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned code = len == 2 ? p[0] & 0x1fu : len == 3 ? p[0] & 0x0fu : p[0] & 0x07u;
    for (size_t i = 1; i < len; i++)
        code = code << 6 | (p[i] & 0x3fu);
    if (code >= 0x10000) {
        add_unit(out, 0xd800 + ((code - 0x10000) >> 10));
        code = 0xdc00 + ((code - 0x10000) & 0x3ff);
    }
    add_unit(out, code);
}

static int add_json_locked(struct redact_set *set, const char *secret, size_t len,
                           enum escaping how)
{
    AUTO(buf) struct buf plain = BUF_INIT(6 * REDACT_MAX_BYTES);
    AUTO(buf) struct buf text = BUF_INIT(7 * REDACT_MAX_BYTES);
    bool slashes = how == ESCAPE_SLASHES || how == ESCAPE_ASCII_SLASHES;
    str_add_json(&plain, secret, len);
    for (size_t i = 0, n; i < plain.len; i += n) {
        char c = plain.data[i];
        n = (unsigned char)c < 0x80 ? 1 : str_utf8_char(plain.data + i, plain.len - i);
        if (n > 1 && how >= ESCAPE_ASCII)
            add_code_units(&text, plain.data + i, n);
        else if (how == ESCAPE_HTML && (c == '<' || c == '>' || c == '&'))
            add_unit(&text, (unsigned char)c);
        else {
            if (slashes && c == '/')
                buf_addc(&text, '\\');
            buf_add(&text, plain.data + i, n);
        }
    }
    return add_needle_locked(set, buf_str(&text), text.len);
}

static int add_forms_locked(struct redact_set *set, const char *secret, size_t len)
{
    if (len > REDACT_MAX_BYTES)
        len = REDACT_MAX_BYTES;
    int rc = add_needle_locked(set, secret, len);
    for (int how = ESCAPE_PLAIN; how <= ESCAPE_ASCII_SLASHES; how++)
        rc |= add_json_locked(set, secret, len, (enum escaping)how);
    for (size_t shift = 0; shift < 3; shift++)
        rc |= add_base64_locked(set, secret, len, shift, BASE64_STD) |
              add_base64_locked(set, secret, len, shift, BASE64_URL);
    return rc ? -1 : 0;
}

int redact_add(struct redact_set *set, const char *secret)
{
    size_t len = strlen(secret);
    if (len < REDACT_MIN_BYTES)
        return 0;
    pthread_rwlock_wrlock(&set->lock);
    int rc = add_forms_locked(set, secret, len);
    for (const char *line = secret; rc == 0 && strchr(secret, '\n') && *line;) {
        size_t n = strcspn(line, "\r\n");
        if (n >= 16) /* "-----BEGIN" lines and short tails are no secrets */
            rc = strncmp(line, "-----", 5) == 0 ? 0 : add_forms_locked(set, line, n);
        line += n + (line[n] != '\0');
    }
    pthread_rwlock_unlock(&set->lock);
    return rc;
}

/* The longest needle that text begins with, or 0. */
static size_t match_locked(const struct redact_set *set, const char *text, size_t len)
{
    size_t best = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct needle *needle = &set->needles[i];
        if (needle->len <= len && needle->len > best &&
            memcmp(needle->text, text, needle->len) == 0)
            best = needle->len;
    }
    return best;
}

/* Offset of the first position at or after `from` whose first four bytes could begin a needle. */
static size_t next_candidate(const struct redact_set *set, const char *text, size_t len,
                             size_t from)
{
    for (size_t i = from; i + 4 <= len; i++) {
        uint32_t slot = slot_of(text + i);
        if (set->map[slot / 64] & (UINT64_C(1) << (slot % 64)))
            return i;
    }
    return len;
}

/* Appends text, without the end in which a needle could have begun (all of it when `last`). Returns
 * the number of bytes that were handled. */
static size_t scan_locked(struct redact_set *set, const char *text, size_t len, bool last,
                          struct buf *out)
{
    size_t keep = last || set->longest == 0 ? 0 : set->longest - 1;
    size_t end = len > keep ? len - keep : 0;
    size_t done = 0, at = 0;
    while (at < end && (at = next_candidate(set, text, len, at)) < end) {
        size_t n = match_locked(set, text + at, len - at);
        if (n == 0) {
            at++;
            continue;
        }
        buf_add(out, text + done, at - done);
        buf_adds(out, REDACT_MARK);
        done = at += n;
    }
    if (done < end) {
        buf_add(out, text + done, end - done);
        done = end;
    }
    return done;
}

void redact_text(struct redact_set *set, const char *text, size_t len, struct buf *out)
{
    pthread_rwlock_rdlock(&set->lock);
    scan_locked(set, text, len, true, out);
    pthread_rwlock_unlock(&set->lock);
}

bool redact_is_clean(struct redact_set *set, const char *text, size_t len)
{
    bool clean = true;
    pthread_rwlock_rdlock(&set->lock);
    for (size_t at = 0; set->count > 0 && clean; at++) {
        at = next_candidate(set, text, len, at);
        if (at >= len)
            break;
        clean = match_locked(set, text + at, len - at) == 0;
    }
    pthread_rwlock_unlock(&set->lock);
    return clean;
}

/* The value of \uXXXX at text, or -1. */
static long code_unit(const char *text, size_t len)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    long code = 0;
    if (len < 6 || text[0] != '\\' || text[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit)
            return -1;
        code = code << 4 | ((digit - digits) & 15);
    }
    return code;
}

static void add_utf8(struct buf *out, unsigned code)
{
    char text[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        text[i] = (char)(0x80 | (code & 0x3f));
    text[0] = (char)(first[n] | code);
    str_add_json(out, text, n);
}

/* Appends the escape at text in its plainest form and returns its length. Half a surrogate pair
 * stays as it is. */
static size_t add_plainly(struct buf *out, const char *text, size_t len)
{
    long code = code_unit(text, len), low;
    if (code >= 0xd800 && code < 0xdc00 && (low = code_unit(text + 6, len - 6)) >= 0xdc00 &&
        low < 0xe000) {
        add_utf8(out, (unsigned)(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)));
        return 12;
    }
    if (code >= 0 && (code < 0xd800 || code > 0xdfff)) {
        add_utf8(out, (unsigned)code);
        return 6;
    }
    if (len > 1 && text[1] == '/') {
        buf_addc(out, '/');
        return 2;
    }
    size_t n = len > 1 ? 2 : 1;
    buf_add(out, text, n);
    return n;
}

static void add_plain_json(struct buf *out, const char *line, size_t len)
{
    for (size_t at = 0, n; at < len; at += n) {
        const char *escape = memchr(line + at, '\\', len - at);
        n = escape ? (size_t)(escape - (line + at)) : len - at;
        buf_add(out, line + at, n);
        if (escape)
            n += add_plainly(out, escape, len - at - n);
    }
}

bool redact_json(struct redact_set *set, const char *line, size_t len, struct buf *out)
{
    AUTO(buf) struct buf plain = BUF_INIT(len + 1);
    bool clean = redact_is_clean(set, line, len);
    if (memmem(line, len, "\\u", 2)) {
        add_plain_json(&plain, line, len);
        if (buf_ok(&plain) && !redact_is_clean(set, buf_str(&plain), plain.len)) {
            redact_text(set, buf_str(&plain), plain.len, out);
            return true;
        }
    }
    if (!clean)
        redact_text(set, line, len, out);
    return !clean;
}

void redact_stream_init(struct redact_stream *stream, struct redact_set *set)
{
    REQUIRE(set);
    stream->set = set;
    buf_init(&stream->held, SIZE_MAX / 4);
}

void redact_feed(struct redact_stream *stream, const char *text, size_t len, struct buf *out)
{
    buf_add(&stream->held, text, len);
    pthread_rwlock_rdlock(&stream->set->lock);
    size_t done = scan_locked(stream->set, buf_str(&stream->held), stream->held.len, false, out);
    pthread_rwlock_unlock(&stream->set->lock);
    buf_drop(&stream->held, done);
}

void redact_finish(struct redact_stream *stream, struct buf *out)
{
    redact_text(stream->set, buf_str(&stream->held), stream->held.len, out);
    buf_clear(&stream->held);
}

void redact_stream_done(struct redact_stream *stream)
{
    explicit_bzero(stream->held.data ? stream->held.data : (char[1]){0}, stream->held.len);
    buf_done(&stream->held);
}
