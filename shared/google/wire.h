/*
 * One request to a Google API, with our token, over a kept connection; and the rules by which it is
 * made again. Private to shared/google.
 *
 * Threads: any; an exchange belongs to one thread.
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
    const char *base; /* "https://host" to be asked instead of the API's endpoint; or NULL */
    const char *path;
    bool bare;                     /* without our token */
    const struct strlist *headers; /* more of them, or NULL */
    const void *body;              /* or NULL: read() gives body_len bytes */
    int64_t body_len;
    bool media; /* large: HTTP/1.1, which carries one stream faster, and big pieces */
    bool once;  /* never sent twice unseen */
    int silence_ms;
    int total_ms; /* 0: none */
    /* What follows may be NULL. The answer's head and body are passed on when its status is 200 or
     * 206; any other is collected. Each returns -1 to give up. */
    ssize_t (*read)(char *to, size_t size, void *arg);
    int (*head)(int status, const struct buf *head, void *arg);
    int (*write)(const char *data, size_t len, void *arg);
    void *arg;
    bool (*stop)(void *stop_arg);
    void *stop_arg;
};

struct wire_answer {
    int status;    /* 0: none came */
    bool sent;     /* something went out */
    bool no_token; /* that failed, after tries of its own */
    struct buf head, body;
};
void wire_answer_done(struct wire_answer *answer);
static inline void auto_wire_answer(struct wire_answer *answer)
{
    wire_answer_done(answer);
}

/* One try. 0 whenever an answer came, whatever its status. The answer is filled also on failure;
 * what it held before is let go. A refused token is dropped. */
int wire_ask(struct google *google, const struct wire *wire, struct wire_answer *answer,
             struct err *err);

/* Several tries at one thing. */
struct tries {
    struct retry retry;
    enum google_retry kind;
    int most;     /* 0: as many as the time allows */
    bool renewed; /* a token was refused already */
    bool unsure;  /* one of them may have been carried out */
};

/* After wire_ask() gave `rc` and this answer: true, having waited, to ask again. */
bool tries_again(struct tries *tries, int rc, const struct wire_answer *answer,
                 const struct err *err);

/* Asks until there is a 2xx (0), or nothing more to try: -1, with the error explained. */
int wire_call(struct google *google, const struct wire *wire, struct tries *tries,
              struct wire_answer *answer, struct google_answer *ret_answer, struct err *err);

const char *wire_title(enum google_api api);

/* Explains an answer that is no success: fills err, and *ret_answer when it is not NULL. */
int answer_fail(enum google_api api, const struct wire_answer *answer,
                struct google_answer *ret_answer, struct err *err);
/* Explains google.rpc.Status, as a failed operation holds it. */
int answer_fail_status(enum google_api api, const struct json *status, struct err *err);

/* Foreign words (NULL: none) as one line of UTF-8 that fits. */
void answer_copy_words(char *to, size_t size, const char *words);

/* The error of an operation or an answer: NULL when there is none, or a null. */
const struct json *answer_error(const struct json *answer);

/* Parses a 2xx answer's body; *ret_json is NULL for an empty one. */
int answer_json(enum google_api api, const struct wire_answer *answer, struct json **ret_json,
                struct err *err);

/* A member that is an integer, as a number or (int64 in Google's JSON) as digits. */
int answer_int(const struct json *object, const char *name, int64_t *ret_value);

/* A member that is a time: Unix milliseconds, 0 when it is missing or something else. */
int64_t answer_time(const struct json *object, const char *name);

/* Takes "nextPageToken" of a list's page to *token: 1 when there is one more page, 0 when not, -1
 * when the answer leads in a circle. */
int answer_next_page(enum google_api api, const struct json *page, char **token, struct err *err);

/* "projects/…/jobs/j" and such: one or more segments, none of them "." or "..". */
int answer_check_name(const char *what, const char *name, struct err *err);

#endif
