#include "runner/egress/ask.h"

#include "base/auto.h"
#include "base/check.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define METHOD_MAX 32
#define LENGTH_DIGITS_MAX 18
#define LABEL_MAX 63

/* A part of a head. */
struct span {
    const char *at;
    size_t len;
};

static int refuse(struct ask_fault *ret_fault, int status, const char *why)
{
    *ret_fault = (struct ask_fault){status, why};
    return -1;
}

/* --- characters ----------------------------------------------------------------------------- */

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_token_char(text.at[i]))
            return false;
    return text.len > 0;
}

/* Printable ASCII: what a target may hold. */
static bool is_visible(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= 0x20 || text.at[i] >= 0x7f)
            return false;
    return text.len > 0;
}

static bool is_word(struct span text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

static bool begins_with(struct span text, const char *word)
{
    return text.len >= strlen(word) && strncasecmp(text.at, word, strlen(word)) == 0;
}

static struct span trimmed(struct span text)
{
    while (text.len > 0 && (*text.at == ' ' || *text.at == '\t'))
        text = (struct span){text.at + 1, text.len - 1};
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* Cuts off and returns what comes before `c`; all of the text when there is none. */
static struct span cut(struct span *text, char c)
{
    const char *found = memchr(text->at, c, text->len);
    struct span before = {text->at, found ? (size_t)(found - text->at) : text->len};
    size_t used = before.len + (found != NULL);
    *text = (struct span){text->at + used, text->len - used};
    return before;
}

/* Cuts off and returns the next line of a whole head, without its CR LF. */
static struct span cut_line(struct span *text)
{
    struct span line = cut(text, '\n');
    return (struct span){line.at, line.len - 1};
}

/* --- where to ------------------------------------------------------------------------------- */

static int read_port(struct span text, unsigned *ret_port, struct ask_fault *ret_fault)
{
    unsigned port = 0;
    bool fine = text.len > 0 && text.len <= 5 && text.at[0] != '0';
    for (size_t i = 0; fine && i < text.len; i++) {
        fine = isdigit((unsigned char)text.at[i]);
        port = port * 10 + (unsigned)(text.at[i] - '0');
    }
    if (!fine || port > 65535)
        return refuse(ret_fault, 400, "the port is not a number from 1 to 65535");
    *ret_port = port;
    return 0;
}

/* What lies between brackets. */
static int read_six(struct span text, struct ask *ask, struct ask_fault *ret_fault)
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len >= sizeof(copy))
        return refuse(ret_fault, 400, "what is in brackets is not an IPv6 address");
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET6, copy, &ask->six) != 1)
        return refuse(ret_fault, 400, "what is in brackets is not an IPv6 address");
    ask->kind = ASK_IPV6;
    inet_ntop(AF_INET6, &ask->six, ask->host, sizeof(ask->host));
    return 0;
}

/* Copies a name in lower case, without a last dot. */
static int copy_name(struct span text, char host[NAMES_HOST_SIZE])
{
    size_t label = 0;
    if (text.len > 1 && text.at[text.len - 1] == '.')
        text.len--;
    if (text.len == 0 || text.len >= NAMES_HOST_SIZE)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.at[i];
        if (c == '.' ? label == 0 : !isalnum(c) && c != '-' && c != '_')
            return -1;
        label = c == '.' ? 0 : label + 1;
        if (label > LABEL_MAX)
            return -1;
        host[i] = (char)tolower(c);
    }
    host[text.len] = '\0';
    return label > 0 ? 0 : -1;
}

/* True when the last part of a name is a number, so that the name can only be an address. */
static bool ends_in_number(const char *host)
{
    const char *dot = strrchr(host, '.'), *last = dot ? dot + 1 : host;
    if (last[0] == '0' && last[1] == 'x')
        return strspn(last + 2, "0123456789abcdef") == strlen(last + 2);
    return strspn(last, "0123456789") == strlen(last);
}

static int read_host(struct span text, struct ask *ask, struct ask_fault *ret_fault)
{
    if (text.len > 1 && text.at[0] == '[' && text.at[text.len - 1] == ']')
        return read_six((struct span){text.at + 1, text.len - 2}, ask, ret_fault);
    if (memchr(text.at, '@', text.len))
        return refuse(ret_fault, 400, "a host does not take a user before it");
    if (copy_name(text, ask->host))
        return refuse(ret_fault, 400, "the host is neither a name nor an address");
    ask->kind = ASK_NAME;
    if (inet_aton(ask->host, &ask->four)) {
        ask->kind = ASK_IPV4;
        inet_ntop(AF_INET, &ask->four, ask->host, sizeof(ask->host));
    } else if (ends_in_number(ask->host)) {
        return refuse(ret_fault, 400, "the host ends in a number and is not an address");
    }
    return 0;
}

