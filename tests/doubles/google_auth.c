#include "google_auth.h"

#include "google_world.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* Google's own token endpoints, for whom its clients write their assertions. */
#define GOOGLE_TOKEN_URL "https://oauth2.googleapis.com/token"
#define GOOGLE_TOKEN_URL_OLD "https://www.googleapis.com/oauth2/v4/token"
#define USER_CLIENT "stand-in.apps.googleusercontent.com"
#define USER_SECRET "stand-in-client-secret"
#define USER_REFRESH "1//stand-in-refresh-token"

enum { SECRET_SIZE = 32 };

static unsigned char secret[SECRET_SIZE]; /* of the tokens' MACs */

/* ---- tokens ---- */

static void mac_of(const char *text, size_t len, unsigned char mac[32])
{
    unsigned size = 0;
    if (!HMAC(EVP_sha256(), secret, sizeof secret, (const unsigned char *)text, len, mac, &size))
        abort();
}

static char *base64url(const void *data, size_t size)
{
    char *text = base64_text(data, size);
    text[strcspn(text, "=")] = '\0';
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    return text;
}

char *auth_token_new(const char *account, int64_t lifetime_s)
{
    unsigned char mac[32];
    char *claims = NULL, *token = NULL;
    int n = asprintf(&claims, "%lld %lld %lld %s", (long long)(store_now_ms() + lifetime_s * 1000),
                     (long long)world_setting("tokenEpoch"), (long long)store_serial(), account);
    if (n < 0)
        abort();
    mac_of(claims, (size_t)n, mac);
    char *head = base64url(claims, (size_t)n), *tail = base64url(mac, sizeof mac);
    if (asprintf(&token, "ya29.%s.%s", head, tail) < 0)
        abort();
    free(claims);
    free(head);
    free(tail);
    return token;
}

/* Whose token it is, to `account`; false when it is none or is over. */
static bool token_account(const char *token, char account[256])
{
    size_t size = 0, mac_size = 0;
    unsigned char mac[32];
    const char *dot = strncmp(token, "ya29.", 5) == 0 ? strchr(token + 5, '.') : NULL;
    char *head = dot ? strndup(token + 5, (size_t)(dot - token) - 5) : NULL;
    unsigned char *claims = head ? base64_bytes(head, &size) : NULL;
    unsigned char *given = claims ? base64_bytes(dot + 1, &mac_size) : NULL;
    long long ends = 0, epoch = 0, serial = 0;
    bool good = given && mac_size == sizeof mac;
    if (good) {
        mac_of((char *)claims, size, mac);
        good =
            CRYPTO_memcmp(mac, given, sizeof mac) == 0 &&
            sscanf((char *)claims, "%lld %lld %lld %255s", &ends, &epoch, &serial, account) == 4 &&
            ends > store_now_ms() && epoch == world_setting("tokenEpoch");
    }
    free(head);
    free(claims);
    free(given);
    return good;
}

/* ---- the token endpoint ---- */

static int token_answer(struct server_conn *conn, int status, cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    server_reply(conn, status, "Content-Type: application/json; charset=utf-8\r\n", text,
                 strlen(text));
    free(text);
    cJSON_Delete(json);
    return status;
}

static int token_fault(struct server_conn *conn, int status, const char *error,
                       const char *description)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "error", error);
    cJSON_AddStringToObject(json, "error_description", description);
    return token_answer(conn, status, json);
}

static int grant(struct server_conn *conn, const char *account, const char *scope)
{
    cJSON *json = cJSON_CreateObject();
    int64_t lifetime = world_setting("tokenLifetime");
    char *token = auth_token_new(account, lifetime);
    cJSON_AddStringToObject(json, "access_token", token);
    cJSON_AddNumberToObject(json, "expires_in", (double)lifetime);
    cJSON_AddStringToObject(json, "token_type", "Bearer");
    if (scope)
        cJSON_AddStringToObject(json, "scope", scope);
    free(token);
    return token_answer(conn, 200, json);
}

static cJSON *part_json(const char *part, size_t len)
{
    size_t size;
    char *text = strndup(part, len);
    unsigned char *bytes = base64_bytes(text, &size);
    cJSON *json = bytes ? cJSON_Parse((char *)bytes) : NULL;
    free(text);
    free(bytes);
    return json;
}

static bool signed_by(const char *public_pem, const char *text, size_t len, const char *signature)
{
    size_t size = 0;
    unsigned char *bytes = base64_bytes(signature, &size);
    BIO *bio = BIO_new_mem_buf(public_pem, -1);
    EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = bytes && pkey && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, pkey) == 1 &&
                EVP_DigestVerify(md, bytes, size, (const unsigned char *)text, len) == 1;
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    free(bytes);
    return good;
}

