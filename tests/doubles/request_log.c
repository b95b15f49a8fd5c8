#include "request_log.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct entry {
    struct entry *next;
    unsigned long number;
    double time_ms;
    int status;
    char *method, *path, *query, *body;
    size_t n_headers;
    struct {
        char *name, *value;
    } headers[SERVER_HEADERS_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *first, *last;
static unsigned long serial; /* numbers go on over a reset, so that a late status finds its entry */
static unsigned long count;  /* since the reset */

static double now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec * 1e3 + (double)(ts.tv_nsec / 1000000);
}

static struct entry *entry_new(const struct server_request *req)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->time_ms = now_ms();
    entry->method = strdup(req->method);
    entry->path = strdup(req->path);
    entry->query = strdup(req->query);
    entry->body = strndup(req->body, REQUEST_LOG_BODY_MAX);
    entry->n_headers = req->n_headers;
    for (size_t i = 0; i < req->n_headers; i++) {
        entry->headers[i].name = strdup(req->headers[i].name);
        entry->headers[i].value = strdup(req->headers[i].value);
    }
    return entry;
}

static void entry_free(struct entry *entry)
{
    free(entry->method);
    free(entry->path);
    free(entry->query);
    free(entry->body);
    for (size_t i = 0; i < entry->n_headers; i++) {
        free(entry->headers[i].name);
        free(entry->headers[i].value);
    }
    free(entry);
}

unsigned long request_log_add(const struct server_request *req)
{
    struct entry *entry = entry_new(req);
    struct entry *oldest = NULL;
    pthread_mutex_lock(&lock);
    unsigned long number = ++serial;
    if (entry) {
        entry->number = number;
        *(last ? &last->next : &first) = entry;
        last = entry;
        if (++count > REQUEST_LOG_MAX) {
            oldest = first;
            first = first->next;
        }
    }
    pthread_mutex_unlock(&lock);
    if (oldest)
        entry_free(oldest);
    return number;
}

void request_log_status(unsigned long number, int status)
{
    pthread_mutex_lock(&lock);
    for (struct entry *entry = first; entry; entry = entry->next)
        if (entry->number == number)
            entry->status = status;
    pthread_mutex_unlock(&lock);
}

static bool entry_matches(const struct entry *entry, const char *needle)
{
    if (strstr(entry->body, needle) || strstr(entry->path, needle))
        return true;
    for (size_t i = 0; i < entry->n_headers; i++)
        if (strstr(entry->headers[i].value, needle))
            return true;
    return false;
}

static cJSON *entry_json(const struct entry *entry)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "number", (double)entry->number);
    cJSON_AddNumberToObject(json, "time_ms", entry->time_ms);
    cJSON_AddStringToObject(json, "method", entry->method);
    cJSON_AddStringToObject(json, "path", entry->path);
    cJSON_AddStringToObject(json, "query", entry->query);
    cJSON_AddNumberToObject(json, "status", entry->status);
    cJSON *headers = cJSON_AddObjectToObject(json, "headers");
    for (size_t i = 0; i < entry->n_headers; i++)
        cJSON_AddStringToObject(headers, entry->headers[i].name, entry->headers[i].value);
    cJSON_AddStringToObject(json, "body", entry->body);
    return json;
}

char *request_log_json(const char *needle)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *requests = cJSON_CreateArray();
    pthread_mutex_lock(&lock);
    cJSON_AddNumberToObject(json, "count", (double)count);
    for (struct entry *entry = first; entry; entry = entry->next)
        if (entry_matches(entry, needle))
            cJSON_AddItemToArray(requests, entry_json(entry));
    pthread_mutex_unlock(&lock);
    cJSON_AddItemToObject(json, "requests", requests);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

void request_log_reset(void)
{
    pthread_mutex_lock(&lock);
    struct entry *entry = first;
    first = last = NULL;
    count = 0;
    pthread_mutex_unlock(&lock);
    while (entry) {
        struct entry *next = entry->next;
        entry_free(entry);
        entry = next;
    }
}

void request_log_serve(struct server_conn *conn, const struct server_request *req)
{
    if (strcmp(req->method, "DELETE") == 0)
        request_log_reset();
    const char *needle = strncmp(req->query, "contains=", 9) == 0 ? req->query + 9 : "";
    char *json = request_log_json(needle);
    server_reply(conn, 200, "Content-Type: application/json\r\n", json, strlen(json));
    free(json);
}
