#include "runner/api/page.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

static void add_value(const char *name, size_t len, const struct page_value *values, size_t count,
                      struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(values[i].name, name, len) != 0 || values[i].name[len] != '\0')
            continue;
        if (values[i].part)
            buf_add(out, buf_str(values[i].part), values[i].part->len);
        else if (values[i].text)
            str_add_html(out, values[i].text);
        return;
    }
}

void page_fill(const char *template, const struct page_value *values, size_t count, struct buf *out)
{
    REQUIRE(template && (values || count == 0));
    for (const char *at; (at = strstr(template, "{{"));) {
        const char *end = strstr(at, "}}");
        if (!end)
            break;
        buf_add(out, template, (size_t)(at - template));
        add_value(at + 2, (size_t)(end - at - 2), values, count, out);
        template = end + 2;
    }
    buf_adds(out, template);
}

void page_send(struct http_request *req, int status, const char *type, const struct buf *body)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy",
         "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
         "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        http_add_header(req, headers[i][0], headers[i][1]);
    if (buf_ok(body))
        http_send(req, status, type, buf_str(body), body->len);
    else
        http_send(req, 500, "text/plain; charset=utf-8", "out of memory\n", 14);
}

void page_redirect(struct http_request *req, const char *path)
{
    http_add_header(req, "Location", path);
    http_send(req, 303, NULL, NULL, 0);
}

void page_cookie(const struct http_request *req, const char *name, char *value, size_t size)
{
    const char *at = http_header(req, "Cookie");
    size_t name_len = strlen(name);
    *value = '\0';
    while (at && *at) {
        at += strspn(at, "; \t");
        size_t len = strcspn(at, ";");
        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=' && len - name_len - 1 < size) {
            snprintf(value, size, "%.*s", (int)(len - name_len - 1), at + name_len + 1);
            return;
        }
        at += len;
    }
}

/* True when a tunnel or reverse proxy says that the browser came by https. */
static bool came_by_tls(const struct http_request *req)
{
    const char *proto = http_header(req, "X-Forwarded-Proto");
    return proto && str_equal_nocase(proto, "https");
}

void page_set_cookie(struct http_request *req, const char *path, const char *name,
                     const char *value, int seconds)
{
    char text[256];
    snprintf(text, sizeof(text), "%s=%s; Path=%s; HttpOnly; SameSite=Strict; Max-Age=%d%s", name,
             value, path, *value ? seconds : 0, came_by_tls(req) ? "; Secure" : "");
    http_add_header(req, "Set-Cookie", text);
}
