#include "google_faults.h"

#include "google_objects.h"
#include "google_run.h"
#include "google_world.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cJSON *plan; /* a list, in order; under the lock */
static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int held; /* requests */
static _Atomic unsigned releases;

/* ---- faults ---- */

static bool matches(const cJSON *fault, const char *id, const struct server_request *req)
{
    const char *method = json_string(fault, "method"), *path = json_string(fault, "pathContains");
    return (!*method || fnmatch(method, id, 0) == 0) &&
           (!*path || strstr(req->path, path) || strstr(req->query, path));
}

/* Until all are released; also when its peer has gone: a request that has arrived is carried out.
 */
static void hold(void)
{
    unsigned round = releases;
    held++;
    while (round == releases)
        poll(NULL, 0, 20);
    held--;
}

/* The first that fits, counted down; a copy. */
static cJSON *take_fault(const char *id, const struct server_request *req)
{
    cJSON *taken = NULL, *fault, *next;
    pthread_mutex_lock(&plan_lock);
    for (fault = plan ? plan->child : NULL; fault && !taken; fault = next) {
        next = fault->next;
        if (!matches(fault, id, req))
            continue;
        int64_t skip = json_int(fault, "skip", 0), times = json_int(fault, "times", 1);
        if (skip > 0) {
            json_set_number(fault, "skip", (double)skip - 1);
            continue;
        }
        taken = cJSON_Duplicate(fault, 1);
        if (times > 1)
            json_set_number(fault, "times", (double)times - 1);
        else
            cJSON_Delete(cJSON_DetachItemViaPointer(plan, fault));
    }
    pthread_mutex_unlock(&plan_lock);
    return taken;
}

static void refuse(struct call *call, int status)
{
    static const struct {
        int http;
        const char *status;
    } names[] = {{400, "INVALID_ARGUMENT"},   {401, "UNAUTHENTICATED"}, {403, "PERMISSION_DENIED"},
                 {404, "NOT_FOUND"},          {409, "ABORTED"},         {410, "GONE"},
                 {429, "RESOURCE_EXHAUSTED"}, {500, "INTERNAL"},        {503, "UNAVAILABLE"}};
    static const char page[] = "<html><title>Error</title>That's all we know.</html>";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].http == status) {
            call_fail(call, names[i].status, "The stand-in was told to answer %d.", status);
            return;
        }
    call->status = status; /* what a proxy in front would say */
    call->sent = true;
    server_reply(call->conn, status, "Content-Type: text/html\r\n", page, sizeof page - 1);
}

static void note(struct call *call, const cJSON *fault, bool *ret_twice)
{
    call->lose_answer = strcmp(json_string(fault, "cut"), "after") == 0;
    call->wrong_crc = cJSON_IsTrue(cJSON_GetObjectItem(fault, "wrongCrc"));
    call->cut_body_at = (long)json_int(fault, "truncateAt", -1);
    call->cut_upload_at = (long)json_int(fault, "cutUploadAt", -1);
    *ret_twice = cJSON_IsTrue(cJSON_GetObjectItem(fault, "twice"));
}

bool faults_apply(struct call *call, const char *id, bool *ret_twice)
{
    cJSON *fault = take_fault(id, call->req);
    const cJSON *after = cJSON_GetObjectItem(fault, "retryAfter");
    int delay = (int)json_int(fault, "delayMs", 0), status = (int)json_int(fault, "status", 0);
    bool over = false;
    *ret_twice = false;
    if (fault)
        note(call, fault, ret_twice);
    if (cJSON_IsTrue(cJSON_GetObjectItem(fault, "hold")))
        hold();
    if (delay && !server_wait(call->conn, delay)) {
        over = true;
    } else if (strcmp(json_string(fault, "cut"), "before") == 0) {
        server_cut(call->conn);
        over = true;
    } else if (status) {
        if (after)
            call_header(call, "Retry-After: %d\r\n", after->valueint);
        refuse(call, status);
        over = true;
    }
    cJSON_Delete(fault);
    return over;
}

/* ---- the log ---- */

static int log_fd = -1;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

/* Under the log's lock. */
static int log_file(void)
{
    if (log_fd < 0) {
        char *path = store_path("requests.jsonl");
        log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        free(path);
    }
    return log_fd;
}

/* Who has an answer may look for its request in the log, which it enters after the answer: the log
 * waits for those that are on their way to it. */
static int expected; /* under the log's lock */
static pthread_cond_t entered = PTHREAD_COND_INITIALIZER;

void log_expect(void *ret_answered)
{
    *(bool *)ret_answered = true;
    pthread_mutex_lock(&log_lock);
    expected++;
    pthread_mutex_unlock(&log_lock);
}

/* Under the log's lock. An answer that its client does not read is not waited for. */
static void await_entries(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    while (expected > 0 && pthread_cond_timedwait(&entered, &log_lock, &until) == 0)
        continue;
}