/* Whether a key of the account (the one that the header names, if it names one) has signed it. */
static bool is_signed(const char *account_key, const char *kid, const char *jwt,
                      const char *signature)
{
    const char *name;
    const cJSON *key;
    char prefix[600];
    snprintf(prefix, sizeof prefix, "%s/keys/", account_key);
    for (size_t i = store_seek(prefix); (key = store_at_prefix(i, prefix, &name)); i++)
        if ((!*kid || strcmp(name + strlen(prefix), kid) == 0) &&
            signed_by(json_string(key, "_publicPem"), jwt, (size_t)(signature - jwt) - 1,
                      signature))
            return true;
    return false;
}

/* False when it is not three parts of which two are JSON. The signature points into it. */
static bool parse_jwt(const char *jwt, cJSON **ret_header, cJSON **ret_claims,
                      const char **ret_signature)
{
    const char *dot = strchr(jwt, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    cJSON *header = second ? part_json(jwt, (size_t)(dot - jwt)) : NULL;
    cJSON *claims = second ? part_json(dot + 1, (size_t)(second - dot) - 1) : NULL;
    if (!header || !claims) {
        cJSON_Delete(header);
        cJSON_Delete(claims);
        return false;
    }
    *ret_header = header;
    *ret_claims = claims;
    *ret_signature = second + 1;
    return true;
}

static bool times_fault(const cJSON *claims)
{
    int64_t now = store_now_ms() / 1000;
    int64_t iat = json_int(claims, "iat", 0), exp = json_int(claims, "exp", 0);
    return !iat || !exp || exp <= now || exp - iat > 3600 || iat > now + 300 || iat < now - 3600;
}

/* What is wrong with the claims, or NULL. */
static const char *claims_fault(const cJSON *claims)
{
    char own[128];
    const char *aud = json_string(claims, "aud");
    snprintf(own, sizeof own, "%s/token", world.base);
    if (strcmp(aud, own) != 0 && strcmp(aud, GOOGLE_TOKEN_URL) != 0 &&
        strcmp(aud, GOOGLE_TOKEN_URL_OLD) != 0)
        return "Invalid JWT: Failed audience check. The right audience is the token_uri";
    if (times_fault(claims))
        return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
               "timeframe. Check your iat and exp values in the JWT claim.";
    return NULL;
}

static int judge_jwt(struct server_conn *conn, const char *jwt, const cJSON *header,
                     const cJSON *claims, const char *signature)
{
    const char *fault = claims_fault(claims);
    const char *scope = json_string(claims, "scope");
    char *key = auth_account_key(json_string(claims, "iss"));
    int status;
    if (strcmp(json_string(header, "alg"), "RS256") != 0)
        status = token_fault(conn, 400, "invalid_grant", "Invalid JWT: alg must be RS256");
    else if (!key)
        status = token_fault(conn, 400, "invalid_grant", "Invalid grant: account not found");
    else if (!is_signed(key, json_string(header, "kid"), jwt, signature))
        status = token_fault(conn, 400, "invalid_grant", "Invalid JWT Signature.");
    else if (fault)
        status = token_fault(conn, 400, "invalid_grant", fault);
    else if (strncmp(scope, "https://www.googleapis.com/auth/", 32) != 0)
        status = token_fault(conn, 400, "invalid_scope",
                             "Invalid OAuth scope or ID token audience provided.");
    else
        status = grant(conn, json_string(store_get(key), "email"), NULL);
    free(key);
    return status;
}

static int by_assertion(struct server_conn *conn, const char *form)
{
    char *jwt = google_param(form, "assertion");
    const char *signature;
    cJSON *header = NULL, *claims = NULL;
    int status =
        jwt && parse_jwt(jwt, &header, &claims, &signature)
            ? judge_jwt(conn, jwt, header, claims, signature)
            : token_fault(conn, 400, "invalid_grant", "Bad JWT: the assertion is not three parts.");
    cJSON_Delete(header);
    cJSON_Delete(claims);
    free(jwt);
    return status;
}

static int by_refresh(struct server_conn *conn, const char *form)
{
    char *client = google_param(form, "client_id"), *word = google_param(form, "client_secret");
    char *token = google_param(form, "refresh_token");
    cJSON *user = token ? store_getf("oauth:%s", token) : NULL;
    int status;
    if (!client || !word || strcmp(client, USER_CLIENT) != 0 || strcmp(word, USER_SECRET) != 0)
        status = token_fault(conn, 401, "invalid_client", "The OAuth client was not found.");
    else if (!user)
        status = token_fault(conn, 400, "invalid_grant", "Token has been expired or revoked.");
    else
        status = grant(conn, json_string(user, "email"),
                       "https://www.googleapis.com/auth/cloud-platform");
    free(client);
    free(word);
    free(token);
    return status;
}

int auth_serve_token(struct server_conn *conn, const struct server_request *req)
{
    const char *type = server_header(req, "content-type");
    if (strcmp(req->method, "POST") != 0)
        return token_fault(conn, 405, "invalid_request", "Method not allowed");
    if (!type || strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0)
        return token_fault(conn, 400, "invalid_request", "The body must be a form");
    char *kind = google_param(req->body, "grant_type");
    store_lock();
    int status;
    if (kind && strcmp(kind, "urn:ietf:params:oauth:grant-type:jwt-bearer") == 0)
        status = by_assertion(conn, req->body);
    else if (kind && strcmp(kind, "refresh_token") == 0)
        status = by_refresh(conn, req->body);
    else
        status = token_fault(conn, 400, "unsupported_grant_type", "Invalid grant_type: ");
    store_unlock();
    free(kind);
    return status;
}

/* ---- who sent a request ---- */

static bool is_accepted(const char *token)
{
    for (const char *const *p = world.accepted_tokens; *p; p++)
        if (strcmp(*p, token) == 0)
            return true;
    return false;
}

/* Tokens of an account that was deleted are no good any more. */
static bool account_lives(const char *account)
{
    char *key = auth_account_key(account);
    bool lives = key || !strstr(account, ".iam.gserviceaccount.com");
    free(key);
    return lives;
}

/* Google takes, besides, an assertion that an account has signed for one of its APIs. */
static bool jwt_account(const char *token, char account[256])
{
    const char *signature;
    cJSON *header, *claims;
    if (!parse_jwt(token, &header, &claims, &signature))
        return false;
    const char *issuer = json_string(claims, "iss"), *aud = json_string(claims, "aud");
    char *key = auth_account_key(issuer);
    bool good = key && strcmp(json_string(header, "alg"), "RS256") == 0 && !times_fault(claims) &&
                (*json_string(claims, "scope") || strncmp(aud, "https://", 8) == 0) &&
                is_signed(key, json_string(header, "kid"), token, signature);
    if (good)
        snprintf(account, 256, "%s", issuer);
    free(key);
    cJSON_Delete(header);
    cJSON_Delete(claims);
    return good;
}

bool auth_identify(struct call *call)
{
    const char *header = server_header(call->req, "authorization");
    const char *token = header && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
    if (token && is_accepted(token)) {
        snprintf(call->account, sizeof call->account, "%s", world.account);
        return true;
    }
    if (token && (token_account(token, call->account) || jwt_account(token, call->account)) &&
        account_lives(call->account))
        return true;
    call_fail(call, "UNAUTHENTICATED",
              "Request had invalid authentication credentials. Expected OAuth 2 access token, "
              "login cookie or other valid authentication credential. See "
              "https://developers.google.com/identity/sign-in/web/devconsole-project.");
    return false;
}

/* ---- the start ---- */

static bool write_file(const char *path, const char *text)
{
    FILE *file = path ? fopen(path, "we") : NULL;
    bool good = !path || (file && fchmod(fileno(file), 0600) == 0 && fputs(text, file) >= 0);
    if (file && fclose(file) != 0)
        good = false;
    if (!good)
        perror(path);
    return good;
}

static void load_secret(void)
{
    size_t size = 0;
    cJSON *json = store_get("secret");
    if (!json) {
        if (RAND_bytes(secret, sizeof secret) != 1)
            abort();
        char *text = base64_text(secret, sizeof secret);
        store_put("secret", json = cJSON_CreateString(text));
        free(text);
    }
    unsigned char *bytes = base64_bytes(json->valuestring, &size);
    if (!bytes || size != sizeof secret)
        abort();
    memcpy(secret, bytes, size);
    free(bytes);
}

static bool write_user_file(void)
{
    char url[128];
    cJSON *user = cJSON_CreateObject(), *file = cJSON_CreateObject();
    cJSON_AddStringToObject(user, "email", "owner@example.com");
    store_put("oauth:" USER_REFRESH, user);
    snprintf(url, sizeof url, "%s/token", world.base);
    cJSON_AddStringToObject(file, "type", "authorized_user");
    cJSON_AddStringToObject(file, "client_id", USER_CLIENT);
    cJSON_AddStringToObject(file, "client_secret", USER_SECRET);
    cJSON_AddStringToObject(file, "refresh_token", USER_REFRESH);
    cJSON_AddStringToObject(file, "quota_project_id", world.project);
    cJSON_AddStringToObject(file, "token_uri", url);
    char *text = cJSON_Print(file);
    bool good = write_file(world.user_file, text);
    free(text);
    cJSON_Delete(file);
    return good;
}

bool auth_init(void)
{
    char id[41], *key = auth_account_key(world.account);
    bool good = true;
    load_secret();
    if (!key) {
        char *name = strndup(world.account, strcspn(world.account, "@"));
        auth_account_new(world.project, name, "the stand-in's own");
        free(name);
    }
    free(key);
    if (world.key_file && access(world.key_file, F_OK) != 0) {
        char *text = auth_key_new(world.account, id);
        good = write_file(world.key_file, text);
        free(text);
    }
    return good && write_user_file();
}
