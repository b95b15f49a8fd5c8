/*
 * One request to a Google API, with our token, over a kept connection; and the rules for repeating
 * it. Private to shared/google.
 *
 * Threads: any; an exchange belongs to one thread. Ownership: a request borrows everything; an
 * answer owns its buffers and is ended by wire_answer_done().
 */
#ifndef GOOGLE_WIRE_H
#define GOOGLE_WIRE_H

#include "base/strlist.h"
#include "google/google.h"
#include "google/identity.h"
#include "google/links.h"
#include "google/retry.h"

struct google {
    struct identity *identity;
    char *endpoints[GOOGLE_API_COUNT];
    struct links links;
};

struct wire {
    enum google_api api;
    const char *method;
    const char *base; /* "https://host" to use instead of the API's endpoint; or NULL */
    const char *path;
    bool bare;                     /* without our token */
    const struct strlist *headers; /* more of them, or NULL */
    const void *body;              /* or NULL: read() gives body_len bytes */
    int64_t body_len;
    bool media; /* large: HTTP/1.1, which carries one stream faster, and big pieces */
    bool once;  /* never sent twice when its outcome is unknown */
    int silence_ms;
    int total_ms; /* 0: none */
    /* These may be NULL. The answer's head and body are passed on when its status is 200 or 206;
     * any other body is collected. Each callback returns -1 to give up. */
    ssize_t (*read)(char *to, size_t size, void *arg);
    int (*head)(int status, const struct buf *head, void *arg);
    int (*write)(const char *data, size_t len, void *arg);
    void *arg;
    bool (*stop)(void *stop_arg);
    void *stop_arg;
};

struct wire_answer {
    int status;    /* 0: there was none */
    bool sent;     /* some bytes were sent */
    bool no_token; /* no token could be had, after tries of its own */
    struct buf head, body;
};
void wire_answer_done(struct wire_answer *answer);
static inline void auto_wire_answer(struct wire_answer *answer)
{
    wire_answer_done(answer);
}

/* Makes one try. Returns 0 whenever an answer arrived, whatever its status. The answer is filled
 * also on failure; its previous content is freed. A refused token is dropped. */
int wire_ask(struct google *google, const struct wire *wire, struct wire_answer *answer,
             struct err *err);

/* Several tries of one request. */
struct tries {
    struct retry retry;
    enum google_retry kind;
    int most;     /* 0: as many as the time allows */
    bool renewed; /* a token was already refused once */
    bool unsure;  /* one of them may have been carried out */
};

/* Call after wire_ask() returned `rc` and this answer. True, after waiting, when the caller should
 * ask again. */
bool tries_again(struct tries *tries, int rc, const struct wire_answer *answer,
                 const struct err *err);

/* Asks until the answer is a 2xx (returns 0) or there is nothing more to try: -1, with the error
 * explained. */
int wire_call(struct google *google, const struct wire *wire, struct tries *tries,
              struct wire_answer *answer, struct google_answer *ret_answer, struct err *err);

const char *wire_title(enum google_api api);

/* Explains an unsuccessful answer: fills err, and *ret_answer when it is not NULL. */
int answer_fail(enum google_api api, const struct wire_answer *answer,
                struct google_answer *ret_answer, struct err *err);
/* Explains a google.rpc.Status of a failed operation. */
int answer_fail_status(enum google_api api, const struct json *status, struct err *err);

/* Copies text from outside (NULL: none) as one line of UTF-8 that fits. */
void answer_copy_words(char *to, size_t size, const char *words);

/* The error of an operation or an answer; NULL when there is none. */
const struct json *answer_error(const struct json *answer);

/* Parses a 2xx answer's body; *ret_json is NULL for an empty one, else the caller frees it. */
int answer_json(enum google_api api, const struct wire_answer *answer, struct json **ret_json,
                struct err *err);

/* Reads an integer member, given as a number or (int64 in Google's JSON) as digits. */
int answer_int(const struct json *object, const char *name, int64_t *ret_value);

/* Reads a time member: Unix milliseconds, 0 when it is missing or something else. */
int64_t answer_time(const struct json *object, const char *name);

/* Moves "nextPageToken" of a list's page to *token, freeing the previous one. Returns 1 when there
 * is another page, 0 when not, -1 when the pages form a circle. */
int answer_next_page(enum google_api api, const struct json *page, char **token, struct err *err);

/* Checks "projects/…/jobs/j" and similar names: one or more segments, none of them "." or
 * "..". */
int answer_check_name(const char *what, const char *name, struct err *err);

#endif