/* Reads host:port. `otherwise` is the port when none is written; 0: it must be. */
static int read_authority(struct span text, unsigned otherwise, struct ask *ask,
                          struct ask_fault *ret_fault)
{
    const bool six = text.len > 0 && text.at[0] == '[';
    const char *end = memchr(text.at, six ? ']' : ':', text.len);
    struct span host = {text.at, end ? (size_t)(end - text.at) + six : text.len};
    struct span rest = {text.at + host.len, text.len - host.len};
    if (read_host(host, ask, ret_fault))
        return -1;
    if (rest.len == 0 && otherwise > 0) {
        ask->port = otherwise;
        return 0;
    }
    if (rest.len == 0 || rest.at[0] != ':')
        return refuse(ret_fault, 400, "CONNECT takes host:port");
    return read_port((struct span){rest.at + 1, rest.len - 1}, &ask->port, ret_fault);
}

/* --- the first line ------------------------------------------------------------------------- */

struct first_line {
    struct span method, authority;
    struct span path; /* "" or from '?' on: the server gets a '/' before it */
    bool old;         /* HTTP/1.0 */
    bool tunnel;
};

static int read_target(struct span target, struct first_line *line, struct ask_fault *ret_fault)
{
    static const char scheme[] = "http://";
    if (!is_visible(target) || memchr(target.at, '#', target.len))
        return refuse(ret_fault, 400, "a target has characters that it may not have");
    if (line->tunnel) {
        line->authority = target;
        return 0;
    }
    if (begins_with(target, "https://"))
        return refuse(ret_fault, 400, "https takes CONNECT");
    if (!begins_with(target, scheme))
        return refuse(ret_fault, 400, "this is a proxy: it takes http://host/path, and CONNECT");
    struct span rest = {target.at + strlen(scheme), target.len - strlen(scheme)};
    size_t n = 0;
    while (n < rest.len && rest.at[n] != '/' && rest.at[n] != '?')
        n++;
    line->authority = (struct span){rest.at, n};
    line->path = (struct span){rest.at + n, rest.len - n};
    return 0;
}

static int read_first_line(struct span text, struct first_line *line, struct ask_fault *ret_fault)
{
    line->method = cut(&text, ' ');
    struct span target = cut(&text, ' ');
    if (!is_token(line->method) || line->method.len > METHOD_MAX)
        return refuse(ret_fault, 400, "the method is not a word");
    line->old = text.len == 8 && memcmp(text.at, "HTTP/1.0", 8) == 0;
    if (!line->old && !(text.len == 8 && memcmp(text.at, "HTTP/1.1", 8) == 0))
        return text.len > 5 && memcmp(text.at, "HTTP/", 5) == 0
                   ? refuse(ret_fault, 505, "this proxy speaks HTTP/1.1")
                   : refuse(ret_fault, 400, "the first line has no version");
    line->tunnel = line->method.len == 7 && memcmp(line->method.at, "CONNECT", 7) == 0;
    return read_target(target, line, ret_fault);
}

/* --- the end of a head ---------------------------------------------------------------------- */

/* Judges the first line as soon as it is there: not everybody sends a head after it. */
static bool is_wrong_line(const char *data, size_t len, struct ask_fault *ret_fault)
{
    struct first_line line = {.old = false};
    return read_first_line((struct span){data, len}, &line, ret_fault) != 0;
}

