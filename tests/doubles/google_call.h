/*
 * One request to the stand-in for Google's APIs, as the services see it: the method, what its path
 * and query say, its body, who asks; and how it is answered.
 *
 * Threads: a call belongs to its connection's thread. Handlers run under store_lock() unless their
 * row says otherwise.
 */
#ifndef DOUBLES_GOOGLE_CALL_H
#define DOUBLES_GOOGLE_CALL_H

#include "google_schema.h"
#include "google_store.h"
#include "server.h"

struct call {
    struct server_conn *conn;
    const struct server_request *req;
    const struct google_method *method;
    char *args[GOOGLE_SEGMENTS_MAX]; /* what stands for the path's `*` */
    size_t n_args;
    cJSON *body;       /* NULL without one */
    char account[256]; /* who asks: an e-mail address */

    int status;         /* of the answer; 0 before there is one */
    char headers[1024]; /* further ones of the answer */
    bool sent;          /* the handler has answered by itself */
    cJSON *note;        /* for the log, in the place of a body that is not JSON */

    /* What a fault has planned for the answer (google_faults.h). */
    bool lose_answer, wrong_crc;
    long cut_body_at;   /* -1: nowhere */
    long cut_upload_at; /* of what comes; -1: nowhere */
};

/* Returns the answer (NULL after call_fail(): the fault), which the caller sends. */
typedef cJSON *call_handler(struct call *call);

struct call_row {
    const char *method; /* its id */
    const char *permission;
    call_handler *handler;
    bool unlocked;
};

/* The services' rows; each ends with an empty one. */
extern const struct call_row google_storage_rows[], google_object_rows[], google_upload_rows[],
    google_kms_rows[], google_run_rows[], google_execution_rows[], google_secret_rows[],
    google_iam_rows[], google_project_rows[], google_compute_rows[], google_build_rows[],
    google_service_rows[];

extern const char *const google_compute_methods[], *const google_compute_schemas[];
extern const char *const google_build_methods[], *const google_build_schemas[];

/* Refuses: `status` is Google's name for it ("NOT_FOUND"), which says the HTTP status too. Returns
 * NULL. */
cJSON *call_fail(struct call *call, const char *status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* 404 in the words of most services. */
cJSON *call_missing(struct call *call, const char *resource);
/* Sends what the handler returned, or the fault. */
void call_answer(struct call *call, cJSON *json);
void call_header(struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A parameter of the query, in fresh memory, or NULL; and as a number. */
char *call_param(const struct call *call, const char *name);
int64_t call_number(const struct call *call, const char *name, int64_t otherwise);

/* The path behind the version, without a verb: "projects/p/secrets/s". In fresh memory. */
char *call_name(const struct call *call);
/* That as the name of its document: "run:projects/…". In fresh memory. */
char *call_key(const struct call *call);

/* A document as it is shown: without the members that only the service knows, which begin with an
 * underscore. NULL for NULL. */
cJSON *call_shown(const cJSON *document);

/* A list of what is directly below `prefix` in the store, a page of it: {"FIELD":[…],
 * "nextPageToken"}. show() makes the item of a document. */
typedef cJSON *call_show(const char *name, cJSON *document);
call_show call_show_document; /* call_shown() */
cJSON *call_list(struct call *call, const char *prefix, const char *field, call_show *show);
/* Of all below the path, as they are. */
cJSON *call_list_below(struct call *call, const char *field);
/* How many a page may hold: what was asked for, but two at most, as the stand-in pages early. */
size_t call_page_size(const struct call *call, const char *parameter);

/* ---- JSON ---- */

const char *json_string(const cJSON *object, const char *name);             /* "" */
int64_t json_int(const cJSON *object, const char *name, int64_t otherwise); /* also of a string */
void json_set_string(cJSON *object, const char *name, const char *value);
void json_set_int64(cJSON *object, const char *name, int64_t value); /* as a string */
void json_set_number(cJSON *object, const char *name, double value);
void json_set(cJSON *object, const char *name, cJSON *value);
void json_set_now(cJSON *object, const char *name);
/* Copies the members of `from` into `to`, replacing. */
void json_merge(cJSON *to, const cJSON *from);

/* ---- bytes ---- */

char *base64_text(const void *data, size_t size);
/* Either alphabet; NULL: malformed. NUL-terminated besides. */
unsigned char *base64_bytes(const char *text, size_t *ret_size);
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* Random lower-case letters and digits, the first a letter. */
void random_name(char *out, size_t len);

#endif
