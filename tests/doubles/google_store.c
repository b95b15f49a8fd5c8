#include "google_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct document {
    char *name;
    cJSON *json;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct document *documents; /* in order of their names */
static size_t n_documents, documents_cap;
static char *folder;
static int journal = -1;
static int64_t serial;

void store_lock(void)
{
    pthread_mutex_lock(&lock);
}

void store_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

char *store_path(const char *format, ...)
{
    char *rest = NULL, *path = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&rest, format, args);
    va_end(args);
    if (n < 0 || asprintf(&path, "%s/%s", folder, rest) < 0)
        abort();
    free(rest);
    return path;
}

/* ---- the list ---- */

size_t store_seek(const char *name)
{
    size_t low = 0, high = n_documents;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(documents[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

cJSON *store_at(size_t place, const char **ret_name)
{
    if (place >= n_documents)
        return NULL;
    *ret_name = documents[place].name;
    return documents[place].json;
}

cJSON *store_at_prefix(size_t place, const char *prefix, const char **ret_name)
{
    cJSON *json = store_at(place, ret_name);
    return json && strncmp(*ret_name, prefix, strlen(prefix)) == 0 ? json : NULL;
}

cJSON *store_get(const char *name)
{
    const char *have;
    cJSON *json = store_at(store_seek(name), &have);
    return json && strcmp(have, name) == 0 ? json : NULL;
}

cJSON *store_getf(const char *format, ...)
{
    char *name = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&name, format, args);
    va_end(args);
    cJSON *json = n < 0 ? NULL : store_get(name);
    free(name);
    return json;
}

static void insert(const char *name, cJSON *json)
{
    size_t place = store_seek(name);
    if (place < n_documents && strcmp(documents[place].name, name) == 0) {
        if (documents[place].json != json)
            cJSON_Delete(documents[place].json);
        documents[place].json = json;
        return;
    }
    if (n_documents == documents_cap) {
        documents_cap = documents_cap ? documents_cap * 2 : 256;
        documents = realloc(documents, documents_cap * sizeof *documents);
        if (!documents)
            abort();
    }
    memmove(documents + place + 1, documents + place, (n_documents - place) * sizeof *documents);
    documents[place] = (struct document){.name = strdup(name), .json = json};
    n_documents++;
}

static bool take_out(const char *name)
{
    size_t place = store_seek(name);
    if (place == n_documents || strcmp(documents[place].name, name) != 0)
        return false;
    free(documents[place].name);
    cJSON_Delete(documents[place].json);
    n_documents--;
    memmove(documents + place, documents + place + 1, (n_documents - place) * sizeof *documents);
    return true;
}

/* ---- the journal ---- */

/* One line: {"n":NAME,"v":DOCUMENT or null}. */
static void write_down(int fd, const char *name, const cJSON *json)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "n", name);
    if (json)
        cJSON_AddItemReferenceToObject(line, "v", (cJSON *)(uintptr_t)json);
    char *text = cJSON_PrintUnformatted(line);
    size_t len = strlen(text);
    text[len] = '\n'; /* in the place of the NUL: written by its length */
    if (write(fd, text, len + 1) != (ssize_t)len + 1)
        abort();
    free(text);
    cJSON_Delete(line);
}

void store_put(const char *name, cJSON *document)
{
    write_down(journal, name, document);
    insert(name, document);
}

bool store_delete(const char *name)
{
    if (!store_get(name))
        return false;
    write_down(journal, name, NULL);
    return take_out(name);
}

size_t store_delete_all(const char *prefix)
{
    size_t n = 0;
    const char *name;
    while (store_at_prefix(store_seek(prefix), prefix, &name)) {
        char *copy = strdup(name);
        store_delete(copy);
        free(copy);
        n++;
    }
    return n;
}

static void replay(FILE *file)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, file)) > 0) {
        if (line[len - 1] != '\n') /* cut off by a kill: never answered */
            break;
        cJSON *entry = cJSON_Parse(line);
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "n"));
        cJSON *value = cJSON_DetachItemFromObject(entry, "v");
        if (name && value)
            insert(name, value);
        else if (name)
            take_out(name);
        cJSON_Delete(entry);
    }
    free(line);
}

/* Rewritten without what is gone, so that it does not grow over many starts. */
static bool open_journal(void)
{
    char *path = store_path("journal"), *fresh = store_path("journal.new");
    FILE *old = fopen(path, "re");
    if (old) {
        replay(old);
        fclose(old);
    }
    journal = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    for (size_t i = 0; journal >= 0 && i < n_documents; i++)
        write_down(journal, documents[i].name, documents[i].json);
    bool good = journal >= 0 && rename(fresh, path) == 0;
    free(path);
    free(fresh);
    return good;
}

bool store_open(const char *path)
{
    static const char *const folders[] = {"", "data", "uploads", "executions"};
    folder = strdup(path);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *sub = store_path("%s", folders[i]);
        bool good = mkdir(sub, 0700) == 0 || errno == EEXIST;
        free(sub);
        if (!good)
            return false;
    }
    return open_journal();
}

/* ---- numbers and times ---- */

int64_t store_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Microseconds, as Cloud Storage's generations are: a restart goes on further up by itself. */
int64_t store_serial(void)
{
    int64_t now = store_now_ms() * 1000;
    serial = now > serial ? now : serial + 1;
    return serial;
}

void store_time(int64_t ms, char out[40])
{
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 40, "%s.%03dZ", text, (int)(ms % 1000));
}
