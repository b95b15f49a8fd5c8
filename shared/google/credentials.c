#include "base/check.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/lock.h"
#include "base/str.h"
#include "google/google.h"
#include "google/identity.h"
#include "google/limits.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_URL "https://oauth2.googleapis.com/token"
#define OUR_UNIVERSE "googleapis.com"

void identity_free(struct identity *identity)
{
    if (!identity)
        return;
    char *const secrets[] = {identity->client_secret, identity->refresh_token,
                             identity->given_token, identity->cache.text};
    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        if (secrets[i])
            explicit_bzero(secrets[i], strlen(secrets[i]));
        free(secrets[i]);
    }
    char *const texts[] = {identity->name,      identity->project,      identity->quota_project,
                           identity->email,     identity->token_url,    identity->key_id,
                           identity->client_id, identity->metadata_host};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        free(texts[i]);
    strlist_done(&identity->delegates);
    crypto_rsa_free(identity->key);
    identity_free(identity->source);
    pthread_cond_destroy(&identity->cache.changed);
    lock_done(&identity->cache.lock);
    free(identity);
}

static struct identity *identity_new(enum identity_kind kind, struct err *err)
{
    struct identity *identity = calloc(1, sizeof(*identity));
    if (!identity) {
        err_sys(err, "credentials");
        return NULL;
    }
    identity->kind = kind;
    lock_init(&identity->cache.lock);
    cond_init(&identity->cache.changed);
    return identity;
}

/* --- what all kinds are made of ------------------------------------------------------------- */

/* Copies a required member; the caller frees the copy. */
static int take_text(const struct json *object, const char *name, char **ret_text, struct err *err)
{
    const char *text = json_text(json_get(object, name));
    if (!text || !*text)
        return err_set(err, ERR_CONFIG, "\"%s\" is missing or no text", name);
    char *copy = strdup(text);
    if (!copy)
        return err_sys(err, "\"%s\"", name);
    free(*ret_text);
    *ret_text = copy;
    return 0;
}

/* Copies an optional member; the caller frees the copy. */
static int take_optional(const struct json *object, const char *name, char **ret_text,
                         struct err *err)
{
    return json_get(object, name) ? take_text(object, name, ret_text, err) : 0;
}

static int set_name(struct identity *identity, const char *before, const char *who, struct err *err)
{
    free(identity->name);
    if (asprintf(&identity->name, "%s%s", before, who) >= 0)
        return 0;
    identity->name = NULL;
    return err_sys(err, "credentials");
}

static int take_token_url(struct identity *identity, const struct json *object, struct err *err)
{
    struct form_url url;
    if (!json_get(object, "token_uri"))
        return (identity->token_url = strdup(TOKEN_URL)) ? 0 : err_sys(err, "credentials");
    if (take_text(object, "token_uri", &identity->token_url, err))
        return -1;
    if (form_url(identity->token_url, &url) || url.has_user || (!url.tls && !url.loopback))
        return err_set(err, ERR_CONFIG, "\"token_uri\" is no https URL");
    return 0;
}

/* --- the kinds of file ---------------------------------------------------------------------- */

static int fill_key(struct identity *identity, const struct json *file, struct err *err)
{
    const char *pem = json_text(json_get(file, "private_key"));
    if (take_text(file, "client_email", &identity->email, err) ||
        take_token_url(identity, file, err) ||
        take_optional(file, "private_key_id", &identity->key_id, err) ||
        take_optional(file, "project_id", &identity->project, err))
        return -1;
    if (!pem)
        return err_set(err, ERR_CONFIG, "\"private_key\" is missing or no text");
    if (!(identity->key = crypto_rsa_new_pem(pem, err))) {
        err->code = ERR_CONFIG;
        return err_wrap(err, "\"private_key\"");
    }
    return set_name(identity, "service account ", identity->email, err);
}

static int fill_user(struct identity *identity, const struct json *file, struct err *err)
{
    if (take_text(file, "client_id", &identity->client_id, err) ||
        take_text(file, "client_secret", &identity->client_secret, err) ||
        take_text(file, "refresh_token", &identity->refresh_token, err) ||
        take_token_url(identity, file, err) ||
        take_optional(file, "quota_project_id", &identity->quota_project, err))
        return -1;
    return set_name(identity, "a person's login", "", err);
}

static int fill_delegates(struct identity *identity, const struct json *file, struct err *err)
{
    const struct json *delegates = json_get(file, "delegates");
    for (const struct json *one = json_first(delegates); one; one = json_next(one))
        if (!json_text(one) || strlist_add(&identity->delegates, json_text(one)))
            return err_set(err, ERR_CONFIG, "\"delegates\" are no list of names");
    return 0;
}

/* The account's address from the URL ".../serviceAccounts/EMAIL:generateAccessToken"; the endpoint
 * itself is the configured one. */
static char *impersonated_email(const struct json *file)
{
    const char *url = json_text(json_get(file, "service_account_impersonation_url"));
    const char *from = url ? strstr(url, "/serviceAccounts/") : NULL;
    const char *end = from ? strstr(from, ":generateAccessToken") : NULL;
    if (!end)
        return NULL;
    from += strlen("/serviceAccounts/");
    return end > from && !memchr(from, '/', (size_t)(end - from))
               ? str_copy(from, (size_t)(end - from))
               : NULL;
}