void log_add(const struct call *call, const char *id, bool answered)
{
    const struct server_request *req = call->req;
    cJSON *json = cJSON_CreateObject(), *headers = cJSON_CreateObject();
    char *url = NULL;
    if (asprintf(&url, "%s%s%s", req->path, *req->query ? "?" : "", req->query) < 0)
        abort();
    cJSON_AddStringToObject(json, "method", req->method);
    cJSON_AddStringToObject(json, "url", url);
    cJSON_AddStringToObject(json, "id", id);
    cJSON_AddStringToObject(json, "account", call->account);
    cJSON_AddNumberToObject(json, "status", call->status);
    cJSON_AddNumberToObject(json, "time_ms", (double)store_now_ms());
    for (size_t i = 0; i < req->n_headers; i++)
        cJSON_AddStringToObject(headers, req->headers[i].name, req->headers[i].value);
    cJSON_AddItemToObject(json, "headers", headers);
    const cJSON *body = call->body ? call->body : call->note;
    cJSON_AddItemToObject(json, "body", body ? cJSON_Duplicate(body, 1) : cJSON_CreateNull());
    char *text = cJSON_PrintUnformatted(json);
    size_t len = strlen(text);
    text[len] = '\n';
    pthread_mutex_lock(&log_lock);
    if (write(log_file(), text, len + 1) < 0)
        perror("google-api: log");
    expected -= answered;
    pthread_cond_broadcast(&entered);
    pthread_mutex_unlock(&log_lock);
    free(text);
    free(url);
    cJSON_Delete(json);
}

/* Of one of Google's methods, not the token endpoint's and the like. */
static bool is_method(const char *line)
{
    const char *id = strstr(line, "\"id\":\"");
    return id && id[6 + strcspn(id + 6, ".\"")] == '.';
}

/* The lines that hold every one of these texts, with what stands between. */
static char *log_select(const char *contains, const char *id, bool lines)
{
    char *out = NULL, *line = NULL, mark[256];
    size_t size = 0, cap = 0, n = 0;
    ssize_t len;
    FILE *to = open_memstream(&out, &size);
    char *path = store_path("requests.jsonl");
    FILE *from = fopen(path, "re");
    snprintf(mark, sizeof mark, "\"id\":\"%s", id ? id : "");
    fputs(lines ? "" : "{\"requests\":[", to);
    while (from && (len = getline(&line, &cap, from)) > 0) {
        if ((contains && !strstr(line, contains)) || (id && !strstr(line, mark)))
            continue;
        if (lines && !is_method(line))
            continue;
        line[len - 1] = '\0';
        fprintf(to, "%s%s%s", n && !lines ? "," : "", line, lines ? "\n" : "");
        n++;
    }
    if (!lines)
        fprintf(to, "],\"count\":%zu}", n);
    if (from)
        fclose(from);
    fclose(to);
    free(line);
    free(path);
    return out;
}

static void serve_log(struct server_conn *conn, const struct server_request *req)
{
    char *contains = google_param(req->query, "contains"), *id = google_param(req->query, "id");
    char *lines = google_param(req->query, "lines");
    pthread_mutex_lock(&log_lock);
    await_entries();
    if (strcmp(req->method, "DELETE") == 0 && ftruncate(log_file(), 0) < 0)
        perror("google-api: log");
    char *text = log_select(contains, id, lines != NULL);
    pthread_mutex_unlock(&log_lock);
    server_reply(conn, 200, "Content-Type: application/json\r\n", text, strlen(text));
    free(text);
    free(contains);
    free(id);
    free(lines);
}

/* ---- control ---- */

static void set_permission(const char *kind, const char *account, const cJSON *permissions,
                           bool add)
{
    char key[300];
    const cJSON *item;
    snprintf(key, sizeof key, "%s:%s", kind, account);
    cJSON *json = cJSON_Duplicate(store_get(key), 1);
    if (!json)
        json = cJSON_CreateObject();
    cJSON_ArrayForEach(item, permissions)
    {
        const char *name = cJSON_GetStringValue(item);
        json_set(json, name ? name : "", add ? cJSON_CreateTrue() : NULL);
    }
    store_put(key, json);
}

/* {"account":…,"permissions":[…]} */
static bool control_iam(const char *verb, const cJSON *value)
{
    const char *account = json_string(value, "account");
    const cJSON *list = cJSON_GetObjectItem(value, "permissions");
    char key[300];
    if (!*account)
        return false;
    snprintf(key, sizeof key, "only:%s", account);
    if (strcmp(verb, "only") == 0)
        store_delete(key);
    if (strcmp(verb, "only") == 0 && !list)
        return true;
    set_permission(strcmp(verb, "only") == 0 ? "only" : "deny", account, list,
                   strcmp(verb, "allow") != 0);
    return true;
}

