/* Service accounts and their keys. */
#include "google_auth.h"
#include "google_world.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "iam:projects/P/serviceAccounts/E", P being what its domain says. */
static char *account_key_of(const char *email)
{
    const char *at = strchr(email, '@');
    char *key = NULL;
    if (!at)
        return NULL;
    int len = (int)strcspn(at + 1, ".");
    if (asprintf(&key, "iam:projects/%.*s/serviceAccounts/%s", len, at + 1, email) < 0)
        abort();
    return key;
}

char *auth_account_key(const char *account)
{
    char *key = account_key_of(account);
    if (key && store_get(key))
        return key;
    free(key);
    const char *name;
    const cJSON *json;
    for (size_t i = store_seek("iam:projects/");
         (json = store_at_prefix(i, "iam:projects/", &name)); i++)
        if (strcmp(json_string(json, "uniqueId"), account) == 0)
            return strdup(name);
    return NULL;
}

cJSON *auth_account_new(const char *project, const char *id, const char *title)
{
    char email[256], unique[32], key[512], *bytes;
    snprintf(email, sizeof email, "%s@%s.iam.gserviceaccount.com", id, project);
    snprintf(unique, sizeof unique, "1%020lld", (long long)store_serial());
    snprintf(key, sizeof key, "iam:projects/%s/serviceAccounts/%s", project, email);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", key + 4);
    cJSON_AddStringToObject(json, "projectId", project);
    cJSON_AddStringToObject(json, "uniqueId", unique);
    cJSON_AddStringToObject(json, "email", email);
    if (*title)
        cJSON_AddStringToObject(json, "displayName", title);
    cJSON_AddStringToObject(json, "etag", bytes = base64_text(unique, strlen(unique)));
    cJSON_AddStringToObject(json, "oauth2ClientId", unique);
    cJSON_AddNumberToObject(json, "_born", (double)store_now_ms());
    free(bytes);
    store_put(key, json);
    return json;
}

bool auth_is_new(const char *key)
{
    int64_t now = store_now_ms(), delay = world_setting("grantDelayMs");
    cJSON *account = store_get(key);
    if (!account || delay == 0)
        return false;
    int64_t asked = json_int(account, "_asked", now);
    json_set_number(account, "_asked", (double)asked);
    store_put(key, account);
    return now < asked + delay;
}

static char *pem_of(EVP_PKEY *pkey, bool private)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    int good = private ? PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
                       : PEM_write_bio_PUBKEY(bio, pkey);
    long size = BIO_get_mem_data(bio, &data);
    char *pem = good ? strndup(data, (size_t)size) : NULL;
    BIO_free(bio);
    return pem;
}

/* As Google writes it, but for whom to ask for tokens. */
static char *key_file_text(const cJSON *account, const char *id, const char *private_pem)
{
    char url[256];
    cJSON *file = cJSON_CreateObject();
    cJSON_AddStringToObject(file, "type", "service_account");
    cJSON_AddStringToObject(file, "project_id", json_string(account, "projectId"));
    cJSON_AddStringToObject(file, "private_key_id", id);
    cJSON_AddStringToObject(file, "private_key", private_pem);
    cJSON_AddStringToObject(file, "client_email", json_string(account, "email"));
    cJSON_AddStringToObject(file, "client_id", json_string(account, "uniqueId"));
    cJSON_AddStringToObject(file, "auth_uri", "https://accounts.google.com/o/oauth2/auth");
    snprintf(url, sizeof url, "%s/token", world.base);
    cJSON_AddStringToObject(file, "token_uri", url);
    cJSON_AddStringToObject(file, "universe_domain", "googleapis.com");
    char *text = cJSON_Print(file);
    cJSON_Delete(file);
    return text;
}

char *auth_key_new(const char *account, char ret_id[41])
{
    unsigned char bytes[20];
    char *name = auth_account_key(account), *key = NULL;
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    if (!name || !pkey || RAND_bytes(bytes, sizeof bytes) != 1)
        abort();
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(ret_id + 2 * i, 3, "%02x", bytes[i]);
    char *private_pem = pem_of(pkey, true), *public_pem = pem_of(pkey, false);
    if (asprintf(&key, "%s/keys/%s", name, ret_id) < 0)
        abort();
    char *text = key_file_text(store_get(name), ret_id, private_pem);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", key + 4);
    cJSON_AddStringToObject(json, "keyAlgorithm", "KEY_ALG_RSA_2048");
    cJSON_AddStringToObject(json, "keyOrigin", "GOOGLE_PROVIDED");
    cJSON_AddStringToObject(json, "keyType", "USER_MANAGED");
    cJSON_AddStringToObject(json, "_publicPem", public_pem);
    json_set_now(json, "validAfterTime");
    cJSON_AddStringToObject(json, "validBeforeTime", "9999-12-31T23:59:59Z");
    store_put(key, json);
    EVP_PKEY_free(pkey);
    free(private_pem);
    free(public_pem);
    free(key);
    free(name);
    return text;
}