static struct identity *read_json(const struct json *file, const char *iam, bool nested,
                                  struct err *err);

static struct identity *read_impersonated(const struct json *file, const char *iam, struct err *err)
{
    AUTO(str) char *email = impersonated_email(file);
    const struct json *inner = json_get(file, "source_credentials");
    if (!email) {
        err_set(err, ERR_CONFIG, "\"service_account_impersonation_url\" names no service account");
        return NULL;
    }
    if (!inner) {
        err_set(err, ERR_CONFIG, "\"source_credentials\" are missing");
        return NULL;
    }
    struct identity *source = read_json(inner, iam, true, err);
    if (!source) {
        err_wrap(err, "\"source_credentials\"");
        return NULL;
    }
    AUTO(identity) struct identity *identity = identity_impersonate(source, email, iam, err);
    if (!identity || fill_delegates(identity, file, err) ||
        take_optional(file, "quota_project_id", &identity->quota_project, err))
        return NULL;
    return STEAL_PTR(identity);
}

static void refuse_type(const char *type, struct err *err)
{
    if (!type)
        err_set(err, ERR_CONFIG, "\"type\" is missing or no text");
    else if (str_starts(type, "external_account"))
        err_set(err, ERR_CONFIG,
                "\"type\" %.40s (workload identity federation) is not supported: use a service "
                "account's key, a login of gcloud, or the metadata server",
                type);
    else
        err_set(err, ERR_CONFIG,
                "\"type\" is none of service_account, authorized_user and "
                "impersonated_service_account");
}

static struct identity *read_json(const struct json *file, const char *iam, bool nested,
                                  struct err *err)
{
    const char *type = json_text(json_get(file, "type"));
    const char *universe = json_text(json_get(file, "universe_domain"));
    bool key = type && strcmp(type, "service_account") == 0;
    if (universe && strcmp(universe, OUR_UNIVERSE) != 0) {
        err_set(err, ERR_CONFIG, "\"universe_domain\" is another than " OUR_UNIVERSE);
        return NULL;
    }
    if (type && !nested && strcmp(type, "impersonated_service_account") == 0)
        return read_impersonated(file, iam, err);
    if (!key && (!type || strcmp(type, "authorized_user") != 0)) {
        refuse_type(type, err);
        return NULL;
    }
    AUTO(identity)
    struct identity *identity = identity_new(key ? IDENTITY_KEY : IDENTITY_USER, err);
    if (!identity || (key ? fill_key(identity, file, err) : fill_user(identity, file, err)))
        return NULL;
    return STEAL_PTR(identity);
}

struct identity *identity_from_file(const char *path, const char *iam, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(CREDENTIALS_BYTES_MAX);
    struct identity *identity = NULL;
    if (file_read(path, &text, err) == 0) {
        AUTO(json) struct json *file = json_parse(buf_str(&text), text.len, err);
        if (file)
            identity = read_json(file, iam, false, err);
    }
    if (!identity) {
        err->code = err->code == ERR_NOT_FOUND ? ERR_NOT_FOUND : ERR_CONFIG;
        err_wrap(err, "Google credentials file '%.100s'", path);
    }
    return identity;
}

/* --- without a file ------------------------------------------------------------------------- */

struct identity *identity_from_metadata(const char *host, struct err *err)
{
    AUTO(identity) struct identity *identity = identity_new(IDENTITY_METADATA, err);
    if (!identity || set_name(identity, "the metadata server's service account", "", err))
        return NULL;
    if (host && !(identity->metadata_host = strdup(host))) {
        err_sys(err, "credentials");
        return NULL;
    }
    return STEAL_PTR(identity);
}

struct identity *identity_from_token(const char *token, struct err *err)
{
    AUTO(identity) struct identity *identity = identity_new(IDENTITY_TOKEN, err);
    if (!identity || set_name(identity, "an access token that was given", "", err))
        return NULL;
    identity->given_token = strdup(token);
    if (!identity->given_token) {
        err_sys(err, "credentials");
        return NULL;
    }
    return STEAL_PTR(identity);
}

struct identity *identity_impersonate(struct identity *source, const char *email, const char *iam,
                                      struct err *err)
{
    REQUIRE(email && iam);
    AUTO(identity) struct identity *identity = identity_new(IDENTITY_IMPERSONATED, err);
    AUTO(buf) struct buf url = BUF_INIT(4096);
    AUTO(str) char *by = NULL;
    if (!identity) {
        identity_free(source);
        return NULL;
    }
    identity->source = source;
    buf_addf(&url, "%s/v1/projects/-/serviceAccounts/", iam);
    google_add_escaped(&url, email);
    buf_adds(&url, ":generateAccessToken");
    identity->email = strdup(email);
    identity->project = source->project ? strdup(source->project) : NULL;
    identity->token_url = buf_steal(&url);
    if (!identity->email || !identity->token_url ||
        asprintf(&by, "%s as service account ", source->name) < 0) {
        err_sys(err, "credentials");
        return NULL;
    }
    return set_name(identity, by, email, err) ? NULL : STEAL_PTR(identity);
}