/* {"execution":NAME,"how":"fail"|"forget"|"hang"} */
static bool control_lose(const cJSON *value)
{
    const char *how = json_string(value, "how");
    char key[800];
    snprintf(key, sizeof key, "run:%s", json_string(value, "execution"));
    cJSON *execution = store_get(key);
    if (!execution)
        return false;
    execution_refresh(key);
    if (strcmp(how, "hang") == 0)
        json_set(execution, "_hangs", cJSON_CreateTrue());
    store_put(key, execution);
    execution_kill(key, strcmp(how, "forget") == 0);
    if (strcmp(how, "forget") == 0)
        store_delete(key);
    return true;
}

static bool control_vanish(const cJSON *value)
{
    char key[1400];
    snprintf(key, sizeof key, "gcs:o/%s/%s", json_string(value, "bucket"),
             json_string(value, "name"));
    if (store_get(key))
        object_remove_bytes(store_get(key));
    return store_delete(key);
}

static bool control_age(const cJSON *value)
{
    char key[1400], then[40];
    snprintf(key, sizeof key, "gcs:o/%s/%s", json_string(value, "bucket"),
             json_string(value, "name"));
    cJSON *object = store_get(key);
    if (!object)
        return false;
    store_time(store_now_ms() - json_int(value, "ms", 0), then);
    json_set_string(object, "updated", then);
    store_put(key, object);
    return true;
}

static bool control_kill_all(void)
{
    const char *key;
    for (size_t i = store_seek("run:"); store_at_prefix(i, "run:", &key); i++)
        if (strstr(key, "/executions/") && !execution_refresh(key))
            execution_kill(key, false);
    return true;
}

static bool control_one(const cJSON *item)
{
    const char *name = item->string;
    if (strcmp(name, "faults") == 0) {
        pthread_mutex_lock(&plan_lock);
        cJSON_Delete(plan);
        plan = cJSON_Duplicate(item, 1);
        pthread_mutex_unlock(&plan_lock);
        return cJSON_IsArray(item);
    }
    if (strcmp(name, "expireTokens") == 0)
        return world_set("tokenEpoch", world_setting("tokenEpoch") + 1);
    if (strcmp(name, "expirePages") == 0)
        return world_set("pageEpoch", world_setting("pageEpoch") + 1);
    if (strcmp(name, "deny") == 0 || strcmp(name, "allow") == 0 || strcmp(name, "only") == 0)
        return control_iam(name, item);
    if (strcmp(name, "lose") == 0)
        return control_lose(item);
    if (strcmp(name, "vanish") == 0)
        return control_vanish(item);
    if (strcmp(name, "age") == 0)
        return control_age(item);
    if (strcmp(name, "killExecutions") == 0)
        return control_kill_all();
    if (strcmp(name, "release") == 0)
        return ++releases > 0;
    return cJSON_IsNumber(item) && world_set(name, (int64_t)item->valuedouble);
}

/* How many documents there are of a kind, or that hold the text too. */
static int count_documents(const char *kind, const char *text)
{
    int n = 0;
    const char *name;
    for (size_t i = store_seek(kind); store_at_prefix(i, kind, &name); i++)
        n += strstr(name, text) != NULL;
    return n;
}

static char *state_text(void)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "settings", world_settings());
    cJSON_AddNumberToObject(json, "executions", count_documents("run:", "/executions/"));
    cJSON_AddNumberToObject(json, "running", (double)execution_count_running());
    cJSON_AddNumberToObject(json, "objects", count_documents("gcs:o/", ""));
    cJSON_AddNumberToObject(json, "held", held);
    cJSON_AddNumberToObject(json, "uploads", count_documents("gcs:u/", ""));
    pthread_mutex_lock(&plan_lock);
    cJSON_AddItemToObject(json, "faults", plan ? cJSON_Duplicate(plan, 1) : cJSON_CreateArray());
    pthread_mutex_unlock(&plan_lock);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static void serve_control(struct server_conn *conn, const struct server_request *req)
{
    cJSON *change = cJSON_Parse(req->body);
    bool good = cJSON_IsObject(change);
    const cJSON *item;
    store_lock();
    cJSON_ArrayForEach(item, change) good = control_one(item) && good;
    char *text = state_text();
    store_unlock();
    cJSON_Delete(change);
    server_reply(conn, good ? 200 : 400, "Content-Type: application/json\r\n", text, strlen(text));
    free(text);
}

bool control_serve(struct server_conn *conn, const struct server_request *req)
{
    if (strcmp(req->path, "/_log") == 0) {
        serve_log(conn, req);
    } else if (strcmp(req->path, "/_control") == 0) {
        serve_control(conn, req);
    } else if (strcmp(req->path, "/_state") == 0) {
        store_lock();
        char *text = state_text();
        store_unlock();
        server_reply(conn, 200, "Content-Type: application/json\r\n", text, strlen(text));
        free(text);
    } else {
        return false;
    }
    return true;
}
