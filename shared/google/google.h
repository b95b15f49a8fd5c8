/*
 * Calling Google's APIs: who we are there, one call with what all calls share, and its errors.
 *
 * Theory of operation. A struct google holds the credentials (found as Google's own libraries find
 * them), the endpoints and the idle connections. google_call() gets an access token (cached,
 * refreshed before it ends, by one caller for all), sends, reads, and tries again where Google says
 * that it is safe: with jitter, honouring Retry-After, up to a total time. What speaks of one
 * service (storage.h, kms.h, run.h, secret.h) is a thin layer over it.
 *
 *     storage.h  kms.h  run.h  secret.h
 *            └─────┴──┬───┴──────┘
 *                 google_call()  ── token ──> credentials file, or the metadata server
 *                     │
 *                 net (libcurl): idle links kept by host
 *
 * Errors keep Google's words: "Cloud Storage: PERMISSION_DENIED (forbidden): <message>". Codes:
 * 400 ERR_INVALID, 401 and 403 ERR_FORBIDDEN, 404 ERR_NOT_FOUND, 409 ERR_CONFLICT, 412
 * ERR_MISMATCH (a precondition), 429 and RESOURCE_EXHAUSTED ERR_RATE, 5xx ERR_UPSTREAM; no answer
 * in time ERR_TIMEOUT.
 *
 * Threads: any.
 * Ownership: the caller of google_new() frees it by google_free().
 */
#ifndef GOOGLE_GOOGLE_H
#define GOOGLE_GOOGLE_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, what a person calls it, Google's endpoint) */
#define GOOGLE_APIS(X)                                                                    \
    X(GOOGLE_RUN, "Cloud Run", "https://run.googleapis.com")                              \
    X(GOOGLE_STORAGE, "Cloud Storage", "https://storage.googleapis.com")                  \
    X(GOOGLE_KMS, "Cloud KMS", "https://cloudkms.googleapis.com")                         \
    X(GOOGLE_SECRETS, "Secret Manager", "https://secretmanager.googleapis.com")           \
    X(GOOGLE_IAM, "IAM", "https://iam.googleapis.com")                                    \
    X(GOOGLE_SERVICES, "Service Usage", "https://serviceusage.googleapis.com")            \
    X(GOOGLE_PROJECTS, "Resource Manager", "https://cloudresourcemanager.googleapis.com") \
    X(GOOGLE_ARTIFACTS, "Artifact Registry", "https://artifactregistry.googleapis.com")   \
    X(GOOGLE_IAM_CREDENTIALS, "IAM Credentials", "https://iamcredentials.googleapis.com") \
    X(GOOGLE_COMPUTE, "Compute Engine", "https://compute.googleapis.com")                 \
    X(GOOGLE_BUILD, "Cloud Build", "https://cloudbuild.googleapis.com")                   \
    X(GOOGLE_BILLING, "Cloud Billing", "https://cloudbilling.googleapis.com")             \
    X(GOOGLE_LOGGING, "Cloud Logging", "https://logging.googleapis.com")

enum google_api {
#define GOOGLE_API_ENUM(name, title, endpoint) name,
    GOOGLE_APIS(GOOGLE_API_ENUM)
#undef GOOGLE_API_ENUM
        GOOGLE_API_COUNT
};

struct google_config {
    const char *credentials;   /* a file: service-account key or authorized user; or NULL */
    const char *home;          /* where gcloud's own file is looked for without one; or NULL */
    const char *metadata_host; /* HOST[:PORT]; NULL: Google's, asked last */
    bool at_google;            /* we run in a container of Google's: there is a metadata server */
    const char *impersonate;   /* act as this service account, or NULL */
    const char *endpoints[GOOGLE_API_COUNT]; /* NULL: Google's */
};

struct google;

/* Copies the configuration, reads and checks the credentials file, and connects to nobody yet. The
 * caller frees the result by google_free(). */
struct google *google_new(const struct google_config *config, struct err *err);
void google_free(struct google *google);
DEFINE_AUTO(google, struct google *, google_free)

/* Uses this access token for all calls, as long as it is valid. Call before the first call. */
int google_use_token(struct google *google, const char *token, struct err *err);
/* Charges a person's calls to this project, whose limits apply. Call before the first call.
 * Credentials that have a project of their own are left unchanged. */
int google_charge(struct google *google, const char *project, struct err *err);

/* Describes the credentials for a person: "service account a@b", "metadata server", …; NULL when
 * none were found (then every call fails with ERR_FORBIDDEN). */
const char *google_identity(const struct google *google);
/* The project that the credentials name, or NULL. */
const char *google_project(const struct google *google);

/* Gets an access token unless there is one: shows whether Google accepts the credentials. */
int google_login(struct google *google, struct err *err);

/* Whether a request may be repeated when its answer was lost. */
enum google_retry {
    GOOGLE_SAFE, /* repeating does no harm: tried again on 408, 429, 5xx and no answer */
    GOOGLE_ONCE, /* tried again only when nothing was done for certain: connection refused, 429 */
};

struct google_call {
    enum google_api api;
    const char *method;
    const char *path; /* with the query, escaped: "/v2/projects/p/…" */
    const char *body; /* JSON, or NULL */
    size_t body_len;
    enum google_retry retry;
    int total_ms;            /* over all tries; 0: 60 s */
    int tries;               /* at most; 0: as many as fit */
    bool (*stop)(void *arg); /* true to give up; or NULL */
    void *arg;
};

/* The outcome in detail, where the error code alone does not say it. */
struct google_answer {
    int status;             /* of the last answer; 0: there was none */
    bool unsure;            /* it failed, but may have been carried out */
    char reason[64];        /* Google's own: "RESOURCE_EXHAUSTED", "conditionNotMet", … */
    char detail[64];        /* a more exact reason where there is one: "SERVICE_DISABLED", … */
    int64_t retry_after_ms; /* -1: not said */
};

/* Makes one call. *ret_json is the answer (NULL for an empty one), which the caller frees by
 * json_free(); ret_json and ret_answer may be NULL. */
int google_call(struct google *google, const struct google_call *call, struct json **ret_json,
                struct google_answer *ret_answer, struct err *err);

/* Waits for a long-running operation: polls `path` ("/v2/projects/…/operations/…") until it is
 * done or total_ms have passed. `first` is its first answer, or NULL. *ret_json is its response,
 * which the caller frees. */
int google_await(struct google *google, enum google_api api, const struct json *first,
                 const char *path, int total_ms, struct json **ret_json, struct err *err);

/* Appends text as one segment of a path or a query: all but unreserved characters escaped. */
void google_add_escaped(struct buf *out, const char *text);

/* CRC32C as Google's APIs use it; start with 0, feed pieces. */
uint32_t google_crc32c(uint32_t crc, const void *data, size_t len);
/* google_crc32c() without the processor's instruction. */
uint32_t google_crc32c_portable(uint32_t crc, const void *data, size_t len);
/* The CRC32C of two texts in a row, from the CRC32C of each. */
uint32_t google_crc32c_join(uint32_t first, uint32_t second, int64_t second_len);

#endif
