#include "oauth_state.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM_BYTES = 32, BASE64_MAX = 64 };

/* {"expiresIn","logins","refreshes","reuses","refused","accessTokens":[…],"refreshTokens":[…],
 *  "spent":[…],"codes":[{"code","challenge","state","scope"}],"next":[…],"faults":[…]} */
static cJSON *world;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void oauth_state_init(void)
{
    world = cJSON_Parse("{\"expiresIn\":28800,\"logins\":0,\"refreshes\":0,\"reuses\":0,\"refused\""
                        ":0,\"accessTokens\":[],\"refreshTokens\":[],\"spent\":[],\"codes\":[],"
                        "\"next\":[],\"faults\":[]}");
}

static cJSON *part(const char *name)
{
    return cJSON_GetObjectItem(world, name);
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));
    return text ? text : "";
}

static void count(const char *name)
{
    cJSON *number = part(name);
    cJSON_SetNumberValue(number, number->valuedouble + 1);
}

/* ---- encodings ---- */

static void base64url(const unsigned char *data, size_t size, char out[BASE64_MAX])
{
    EVP_EncodeBlock((unsigned char *)out, data, (int)size);
    out[strcspn(out, "=")] = '\0';
    for (char *p = out; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
}

static char *random_text(const char *prefix)
{
    unsigned char data[RANDOM_BYTES];
    char text[BASE64_MAX];
    char *out = NULL;
    if (RAND_bytes(data, sizeof data) != 1)
        abort();
    base64url(data, sizeof data, text);
    return asprintf(&out, "%s%s", prefix, text) < 0 ? NULL : out;
}

/* PKCE, S256. */
static bool proves(const char *verifier, const char *challenge)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size;
    char text[BASE64_MAX];
    size_t len = strlen(verifier);
    if (len < 43 || len > 128 || !EVP_Digest(verifier, len, digest, &size, EVP_sha256(), NULL))
        return false;
    base64url(digest, size, text);
    return strcmp(text, challenge) == 0;
}

/* ---- lists of texts ---- */

static int index_of(const cJSON *list, const char *text)
{
    int i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && strcmp(item->valuestring, text) == 0)
            return i;
        i++;
    }
    return -1;
}

static void set_only(const char *list, const char *text)
{
    cJSON *only = cJSON_CreateArray();
    cJSON_AddItemToArray(only, cJSON_CreateString(text));
    cJSON_ReplaceItemInObject(world, list, only);
}

/* ---- tokens ---- */

/* A new pair, which takes the place of what was accepted before. */
static cJSON *give_tokens(const char *scope)
{
    cJSON *planned = cJSON_DetachItemFromArray(part("next"), 0);
    char *access = planned ? strdup(text_of(planned, "access")) : random_text("sk-ant-oat01-");
    char *refresh = planned ? strdup(text_of(planned, "refresh")) : random_text("sk-ant-ort01-");
    cJSON *answer = cJSON_CreateObject();
    set_only("accessTokens", access);
    set_only("refreshTokens", refresh);
    cJSON_AddStringToObject(answer, "token_type", "Bearer");
    cJSON_AddStringToObject(answer, "access_token", access);
    cJSON_AddStringToObject(answer, "refresh_token", refresh);
    cJSON_AddNumberToObject(answer, "expires_in", part("expiresIn")->valuedouble);
    cJSON_AddStringToObject(answer, "scope", scope);
    cJSON_Delete(planned);
    free(access);
    free(refresh);
    return answer;
}

cJSON *oauth_grant(const char *challenge, const char *state, const char *scope)
{
    char *code = random_text("");
    char *own = *state ? strdup(state) : random_text("");
    char *paste = NULL;
    cJSON *kept = cJSON_CreateObject(), *answer = cJSON_CreateObject();
    if (asprintf(&paste, "%s#%s", code, own) < 0)
        abort();
    cJSON_AddStringToObject(kept, "code", code);
    cJSON_AddStringToObject(kept, "challenge", challenge);
    cJSON_AddStringToObject(kept, "state", state);
    cJSON_AddStringToObject(kept, "scope", scope);
    cJSON_AddStringToObject(answer, "code", code);
    cJSON_AddStringToObject(answer, "state", own);
    cJSON_AddStringToObject(answer, "paste", paste);
    pthread_mutex_lock(&lock);
    cJSON_AddItemToArray(part("codes"), kept);
    pthread_mutex_unlock(&lock);
    free(code);
    free(own);
    free(paste);
    return answer;
}

