#include "runner/worker/fixed.h"

#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "google/google.h"
#include "google/jobs.h"
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METADATA_MS 30000
#define WORD_MAX 256

enum guard {
    GUARD_GOOGLE,    /* must be an endpoint of Google */
    GUARD_ANTHROPIC, /* where Claude's requests are sent, with the key */
    GUARD_ANY,       /* no value is harmless */
};

static const struct {
    const char *name;
    enum guard guard;
} guarded[] = {
    {"ANTHROPIC_UPSTREAM", GUARD_ANTHROPIC},
    {"GOOGLE_RUN_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_STORAGE_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_KMS_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_SECRETMANAGER_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_IAM_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_SERVICEUSAGE_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_RESOURCEMANAGER_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_ARTIFACTREGISTRY_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_IAMCREDENTIALS_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_COMPUTE_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_CLOUDBUILD_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_CLOUDBILLING_ENDPOINT", GUARD_GOOGLE},
    {"GOOGLE_LOGGING_ENDPOINT", GUARD_GOOGLE},
    {"HTTPS_PROXY", GUARD_ANY},
    {"https_proxy", GUARD_ANY},
    {"ALL_PROXY", GUARD_ANY},
    {"all_proxy", GUARD_ANY},
    {"SSL_CERT_FILE", GUARD_ANY},
    {"SSL_CERT_DIR", GUARD_ANY},
};

/* The host of a URL of that scheme, without a port; false for anything odd. */
static bool host_of(const char *url, const char *scheme, char host[WORD_MAX])
{
    size_t len = strlen(scheme);
    if (strncasecmp(url, scheme, len) != 0)
        return false;
    const char *from = url + len;
    size_t n = strcspn(from, ":/?#");
    if (n == 0 || n >= WORD_MAX || strpbrk(from, "@\\ "))
        return false;
    snprintf(host, WORD_MAX, "%.*s", (int)n, from);
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), tail = strlen(end);
    return len >= tail && strcasecmp(text + len - tail, end) == 0;
}

bool fixed_is_harmless(const char *name, const char *value)
{
    REQUIRE(name && value);
    char host[WORD_MAX];
    for (size_t i = 0; i < COUNT_OF(guarded); i++) {
        if (strcmp(guarded[i].name, name) != 0)
            continue;
        if (!*value)
            return true;
        if (guarded[i].guard == GUARD_ANY || !host_of(value, "https://", host))
            return false;
        return guarded[i].guard == GUARD_GOOGLE ? ends_with(host, ".googleapis.com")
                                                : strcasecmp(host, "api.anthropic.com") == 0;
    }
    return true;
}

static bool is_of_this_container(const char *value)
{
    char host[WORD_MAX];
    return (host_of(value, "http://", host) || host_of(value, "https://", host)) &&
           (strcmp(host, "127.0.0.1") == 0 || strcasecmp(host, "localhost") == 0);
}

/* --- the definition ------------------------------------------------------------------------- */

/* Reads one value of the metadata server. */
static int ask_metadata(const char *path, char word[WORD_MAX], struct err *err)
{
    const char *host = getenv("GCE_METADATA_HOST");
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(buf) struct buf url = BUF_INIT(1024);
    buf_addf(&url, "http://%s/computeMetadata/v1/%s", host ? host : "169.254.169.254", path);
    strlist_add(&headers, "Metadata-Flavor: Google");
    const struct net_request request = {.method = "GET",
                                        .url = buf_str(&url),
                                        .headers = &headers,
                                        .reach = NET_PLAIN,
                                        .connect_ms = 1000,
                                        .total_ms = METADATA_MS,
                                        .answer_max = 4096};
    if (buf_check(&url, "the address", err) || net_call(&request, &answer, err))
        return -1;
    if (answer.status != 200 || answer.body.len == 0)
        return err_set(err, ERR_UPSTREAM, "HTTP %d", answer.status);
    const char *slash = strrchr(buf_str(&answer.body), '/');
    snprintf(word, WORD_MAX, "%s", slash ? slash + 1 : buf_str(&answer.body));
    word[strcspn(word, "\r\n ")] = '\0';
    return 0;
}

