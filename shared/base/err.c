#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *wire;
    const char *title;
    int http;
    int exit;
} codes[] = {
#define ERR_ROW(name, wire, title, http, exit) [name] = {wire, title, http, exit},
    ERR_CODES(ERR_ROW)
#undef ERR_ROW
};

/* Messages travel in log lines and JSON: one line, no control characters, whole UTF-8. */
static void tidy(char *msg)
{
    for (char *p = msg; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    size_t len = strlen(msg);
    if (len + 1 < sizeof(((struct err *)0)->msg))
        return;
    while (len > 0 && ((unsigned char)msg[len - 1] & 0xc0) == 0x80)
        len--;
    if (len > 0 && ((unsigned char)msg[len - 1] & 0x80))
        len--;
    msg[len] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;
    err->code = code;
    err->sys = 0;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    tidy(err->msg);
    return -1;
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int sys = errno;
    va_list ap;
    char what[sizeof(err->msg)];
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    err_set(err, sys == ENOSPC || sys == EDQUOT ? ERR_NO_SPACE : ERR_INTERNAL, "%s: %s", what,
            strerrordesc_np(sys) ? strerrordesc_np(sys) : "unknown error");
    err->sys = sys;
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    va_list ap;
    struct err outer;
    char inner[sizeof(err->msg)];
    va_start(ap, fmt);
    vsnprintf(outer.msg, sizeof(outer.msg), fmt, ap);
    va_end(ap);
    memcpy(inner, err->msg, sizeof(inner));
    int n = snprintf(err->msg, sizeof(err->msg), "%s: ", outer.msg);
    if (n > 0 && (size_t)n < sizeof(err->msg))
        snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, "%s", inner);
    tidy(err->msg);
    return -1;
}

const char *err_wire(enum err_code code)
{
    return codes[code].wire;
}

const char *err_title(enum err_code code)
{
    return codes[code].title;
}

int err_http(enum err_code code)
{
    return codes[code].http;
}

int err_exit(enum err_code code)
{
    return codes[code].exit;
}