static cJSON *take_code(const char *code)
{
    int i = 0;
    const cJSON *kept;
    cJSON_ArrayForEach(kept, part("codes"))
    {
        if (strcmp(text_of(kept, "code"), code) == 0)
            return cJSON_DetachItemFromArray(part("codes"), i);
        i++;
    }
    return NULL;
}

/* A login whose address had no state is redeemed with the CLI's own, which nobody else knows. */
static bool has_state(const cJSON *kept, const char *state)
{
    const char *wanted = text_of(kept, "state");
    return *wanted ? strcmp(state, wanted) == 0 : strlen(state) >= 16;
}

cJSON *oauth_redeem(const cJSON *body, const char **ret_fault)
{
    cJSON *answer = NULL;
    pthread_mutex_lock(&lock);
    cJSON *kept = take_code(text_of(body, "code")); /* one try is all a code has */
    *ret_fault = !kept ? "Invalid 'code'"
                 : strcmp(text_of(body, "redirect_uri"), OAUTH_REDIRECT) != 0
                     ? "Invalid 'redirect_uri'"
                 : !has_state(kept, text_of(body, "state")) ? "Invalid 'state'"
                 : !proves(text_of(body, "code_verifier"), text_of(kept, "challenge"))
                     ? "Invalid 'code_verifier'"
                     : NULL;
    if (!*ret_fault) {
        answer = give_tokens(text_of(kept, "scope"));
        count("logins");
    } else {
        count("refused");
    }
    pthread_mutex_unlock(&lock);
    cJSON_Delete(kept);
    return answer;
}

cJSON *oauth_renew(const cJSON *body, const char **ret_fault)
{
    cJSON *answer = NULL;
    const char *token = text_of(body, "refresh_token");
    pthread_mutex_lock(&lock);
    int at = index_of(part("refreshTokens"), token);
    if (at >= 0) {
        cJSON_AddItemToArray(part("spent"), cJSON_DetachItemFromArray(part("refreshTokens"), at));
        answer = give_tokens(text_of(body, "scope"));
        count("refreshes");
    } else {
        count(index_of(part("spent"), token) >= 0 ? "reuses" : "refused");
        *ret_fault = "Refresh token not found or invalid";
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

bool oauth_accepts(const char *access_token)
{
    pthread_mutex_lock(&lock);
    bool accepted = index_of(part("accessTokens"), access_token) >= 0;
    pthread_mutex_unlock(&lock);
    return accepted;
}

/* ---- faults ---- */

static bool concerns(const cJSON *fault, const char *path, const char *grant)
{
    const char *its_path = text_of(fault, "path"), *its_grant = text_of(fault, "grant");
    return (!*its_path || strcmp(its_path, path) == 0) &&
           (!*its_grant || strcmp(its_grant, grant) == 0);
}

/* One time less; the last takes it off the list. */
static cJSON *use_fault(cJSON *fault, int index)
{
    cJSON *times = cJSON_GetObjectItem(fault, "times");
    cJSON *copy = cJSON_Duplicate(fault, 1);
    if (times && times->valuedouble > 1)
        cJSON_SetNumberValue(times, times->valuedouble - 1);
    else
        cJSON_DeleteItemFromArray(part("faults"), index);
    return copy;
}

cJSON *oauth_fault(const char *path, const char *grant)
{
    int i = 0;
    cJSON *found = NULL, *fault;
    pthread_mutex_lock(&lock);
    cJSON_ArrayForEach(fault, part("faults"))
    {
        if (concerns(fault, path, grant)) {
            found = use_fault(fault, i);
            break;
        }
        i++;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- control ---- */

cJSON *oauth_control(const cJSON *change)
{
    const cJSON *item;
    pthread_mutex_lock(&lock);
    cJSON_ArrayForEach(item, change)
    {
        const cJSON *old = part(item->string);
        if (old && old->type == item->type)
            cJSON_ReplaceItemInObject(world, item->string, cJSON_Duplicate(item, 1));
    }
    cJSON *all = cJSON_Duplicate(world, 1);
    pthread_mutex_unlock(&lock);
    return all;
}