ssize_t ask_size(const char *data, size_t len, size_t *seen, struct ask_fault *ret_fault)
{
    if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
        return refuse(ret_fault, 400, "a request begins with an empty line");
    for (; *seen < len; ++*seen) {
        const size_t i = *seen;
        const unsigned char c = (unsigned char)data[i];
        if (i >= ASK_HEAD_MAX)
            return refuse(ret_fault, 431, "the head of a request is longer than 8 KiB");
        if (i > 0 && (c == '\n') != (data[i - 1] == '\r'))
            return refuse(ret_fault, 400, "a line does not end with CR LF");
        if ((c < 0x20 && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
            return refuse(ret_fault, 400, "a head has a control character");
        if (c == '\n' && !memchr(data, '\n', i) && is_wrong_line(data, i - 1, ret_fault))
            return -1;
        if (i > 2 && c == '\n' && data[i - 2] == '\n') {
            ++*seen;
            return (ssize_t)(i + 1);
        }
    }
    return len >= ASK_HEAD_MAX
               ? refuse(ret_fault, 431, "the head of a request is longer than 8 KiB")
               : 0;
}

/* --- fields --------------------------------------------------------------------------------- */

/* What the fields of a head have said. */
struct fields {
    bool length, chunked, host;
    uint64_t bytes;
};

static int read_length(struct span value, struct fields *fields, struct ask_fault *ret_fault)
{
    bool fine = !fields->length && value.len > 0 && value.len <= LENGTH_DIGITS_MAX;
    for (size_t i = 0; fine && i < value.len; i++) {
        fine = isdigit((unsigned char)value.at[i]);
        fields->bytes = fields->bytes * 10 + (uint64_t)(value.at[i] - '0');
    }
    fields->length = true;
    return fine ? 0 : refuse(ret_fault, 400, "Content-Length is not one number");
}

static int read_field(struct span line, bool old, struct fields *fields,
                      struct ask_fault *ret_fault)
{
    if (!memchr(line.at, ':', line.len))
        return refuse(ret_fault, 400, "a field has no colon");
    struct span name = cut(&line, ':'), value = trimmed(line);
    if (!is_token(name))
        return refuse(ret_fault, 400, "the name of a field is not a word");
    if (is_word(name, "content-length"))
        return read_length(value, fields, ret_fault);
    if (is_word(name, "transfer-encoding")) {
        if (old || fields->chunked || !is_word(value, "chunked"))
            return refuse(ret_fault, 501, "Transfer-Encoding takes chunked, once, with HTTP/1.1");
        fields->chunked = true;
    } else if (is_word(name, "host")) {
        if (fields->host)
            return refuse(ret_fault, 400, "there are two fields Host");
        fields->host = true;
    }
    return 0;
}

static int read_fields(struct span rest, const struct first_line *line, struct ask *ask,
                       struct ask_fault *ret_fault)
{
    struct fields fields = {0};
    for (struct span field; (field = cut_line(&rest)).len > 0;)
        if (read_field(field, line->old, &fields, ret_fault))
            return -1;
    if (fields.length && fields.chunked)
        return refuse(ret_fault, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (line->tunnel && (fields.chunked || fields.bytes > 0))
        return refuse(ret_fault, 400, "CONNECT has no body");
    ask->body = (struct ask_body){.chunked = fields.chunked, .left = fields.bytes};
    return 0;
}

int ask_read(const char *data, size_t size, struct ask *ret_ask, struct ask_fault *ret_fault)
{
    REQUIRE(size >= 4 && memcmp(data + size - 4, "\r\n\r\n", 4) == 0);
    struct span rest = {data, size};
    struct first_line line = {.old = false};
    struct ask ask = {.kind = ASK_NAME};
    if (read_first_line(cut_line(&rest), &line, ret_fault) ||
        read_authority(line.authority, line.tunnel ? 0 : 80, &ask, ret_fault) ||
        read_fields(rest, &line, &ask, ret_fault))
        return -1;
    ask.tunnel = line.tunnel;
    *ret_ask = ask;
    return 0;
}

/* --- for the server ------------------------------------------------------------------------- */

/* True for fields that concern the connection to the proxy, and for those that are set anew. */
static bool is_for_us(struct span name)
{
    static const char *const names[] = {"host",    "connection",     "keep-alive", "te",
                                        "upgrade", "http2-settings", "proxy-"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (is_word(name, names[i]) ||
            (names[i][strlen(names[i]) - 1] == '-' && begins_with(name, names[i])))
            return true;
    return false;
}

/* True when a field Connection names this one. What says where the request ends always stays. */
static bool is_named(struct span rest, struct span name)
{
    if (is_word(name, "content-length") || is_word(name, "transfer-encoding"))
        return false;
    for (struct span field; (field = cut_line(&rest)).len > 0;) {
        struct span one = cut(&field, ':');
        while (is_word(one, "connection") && field.len > 0) {
            struct span option = trimmed(cut(&field, ','));
            if (option.len == name.len && strncasecmp(option.at, name.at, name.len) == 0)
                return true;
        }
    }
    return false;
}

static void print_host(const struct ask *ask, struct buf *out)
{
    bool six = ask->kind == ASK_IPV6;
    buf_addf(out, "Host: %s%s%s", six ? "[" : "", ask->host, six ? "]" : "");
    if (ask->port != 80)
        buf_addf(out, ":%u", ask->port);
    buf_adds(out, "\r\n");
}

void ask_print(const struct ask *ask, const char *data, size_t size, struct buf *out)
{
    REQUIRE(!ask->tunnel);
    struct ask_fault ignored;
    struct first_line line = {.old = false};
    struct span rest = {data, size};
    if (read_first_line(cut_line(&rest), &line, &ignored))
        return;
    const struct span fields = rest;
    buf_add(out, line.method.at, line.method.len);
    buf_adds(out, line.path.len > 0 && line.path.at[0] == '/' ? " " : " /");
    buf_add(out, line.path.at, line.path.len);
    buf_adds(out, line.old ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    print_host(ask, out);
    for (struct span field; (field = cut_line(&rest)).len > 0;) {
        struct span value = field, name = cut(&value, ':');
        if (is_for_us(name) || is_named(fields, name))
            continue;
        buf_add(out, field.at, field.len);
        buf_adds(out, "\r\n");
    }
    buf_adds(out, "Connection: close\r\n\r\n");
}

ssize_t ask_take(struct ask_body *body, const char *data, size_t len)
{
    if (body->chunked) {
        struct buf nowhere = BUF_INIT(0); /* only their ends matter */
        return chunk_feed(&body->chunk, data, len, &nowhere);
    }
    size_t n = len < body->left ? len : (size_t)body->left;
    body->left -= n;
    return (ssize_t)n;
}
