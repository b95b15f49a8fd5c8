/* One call at Google, with what set-up knows besides: the permission that it needs. */
#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPERATION_MS 600000
#define ENABLING_MS 180000 /* time until an API knows that it, or an account, is there */
#define NEW_PAUSE_MS 3000
#define PAGES_MAX 10000

static const char *const services[GOOGLE_API_COUNT] = {
    [GOOGLE_RUN] = "run.googleapis.com",
    [GOOGLE_STORAGE] = "storage.googleapis.com",
    [GOOGLE_KMS] = "cloudkms.googleapis.com",
    [GOOGLE_SECRETS] = "secretmanager.googleapis.com",
    [GOOGLE_IAM] = "iam.googleapis.com",
    [GOOGLE_PROJECTS] = "cloudresourcemanager.googleapis.com",
    [GOOGLE_ARTIFACTS] = "artifactregistry.googleapis.com",
    [GOOGLE_COMPUTE] = "compute.googleapis.com",
    [GOOGLE_BUILD] = "cloudbuild.googleapis.com",
    [GOOGLE_BILLING] = "cloudbilling.googleapis.com",
    [GOOGLE_LOGGING] = "logging.googleapis.com",
};

bool site_is_off(const struct site *site, enum google_api api)
{
    return services[api] && strlist_has(&site->off, services[api]);
}

void site_pause(int64_t ms)
{
    poll(NULL, 0, (int)ms);
}

/* --- refusals ------------------------------------------------------------------------------- */

static bool is_disabled(const struct google_answer *answer, const struct err *err)
{
    return answer->status == 403 && (strcmp(answer->detail, "SERVICE_DISABLED") == 0 ||
                                     strstr(err->msg, "has not been used in project"));
}

/* Names the missing permission: from Google's message when it names one, else the expected one. */
static void name_permission(const char *expected, struct err *err)
{
    char named[80];
    const char *from = strstr(err->msg, "Permission '");
    snprintf(named, sizeof(named), "%s", expected ? expected : "");
    if (from) {
        from += strlen("Permission '");
        size_t len = strcspn(from, "'");
        if (from[len] && len > 0 && len < sizeof(named))
            snprintf(named, sizeof(named), "%.*s", (int)len, from);
    }
    if (*named)
        err_wrap(err, "the permission %s is missing", named);
}

#define BILLING_MS 1800000 /* A person must enter the details of a card. */
#define BILLING_SHORT_MS 15000
#define BILLING_EVERY_MS 2000

bool site_awaits_billing(struct site *site, struct err *err)
{
    bool missing = strcasestr(err->msg, "billing") != NULL;
    int64_t now = clock_mono_ms();
    if (!missing)
        return false;
    if (site->billing_until == 0) {
        site->billing_until = now + (isatty(STDIN_FILENO) ? BILLING_MS : BILLING_SHORT_MS);
        fprintf(stderr,
                "Project %s has no billing account. Switch it on here, this goes on by itself:\n"
                "https://console.cloud.google.com/billing/linkedaccount?project=%s\n",
                site->project, site->project);
    }
    if (now >= site->billing_until) {
        err_wrap(err, "billing is not switched on "
                      "(https://console.cloud.google.com/billing/linkedaccount)");
        return false;
    }
    site_pause(BILLING_EVERY_MS);
    return true;
}

/* Cloud Run does not know yet that we may act as an account which was made a moment ago. Says so
 * the first time. */
static bool is_new_account(struct site *site, enum google_api api, const struct err *err)
{
    bool is_new =
        api == GOOGLE_RUN && site->just_granted && strcasestr(err->msg, "serviceaccounts.actas");
    if (is_new && !site->told_new)
        fprintf(stderr, "Waiting for Cloud Run, which does not know the new account yet.\n");
    site->told_new |= is_new;
    return is_new;
}

/* --- operations ----------------------------------------------------------------------------- */

static bool add_operation(const struct site *site, enum google_api api, const struct json *answer,
                          struct buf *path)
{
    const char *name = json_text(json_get(answer, "name"));
    const char *kind = json_text(json_get(answer, "kind"));
    if (api == GOOGLE_COMPUTE) {
        if (!name || !kind || strcmp(kind, "compute#operation") != 0)
            return false;
        buf_addf(path, "/compute/v1/projects/%s/global/operations/", site->project);
        google_add_escaped(path, name);
        return true;
    }
    if (!name || !(str_starts(name, "operations/") || strstr(name, "/operations/")))
        return false;
    buf_addf(path, "/%s/", api == GOOGLE_RUN ? "v2" : api == GOOGLE_PROJECTS ? "v3" : "v1");
    str_add_url(path, name, "/");
    return true;
}

static int settle(struct site *site, const struct ask *ask, const struct json *answer,
                  struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    if (!answer || !add_operation(site, ask->api, answer, &path))
        return 0;
    if (buf_check(&path, "an operation's path", err))
        return -1;
    if (google_await(site->google, ask->api, answer, buf_str(&path), OPERATION_MS, NULL, err) == 0)
        return 0;
    if (err->code == ERR_FORBIDDEN)
        name_permission(NULL, err);
    return -1;
}

/* --- calls ---------------------------------------------------------------------------------- */

int site_ask(struct site *site, const struct ask *ask, struct json **ret_json, struct err *err)
{
    REQUIRE(ask->method && ask->path);
    AUTO(json) struct json *json = NULL;
    struct google_answer answer = {0};
    if (buf_check(ask->path, "a path", err) || (ask->body && buf_check(ask->body, "a body", err)))
        return -1;
    const struct google_call call = {.api = ask->api,
                                     .method = ask->method,
                                     .path = buf_str(ask->path),
                                     .body = ask->body ? buf_str(ask->body) : NULL,
                                     .body_len = ask->body ? ask->body->len : 0,
                                     .retry = ask->once ? GOOGLE_ONCE : GOOGLE_SAFE};
    for (int64_t end = clock_mono_ms() + ENABLING_MS;;) {
        if (google_call(site->google, &call, &json, &answer, err) == 0)
            break;
        bool is_new = is_new_account(site, ask->api, err) ||
                      (site->just_enabled && is_disabled(&answer, err));
        if (is_new && clock_mono_ms() <= end) {
            site_pause(NEW_PAUSE_MS);
            continue;
        }
        if (is_disabled(&answer, err))
            return -1;
        if (answer.status == 403)
            name_permission(ask->permission, err);
        return -1;
    }
    if (!ask->leave && settle(site, ask, json, err))
        return -1;
    if (ret_json)
        *ret_json = STEAL_PTR(json);
    return 0;
}

int site_list(struct site *site, const struct ask *ask, const char *field,
              int (*fn)(const struct json *item, void *arg), void *arg, struct err *err)
{
    AUTO(str) char *token = NULL;
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        AUTO(json) struct json *page = NULL;
        AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
        struct ask one = *ask;
        buf_adds(&path, buf_str(ask->path));
        if (token) {
            buf_adds(&path, "&pageToken=");
            google_add_escaped(&path, token);
        }
        one.path = &path;
        if (site_ask(site, &one, &page, err))
            return -1;
        const struct json *items = json_get(page, field);
        for (const struct json *item = json_first(items); item; item = json_next(item))
            if (fn(item, arg))
                return 0;
        const char *next = json_text(json_get(page, "nextPageToken"));
        if (!next || !*next)
            return 0;
        free(token);
        token = strdup(next);
        if (!token)
            return err_sys(err, "a page's token");
    }
    return err_set(err, ERR_UPSTREAM, "the list of %s does not end", field);
}
