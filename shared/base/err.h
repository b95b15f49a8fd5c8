/*
 * Errors: a code, errno where there is one, and one line for a person.
 *
 * They live on the caller's stack and own nothing. A function that can fail takes `struct err *`
 * last and returns -1 or NULL after filling it; err_set() does both in one line. A message says
 * what was being done and to what, and never holds a secret.
 *
 * Threads: no shared state.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* X(name, wire name, title, HTTP status, exit status): the one list of what can go wrong. */
#define ERR_CODES(X)                                                               \
    X(ERR_NONE, "none", "OK", 200, 0)                                              \
    X(ERR_INVALID, "invalid_request", "Invalid request", 400, 2)                   \
    X(ERR_NOT_SUPPORTED_YET, "not_supported_yet", "Not supported yet", 400, 2)     \
    X(ERR_LOGIN, "login_required", "Login required", 401, 1)                       \
    X(ERR_FORBIDDEN, "forbidden", "Forbidden", 403, 1)                             \
    X(ERR_NOT_FOUND, "not_found", "Not found", 404, 1)                             \
    X(ERR_METHOD, "method_not_allowed", "Method not allowed", 405, 2)              \
    X(ERR_NOT_ACCEPTABLE, "not_acceptable", "Not acceptable", 406, 2)              \
    X(ERR_SLOW, "request_timeout", "Request timeout", 408, 1)                      \
    X(ERR_CONFLICT, "conflict", "Conflict", 409, 1)                                \
    X(ERR_LENGTH_REQUIRED, "length_required", "Length required", 411, 2)           \
    X(ERR_PRECONDITION, "precondition_failed", "Precondition failed", 412, 1)      \
    X(ERR_TOO_LARGE, "too_large", "Content too large", 413, 2)                     \
    X(ERR_URI_TOO_LONG, "uri_too_long", "URI too long", 414, 2)                    \
    X(ERR_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type", 415, 2)  \
    X(ERR_RANGE, "range_not_satisfiable", "Range not satisfiable", 416, 2)         \
    X(ERR_EXPECTATION, "expectation_failed", "Expectation failed", 417, 2)         \
    X(ERR_MISMATCH, "unprocessable", "Unprocessable content", 422, 1)              \
    X(ERR_UPGRADE, "upgrade_required", "Upgrade required", 426, 2)                 \
    X(ERR_RATE, "too_many_requests", "Too many requests", 429, 1)                  \
    X(ERR_HEADERS, "headers_too_large", "Request header fields too large", 431, 2) \
    X(ERR_INTERNAL, "internal", "Internal error", 500, 1)                          \
    X(ERR_NOT_IMPLEMENTED, "not_implemented", "Not implemented", 501, 2)           \
    X(ERR_UPSTREAM, "bad_gateway", "Bad gateway", 502, 1)                          \
    X(ERR_BUSY, "unavailable", "Service unavailable", 503, 1)                      \
    X(ERR_TIMEOUT, "timeout", "Timeout", 504, 1)                                   \
    X(ERR_VERSION, "http_version", "HTTP version not supported", 505, 2)           \
    X(ERR_NO_SPACE, "insufficient_storage", "Insufficient storage", 507, 1)        \
    X(ERR_CONFIG, "configuration", "Wrong configuration", 500, 2)

enum err_code {
#define ERR_ENUM(name, wire, title, http, exit) name,
    ERR_CODES(ERR_ENUM)
#undef ERR_ENUM
};

struct err {
    enum err_code code;
    int sys; /* errno at the time, or 0 */
    char msg[240];
};

#define ERR_INIT \
    {            \
        0        \
    }

/* Fills *err and returns -1, so that `return err_set(...)` ends a function. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set with ERR_INTERNAL (ERR_NO_SPACE for ENOSPC and EDQUOT), adding errno and its text. */
int err_sys(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "what: " before the message that is there. Returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *err_wire(enum err_code code);
const char *err_title(enum err_code code);
int err_http(enum err_code code);
int err_exit(enum err_code code);

#endif