static const char *get(const struct strlist *env, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, len) == 0 && env->items[i][len] == '=')
            return env->items[i] + len + 1;
    return NULL;
}

/* Asks Cloud Run itself, or a server in this container that stands for it, for the job's
 * definition. */
static struct json *fetch_definition(const struct strlist *env, struct err *err)
{
    char project[WORD_MAX], region[WORD_MAX], name[3 * WORD_MAX];
    const char *job = get(env, "CLOUD_RUN_JOB"), *endpoint = get(env, "GOOGLE_RUN_ENDPOINT");
    const char *host = get(env, "GCE_METADATA_HOST");
    struct json *definition = NULL;
    if (!job) {
        err_set(err, ERR_CONFIG, "CLOUD_RUN_JOB is not set");
        return NULL;
    }
    if (ask_metadata("project/project-id", project, err) ||
        ask_metadata("instance/region", region, err)) {
        err_wrap(err, "the metadata server");
        return NULL;
    }
    bool usable = endpoint && (fixed_is_harmless("GOOGLE_RUN_ENDPOINT", endpoint) ||
                               is_of_this_container(endpoint));
    const struct google_config config = {.metadata_host = host,
                                         .at_google = true,
                                         .endpoints = {[GOOGLE_RUN] = usable ? endpoint : NULL}};
    AUTO(google) struct google *google = google_new(&config, err);
    snprintf(name, sizeof(name), "projects/%s/locations/%s/jobs/%s", project, region, job);
    return google && jobs_job_get(google, name, &definition, err) == 0 ? definition : NULL;
}

/* The variable's value in the definition, or NULL. */
static const char *defined(const struct json *definition, const char *name)
{
    const struct json *template = json_get(json_get(definition, "template"), "template");
    const struct json *containers = json_get(template, "containers");
    const struct json *list = json_get(json_first(containers), "env");
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        const char *is = json_text(json_get(at, "name"));
        if (is && strcmp(is, name) == 0)
            return json_text(json_get(at, "value"));
    }
    return NULL;
}

/* --- settling ------------------------------------------------------------------------------- */

/* Removes the line, here and for programs that this process starts, and adds another one when there
 * is one. */
static void replace(struct strlist *env, const char *name, const char *value)
{
    struct strlist kept = STRLIST_INIT;
    size_t len = strlen(name);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, len) != 0 || env->items[i][len] != '=')
            strlist_add(&kept, env->items[i]);
    if (value)
        strlist_addf(&kept, "%s=%s", name, value);
    strlist_done(env);
    *env = kept;
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static int settle_one(struct strlist *env, const char *name, const struct json *definition,
                      const struct err *why, struct err *err)
{
    AUTO(str) char *value = strdup(get(env, name));
    if (!value)
        return err_sys(err, "environment");
    if (!definition) {
        if (is_of_this_container(value))
            return 0;
        return err_set(err, ERR_CONFIG,
                       "%s is not Google's or Anthropic's own, and the job's definition cannot be "
                       "asked whether it is meant: %.120s",
                       name, why->msg);
    }
    const char *meant = defined(definition, name);
    if (meant && strcmp(meant, value) == 0)
        return 0;
    log_warn("job", "%s is not as the job's definition has it: that is taken", name);
    replace(env, name, meant);
    return 0;
}

/* Removes variables that name a file instead of a value: no definition of ours has them. */
static void drop_files(struct strlist *env)
{
    char name[64];
    for (size_t i = 0; i < COUNT_OF(guarded); i++) {
        snprintf(name, sizeof(name), "%s_FILE", guarded[i].name);
        if (get(env, name))
            replace(env, name, NULL);
    }
}

int fixed_settle(struct strlist *env, struct err *err)
{
    struct err why = ERR_INIT;
    AUTO(json) struct json *definition = NULL;
    bool asked = false;
    drop_files(env);
    for (size_t i = 0; i < COUNT_OF(guarded); i++) {
        const char *name = guarded[i].name, *value = get(env, name);
        if (!value || fixed_is_harmless(name, value))
            continue;
        if (!asked)
            definition = fetch_definition(env, &why);
        asked = true;
        if (settle_one(env, name, definition, &why, err))
            return -1;
    }
    return 0;
}
