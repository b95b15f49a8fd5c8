/* Sessions: makes, shows and removes them; and their background processes and shells. */
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/later.h"
#include "runner/api/session_cloud.h"
#include "runner/egress/rules.h"
#include "runner/inputs/inputs.h"
#include "runner/session/session.h"

#include <ctype.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_BYTES_MAX (16u << 20)
#define PIECE_BYTES (256u << 10)
#define WAIT_MAX_S 3600
#define INPUT_BYTES_MAX (1 << 20)

/* --- making -------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    while (isalnum((unsigned char)*name) || *name == '_')
        name++;
    return !*name;
}

/* Reads the environment. False after the answer has been sent. */
static bool read_env(struct http_request *req, const struct json *env, struct strlist *out)
{
    for (const struct json *at = json_first(env); at; at = json_next(at)) {
        char field[128];
        const char *value = json_text(at);
        snprintf(field, sizeof(field), "env.%.100s", json_name(at));
        if (!is_name(json_name(at)) || !value) {
            send_field_error(req, field, value ? "is no name of a variable" : "must be a string");
            return false;
        }
        if (strlist_addf(out, "%s=%s", json_name(at), value)) {
            send_field_error(req, "env", "is too large");
            return false;
        }
    }
    return true;
}

/* Reads the limits. False after the answer has been sent. */
static bool read_limits(struct http_request *req, const struct json *limits,
                        struct session_wish *wish)
{
    static const char *const known[] = {"cpu", "memoryMb", "pids", "diskMb"};
    for (const struct json *at = json_first(limits); at; at = json_next(at)) {
        char field[128];
        int64_t value = 0;
        size_t i = 0;
        double number;
        snprintf(field, sizeof(field), "limits.%.100s", json_name(at));
        while (i < COUNT_OF(known) && strcmp(known[i], json_name(at)) != 0)
            i++;
        if (i == COUNT_OF(known) || json_number(at, &number) || number <= 0 || number > 1e9) {
            send_field_error(req, field,
                             i == COUNT_OF(known) ? "is no limit: cpu, memoryMb, pids, "
                                                    "diskMb are"
                                                  : "must be a number above 0");
            return false;
        }
        if (i == 0)
            wish->cpu = number;
        else if (json_int(at, &value) || value > INT32_MAX || (i == 1 && value < 16)) {
            send_field_error(req, field,
                             i == 1 ? "must be a whole number of at least 16"
                                    : "must be a whole number");
            return false;
        }
        int *const whole[] = {NULL, &wish->memory_mb, &wish->pids_max, &wish->disk_mb};
        if (whole[i])
            *whole[i] = (int)value;
    }
    return true;
}

/* Checks the names and hashes of inputs. False after the answer has been sent. */
static bool check_inputs(struct http_request *req, struct api *api, const struct json *inputs)
{
    struct err err;
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        char field[128], name[INPUT_NAME_SIZE];
        int64_t size;
        snprintf(field, sizeof(field), "inputs.%.100s", json_name(at));
        if (!path_is_inside(json_name(at)) || strchr(json_name(at), '/')) {
            send_field_error(req, field, "is no name of a file");
            return false;
        }
        if (!json_text(at) || input_name(json_text(at), name)) {
            send_field_error(req, field, "must be 'sha256:' and 64 hexadecimal digits");
            return false;
        }
        int fd = input_open(api->inputs, name, &size, &err);
        if (fd < 0) {
            send_field_error(req, field, "has not been uploaded (PUT /inputs/{sha256})");
            return false;
        }
        close(fd);
    }
    return true;
}

static ssize_t next_of_file(char *to, size_t max, void *arg, struct err *err)
{
    ssize_t n = read(*(int *)arg, to, max);
    return n < 0 ? err_sys(err, "input") : n;
}

/* Unpacks the inputs to /workspace/input/NAME. */
static int unpack_inputs(struct api *api, const char *id, const struct json *inputs,
                         struct err *err)
{
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        char name[INPUT_NAME_SIZE];
        int64_t size;
        AUTO(buf) struct buf path = BUF_INIT(4096), out = BUF_INIT(4096);
        buf_addf(&path, "/workspace/input/%s", json_name(at));
        if (input_name(json_text(at), name))
            return err_set(err, ERR_INVALID, "an input's name is wrong");
        int fd = input_open(api->inputs, name, &size, err);
        if (fd < 0)
            return -1;
        int rc =
            session_unpack(api->sessions, id, buf_str(&path), true, next_of_file, &fd, &out, err);
        close(fd);
        if (rc)
            return err_wrap(err, "input '%.60s'", json_name(at));
    }
    return 0;
}

/* Reads `egress` by the rules of a task's. False after an answer. */
static bool read_egress(struct http_request *req, const struct api *api, const struct json *egress,
                        struct strlist *names)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(API_BODY_MAX);
    AUTO(request_errors) struct request_errors errors = {0};
    const struct request_defaults defaults = {.where = REQUEST_COMMAND};
    buf_adds(&text, "{\"command\":\"true\",\"egress\":");
    if (egress)
        json_print(egress, &text);
    else
        buf_adds(&text, "null");
    buf_addc(&text, '}');
    AUTO(task_request)
    struct task_request *request =
        task_request_decode(buf_str(&text), text.len, &defaults, &errors, &err);
    if (!request) {
        send_field_error(req, "egress", errors.count > 0 ? errors.items[0].message : err.msg);
        return false;
    }
    if (!api->claude->walls->gate && egress_mode_of(&request->egress) != EGRESS_OPEN) {
        send_field_error(req, "egress", "must be open here: this host's sessions have no gate");
        return false;
    }
    for (size_t i = 0; i < request->egress.count; i++)
        strlist_add(names, request->egress.items[i]);
    if (names->failed)
        send_field_error(req, "egress", "is too long");
    return !names->failed;
}

/* Refuses by name what this runner cannot do. False after an answer. */
static bool check_words(struct http_request *req, const struct session_wish *wish,
                        const char *executor)
{
    const char *wrong = wish->id && !id_is_valid(wish->id)       ? "id"
                        : wish->from && !id_is_valid(wish->from) ? "from"
                                                                 : NULL;
    if (wrong) {
        send_field_error(req, wrong,
                         "must be 1..64 of A-Z a-z 0-9 . _ ~ - and not begin with . or -");
        return false;
    }
    if (executor && strcmp(executor, "auto") != 0 && strcmp(executor, "local") != 0 &&
        strcmp(executor, "cloud") != 0) {
        send_field_error(req, "executor", "must be auto, local or cloud");
        return false;
    }
    return true;
}

/* Unpacks the inputs of the new session, which `made` describes; removes the session when that
 * fails. */
static int unpack_made(struct api *api, const struct json *inputs, const struct buf *made,
                       struct err *err)
{
    bool there;
    struct err ignored;
    AUTO(json) struct json *session = json_parse(buf_str(made), made->len, err);
    const char *id = json_text(json_get(session, "id"));
    if (!session || unpack_inputs(api, id, inputs, err) == 0)
        return session ? 0 : -1;
    session_delete(api->sessions, id, &there, &ignored);
    return -1;
}

/* A session that a request asks for. */
struct making {
    struct later later;
    struct json *body;
    struct session_wish wish;
    struct strlist variables, egress;
    struct buf metadata;
    const struct json *inputs;
    bool away; /* in the cloud */
    char id[ID_SIZE];
    struct task_request *request; /* the checked fields of its repository; NULL: none */
    struct repo_wish repo;
};

static void making_free(struct later *later)
{
    struct making *making = (struct making *)later;
    task_request_free(making->request);
    json_free(making->body);
    strlist_wipe(&making->variables);
    strlist_done(&making->egress);
    buf_done(&making->metadata);
    free(making);
}

/* Made here as any, then it goes into the bucket. */
static int make_away(struct making *making, struct buf *out, struct err *err)
{
    bool there;
    struct err ignored;
    struct api *api = making->later.api;
    AUTO(buf) struct buf made = BUF_INIT(LIST_BYTES_MAX);
    if (sessions_has(api->sessions, making->id))
        return err_set(err, ERR_CONFLICT, "there is a session '%s' already", making->id);
    if (cloudbox_announce(api->cloudbox, making->id, &making->wish, err))
        return -1;
    int rc = session_create(api->sessions, &making->wish, &made, err);
    if (rc == 0 && making->inputs)
        rc = unpack_inputs(api, making->id, making->inputs, err);
    if (rc == 0)
        rc = cloudbox_publish(api->cloudbox, making->id, err);
    if (rc) {
        session_delete(api->sessions, making->id, &there, &ignored);
        cloudbox_drop(api->cloudbox, making->id);
        return -1;
    }
    cloudbox_print(api->cloudbox, &made, out);
    return 0;
}

static int make_session(struct later *later, struct buf *out, int *ret_status, struct err *err)
{
    struct making *making = (struct making *)later;
    struct sessions *sessions = later->api->sessions;
    *ret_status = 201;
    if (sessions_hold(sessions, err))
        return -1;
    int rc = making->away ? make_away(making, out, err)
                          : session_create(sessions, &making->wish, out, err);
    if (rc == 0 && making->inputs && !making->away)
        rc = unpack_made(later->api, making->inputs, out, err);
    sessions_let_go(sessions);
    return rc;
}

static const char *const repo_fields[] = {"repoUrl", "gitRepo", "repo_url", "gitBranch",
                                          "gitRef",  "sshKey",  "gitToken", "staleOk"};

/* Reads the repository's fields as a command's. False after the answer has been sent. */
static bool read_repo(struct http_request *req, struct making *making)
{
    struct err err;
    struct json_writer w;
    struct request_errors errors = {0};
    const struct request_defaults defaults = {.where = REQUEST_COMMAND};
    AUTO(buf_wipe) struct buf text = BUF_INIT(API_BODY_MAX);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "command", "true");
    for (size_t i = 0; i < COUNT_OF(repo_fields); i++) {
        AUTO(buf_wipe) struct buf value = BUF_INIT(API_BODY_MAX);
        const struct json *given = json_get(making->body, repo_fields[i]);
        if (given)
            json_print(given, &value);
        if (given)
            json_add_raw(&w, repo_fields[i], buf_str(&value), value.len);
    }
    json_close(&w);
    making->request = task_request_decode(buf_str(&text), text.len, &defaults, &errors, &err);
    if (!making->request && errors.count > 0)
        send_field_error(req, errors.items[0].field, errors.items[0].message);
    else if (!making->request)
        send_err(req, &err);
    request_errors_done(&errors);
    return making->request != NULL;
}

/* Reads what the session is made from. False after the answer has been sent. */
static bool check_base(struct http_request *req, struct api *api, struct making *making)
{
    struct err err;
    const struct task_request *request = making->request;
    const char *needs_repo = request->git_branch  ? "gitBranch"
                             : request->git_ref   ? "gitRef"
                             : request->git_token ? "gitToken"
                             : request->ssh_key   ? "sshKey"
                                                  : NULL;
    if (!request->repo_url && needs_repo) {
        send_field_error(req, needs_repo, "needs repoUrl");
        return false;
    }
    if (request->repo_url && making->wish.from) {
        send_field_error(req, "from", "a session begins as a snapshot or with repoUrl, not both");
        return false;
    }
    if (request->repo_url && repos_check_url(api->repos, request->repo_url, &err)) {
        send_field_error(req, "repoUrl", err.msg);
        return false;
    }
    making->repo = (struct repo_wish){.url = request->repo_url,
                                      .branch = request->git_branch,
                                      .ref = request->git_ref,
                                      .key = request->ssh_key,
                                      .token = request->git_token,
                                      .stale_ok = request->stale_ok};
    making->wish.repo = request->repo_url ? &making->repo : NULL;
    return true;
}

/* One that is to be in the cloud has its name before it is made. */
static bool read_away(struct http_request *req, struct api *api, struct making *making,
                      bool layered)
{
    struct session_wish *wish = &making->wish;
    if (wish->id)
        snprintf(making->id, sizeof(making->id), "%s", wish->id);
    else
        id_new(making->id);
    wish->id = making->id;
    return away_may(req, api, wish, layered);
}

/* Reads and checks the request; false after the answer has been sent. */
static bool read_making(struct http_request *req, struct api *api, struct making *making)
{
    int64_t ttl = 0, idle = 0;
    struct session_wish *wish = &making->wish;
    const char *executor = NULL, *text = NULL;
    const struct json *env = NULL, *limits = NULL, *metadata = NULL, *egress = NULL;
    bool stale, layered = false;
    const struct field fields[] = {
        {.name = "id", .kind = FIELD_TEXT, .to = &wish->id},
        {.name = "from", .kind = FIELD_TEXT, .to = &wish->from},
        {.name = "env", .kind = FIELD_NODE, .to = &env},
        {.name = "limits", .kind = FIELD_NODE, .to = &limits},
        {.name = "egress", .kind = FIELD_ANY, .to = &egress},
        {.name = "executor", .kind = FIELD_TEXT, .to = &executor},
        {.name = "ttlMinutes",
         .kind = FIELD_INT,
         .to = &ttl,
         .min = 1,
         .max = 525600,
         .zero = true},
        {.name = "idleMinutes",
         .kind = FIELD_INT,
         .to = &idle,
         .min = 1,
         .max = 525600,
         .zero = true},
        {.name = "metadata", .kind = FIELD_NODE, .to = &metadata},
        {.name = "inputs", .kind = FIELD_NODE, .to = &making->inputs},
        {.name = "repoUrl", .kind = FIELD_TEXT, .to = &text}, /* read_repo() reads these. */
        {.name = "gitRepo", .kind = FIELD_TEXT, .to = &text},
        {.name = "repo_url", .kind = FIELD_TEXT, .to = &text},
        {.name = "gitBranch", .kind = FIELD_TEXT, .to = &text},
        {.name = "gitRef", .kind = FIELD_TEXT, .to = &text},
        {.name = "sshKey", .kind = FIELD_TEXT, .to = &text},
        {.name = "gitToken", .kind = FIELD_TEXT, .to = &text},
        {.name = "staleOk", .kind = FIELD_BOOL, .to = &stale},
        {.name = "layered", .kind = FIELD_BOOL, .to = &layered},
    };
    making->body = body_fields(req, fields, COUNT_OF(fields));
    if (!making->body || !check_words(req, wish, executor) ||
        !read_env(req, env, &making->variables) || !read_limits(req, limits, wish) ||
        !read_egress(req, api, egress, &making->egress) ||
        !check_inputs(req, api, making->inputs) || !read_repo(req, making) ||
        !check_base(req, api, making))
        return false;
    if (layered && !wish->repo) {
        send_field_error(req, "layered", "needs repoUrl");
        return false;
    }
    wish->env = &making->variables;
    wish->egress = &making->egress;
    making->repo.own_files = !layered;
    wish->ttl_minutes = (int)ttl;
    wish->idle_minutes = (int)idle;
    if (metadata)
        json_print(metadata, &making->metadata);
    wish->metadata = metadata ? buf_str(&making->metadata) : NULL;
    making->away = executor && strcmp(executor, "cloud") == 0;
    return !making->away || read_away(req, api, making, layered);
}

/* A session that takes time to make is made on another thread, so that no worker waits. */
void sessions_post(struct http_request *req, void *arg)
{
    struct err err;
    int status;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    struct making *making = calloc(1, sizeof(*making));
    if (!making) {
        err_sys(&err, "session");
        send_err(req, &err);
        return;
    }
    making->later = (struct later){.api = arg, .make = make_session, .done = making_free};
    buf_init(&making->metadata, API_BODY_MAX);
    if (!read_making(req, arg, making)) {
        making_free(&making->later);
        return;
    }
    if (making->wish.repo || making->wish.from || making->inputs || making->away) {
        later_answer(req, &making->later);
        return;
    }
    if (make_session(&making->later, &out, &status, &err))
        send_err(req, &err);
    else
        send_json(req, status, &out);
    making_free(&making->later);
}

/* --- showing and removing ------------------------------------------------------------------ */

void sessions_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    AUTO(buf) struct buf all = BUF_INIT(LIST_BYTES_MAX), out = BUF_INIT(2 * LIST_BYTES_MAX);
    sessions_print(api->sessions, &all);
    cloudbox_print(api->cloudbox, &all, &out);
    send_json(req, 200, &out);
}

void session_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    const char *id = http_param(req, "id");
    AUTO(buf) struct buf out = BUF_INIT(2 * LIST_BYTES_MAX);
    int rc = cloudbox_has(api->cloudbox, id) ? cloudbox_print_one(api->cloudbox, id, &out, &err)
                                             : session_print(api->sessions, id, &out, &err);
    if (rc)
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

void session_remove_it(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    bool there = false;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    if (session_delete(api->sessions, http_param(req, "id"), &there, &err)) {
        send_err(req, &err);
        return;
    }
    cloudbox_drop(api->cloudbox, http_param(req, "id"));
    buf_adds(&out, "{\"success\":true,\"id\":\"");
    str_add_json(&out, http_param(req, "id"), strlen(http_param(req, "id")));
    buf_addf(&out, "\",\"deleted\":%s}", there ? "true" : "false");
    send_json(req, 200, &out);
}

/* --- processes ----------------------------------------------------------------------------- */

/* Reads the process that the path names. False after the answer has been sent. */
static bool find_pid(struct http_request *req, pid_t *ret_pid)
{
    int64_t pid;
    struct err err;
    if (str_to_int(http_param(req, "pid"), 1, INT32_MAX, &pid) == 0) {
        *ret_pid = (pid_t)pid;
        return true;
    }
    err_set(&err, ERR_NOT_FOUND, "the session has no background process '%.40s'",
            http_param(req, "pid"));
    send_err(req, &err);
    return false;
}

void processes_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"shell", NULL};
    struct api *api = arg;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (check_query(req, known, &err) ||
        detached_list(api->sessions, http_param(req, "id"), http_query(req, "shell"), &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

/* A request that waits for the end of a process. */
struct wait {
    struct sessions *sessions;
    char id[ID_SIZE], request_id[80];
    pid_t pid;
    struct exec *command; /* NULL: it waits for a background process */
    _Atomic int refs;     /* of the process, the connection and the handler */
    struct lock lock;
    struct http_parked *parked; /* NULL before it is parked, and once one side answers */
    bool over;
};

static void wait_unref(struct wait *wait)
{
    if (atomic_fetch_sub(&wait->refs, 1) > 1)
        return;
    lock_done(&wait->lock);
    exec_unref(wait->command);
    free(wait);
}

static void answer_wait(struct wait *wait, struct http_parked *parked)
{
    struct err err;
    bool running;
    int status = 200;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (wait->command) {
        int exit;
        if (exec_exit(wait->command, &exit))
            buf_addf(&out, "{\"running\":false,\"exit_code\":%d,\"returncode\":%d}", exit, exit);
        else
            buf_adds(&out, "{\"running\":true,\"exit_code\":null,\"returncode\":null}");
    } else if (detached_print(wait->sessions, wait->id, wait->pid, &out, &running, &err)) {
        buf_clear(&out);
        http_add_problem(&out, &err, wait->request_id, 0, NULL);
        status = err_http(err.code);
    }
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", NULL,
                     buf_str(&out), out.len);
}

static struct http_parked *take_parked(struct wait *wait, bool over)
{
    lock_take(&wait->lock);
    struct http_parked *parked = wait->parked;
    wait->parked = NULL;
    wait->over |= over;
    lock_drop(&wait->lock);
    return parked;
}

static void on_process_ended(void *arg)
{
    struct wait *wait = arg;
    struct http_parked *parked = take_parked(wait, true);
    if (parked)
        answer_wait(wait, parked);
    wait_unref(wait);
}

static void on_waited(void *arg)
{
    struct wait *wait = arg;
    struct http_parked *parked = take_parked(wait, false);
    if (parked)
        answer_wait(wait, parked);
}

static void on_gone(void *arg)
{
    struct http_parked *parked = take_parked(arg, false);
    if (parked)
        http_parked_drop(parked);
}

/* The connection has ended; the process may run on for long. */
static void on_done(void *arg)
{
    struct wait *wait = arg;
    if (detached_unwatch(wait->sessions, wait))
        wait_unref(wait);
    wait_unref(wait);
}

/* Takes ownership of `command`; NULL means that a background process is waited for. */
static struct wait *wait_new(struct http_request *req, struct api *api, struct exec *command,
                             pid_t pid)
{
    struct wait *wait = calloc(1, sizeof(*wait));
    if (!wait) {
        exec_unref(command);
        return NULL;
    }
    *wait = (struct wait){.sessions = api->sessions, .pid = pid, .command = command, .refs = 3};
    lock_init(&wait->lock);
    snprintf(wait->id, sizeof(wait->id), "%s", http_param(req, "id"));
    snprintf(wait->request_id, sizeof(wait->request_id), "%s", http_id(req));
    return wait;
}

static void wait_for(struct http_request *req, struct api *api, struct exec *command, pid_t pid,
                     int seconds)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    struct wait *wait = wait_new(req, api, command, pid);
    if (!wait) {
        err_sys(&err, "waiting");
        send_err(req, &err);
        return;
    }
    if (command ? exec_watch_end(command, on_process_ended, wait, &err)
                : detached_watch(api->sessions, wait->id, pid, on_process_ended, wait, &err)) {
        send_err(req, &err);
        wait_unref(wait);
        wait_unref(wait);
        wait_unref(wait);
        return;
    }
    const struct http_park_config park = {.keepalive_after_ms = config->keepalive_after_ms,
                                          .keepalive_every_ms = config->keepalive_every_ms,
                                          .wait_ms = seconds * 1000,
                                          .gone = on_gone,
                                          .waited = on_waited,
                                          .done = on_done,
                                          .arg = wait};
    lock_take(&wait->lock); /* gone() may be called before the handle is stored. */
    struct http_parked *parked = http_park(req, &park, &err);
    bool over = wait->over;
    wait->parked = over ? NULL : parked;
    lock_drop(&wait->lock);
    if (!parked) {
        send_err(req, &err);
        on_done(wait);
    } else if (over) {
        answer_wait(wait, parked);
    }
    wait_unref(wait);
}

/* Reads `wait`: -1 when it is absent, -2 after the answer has been sent. */
static int read_wait(struct http_request *req)
{
    int64_t seconds;
    struct err err;
    const char *text = http_query(req, "wait");
    if (!text || !*text)
        return -1;
    if (str_to_int(text, 0, WAIT_MAX_S, &seconds) == 0)
        return (int)seconds;
    err_set(&err, ERR_INVALID, "wait must be 0..%d seconds, got '%.40s'", WAIT_MAX_S, text);
    send_err(req, &err);
    return -2;
}

void process_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"wait", NULL};
    struct api *api = arg;
    struct err err;
    pid_t pid;
    bool running = false;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (check_query(req, known, &err)) {
        send_err(req, &err);
        return;
    }
    int seconds = read_wait(req);
    if (seconds == -2 || !find_pid(req, &pid))
        return;
    if (detached_print(api->sessions, http_param(req, "id"), pid, &out, &running, &err))
        send_err(req, &err);
    else if (running && seconds > 0)
        wait_for(req, api, NULL, pid, seconds);
    else
        send_json(req, 200, &out);
}

/* Sends a file from an offset to its present end. */
static void send_log(struct http_request *req, int fd, int64_t from)
{
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    ssize_t n = piece ? 1 : -1;
    if (http_begin(req, 200, "text/plain; charset=utf-8"))
        return;
    while (n > 0 && (n = pread(fd, piece, PIECE_BYTES, from)) > 0) {
        from += n;
        if (http_write(req, piece, (size_t)n))
            return;
    }
    http_end(req, n == 0);
}

void process_logs(struct http_request *req, void *arg)
{
    static const char *const known[] = {"from", NULL};
    struct api *api = arg;
    struct err err;
    pid_t pid;
    int64_t from = 0;
    const char *text = http_query(req, "from");
    if (check_query(req, known, &err) || (text && str_to_int(text, 0, INT64_MAX, &from) &&
                                          err_set(&err, ERR_INVALID, "from must be an offset"))) {
        send_err(req, &err);
        return;
    }
    if (!find_pid(req, &pid))
        return;
    if (http_prefers(req, "text/event-stream")) {
        follow_process(req, api, http_param(req, "id"), pid, from);
        return;
    }
    int fd = detached_log(api->sessions, http_param(req, "id"), pid, &err);
    if (fd < 0) {
        send_err(req, &err);
        return;
    }
    send_log(req, fd, from);
    close(fd);
}

static void input_to(struct http_request *req, struct api *api, pid_t pid)
{
    struct err err;
    const char *text = "";
    bool enter = true, end = false;
    const struct field fields[] = {
        {.name = "text", .kind = FIELD_EMPTY, .to = &text, .max = INPUT_BYTES_MAX},
        {.name = "pressEnter", .kind = FIELD_BOOL, .to = &enter},
        {.name = "end", .kind = FIELD_BOOL, .to = &end},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    if (detached_input(api->sessions, http_param(req, "id"), pid, text, enter, end, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(buf) struct buf out = BUF_INIT(64);
    buf_adds(&out, "{\"status\":\"success\"}");
    send_json(req, 200, &out);
}

void process_stdin(struct http_request *req, void *arg)
{
    pid_t pid = 0;
    if (!away_refuses(req, arg, "standard input") && find_pid(req, &pid))
        input_to(req, arg, pid);
}

/* Reads "TERM", "SIGTERM" or "15"; 0 for anything else. */
static int signal_of(const char *text)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},  {"KILL", SIGKILL},
                 {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM},  {"STOP", SIGSTOP},
                 {"CONT", SIGCONT}, {"TSTP", SIGTSTP}, {"WINCH", SIGWINCH}};
    int64_t number;
    if (str_to_int(text, 1, 31, &number) == 0)
        return (int)number;
    if (strncmp(text, "SIG", 3) == 0)
        text += 3;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].name, text) == 0)
            return names[i].number;
    return 0;
}

static void end_and_say(struct http_request *req, struct api *api, pid_t pid)
{
    struct err err;
    bool running = false;
    const char *id = http_param(req, "id");
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX), process = BUF_INIT(LIST_BYTES_MAX);
    if (detached_end(api->sessions, id, pid, &running, &err)) {
        send_err(req, &err);
        return;
    }
    bool still;
    if (detached_print(api->sessions, id, pid, &process, &still, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(json) struct json *seen = json_parse(buf_str(&process), process.len, &err);
    buf_addf(&out, "{\"status\":\"%s\",\"killed_count\":%d,\"killed_pids\":[",
             running ? "terminated" : "already_terminated", running);
    if (running)
        buf_addi(&out, pid);
    buf_adds(&out, "],\"returncode\":");
    if (json_get(seen, "exit_code"))
        json_print(json_get(seen, "exit_code"), &out);
    else
        buf_adds(&out, "null");
    buf_adds(&out, ",\"process\":");
    buf_add(&out, process.data, process.len);
    buf_addc(&out, '}');
    send_json(req, 200, &out);
}

void process_delete(struct http_request *req, void *arg)
{
    static const char *const known[] = {"signal", NULL};
    struct api *api = arg;
    struct err err;
    pid_t pid;
    const char *text = http_query(req, "signal");
    int sig = text ? signal_of(text) : 0;
    if (check_query(req, known, &err) ||
        (text && !sig && err_set(&err, ERR_INVALID, "'%.40s' is no signal", text))) {
        send_err(req, &err);
        return;
    }
    if (text && away_refuses(req, api, "a signal"))
        return;
    if (!find_pid(req, &pid))
        return;
    if (!text) {
        end_and_say(req, api, pid);
        return;
    }
    AUTO(buf) struct buf out = BUF_INIT(64);
    if (detached_signal(api->sessions, http_param(req, "id"), pid, sig, &err)) {
        send_err(req, &err);
        return;
    }
    buf_addf(&out, "{\"status\":\"signalled\",\"signal\":%d}", sig);
    send_json(req, 200, &out);
}

void processes_delete(struct http_request *req, void *arg)
{
    static const char *const known[] = {"pattern", "shell", "signal", NULL};
    struct api *api = arg;
    struct err err;
    int count = 0;
    const char *text = http_query(req, "signal");
    int sig = text ? signal_of(text) : SIGTERM;
    AUTO(buf) struct buf pids = BUF_INIT(LIST_BYTES_MAX), out = BUF_INIT(LIST_BYTES_MAX);
    if (check_query(req, known, &err) ||
        (!sig && err_set(&err, ERR_INVALID, "'%.40s' is no signal", text)) ||
        detached_end_all(api->sessions, http_param(req, "id"), http_query(req, "pattern"),
                         http_query(req, "shell"), sig, &pids, &count, &err)) {
        send_err(req, &err);
        return;
    }
    buf_addf(&out, "{\"killed_count\":%d,\"killed_pids\":[%s]}", count, buf_str(&pids));
    send_json(req, 200, &out);
}

/* --- shells -------------------------------------------------------------------------------- */

void shell_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"console", NULL};
    struct api *api = arg;
    struct err err;
    const char *console = http_query(req, "console");
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (check_query(req, known, &err) ||
        shellview_print(api->sessions, http_param(req, "id"), http_param(req, "name"),
                        console && strcmp(console, "true") == 0, &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

/* Finds what the shell's calls refer to. False after the answer has been sent. The caller drops the
 * reference to a foreground command. */
static bool find_current(struct http_request *req, struct api *api, pid_t *ret_pid,
                         struct exec **ret_command)
{
    struct err err;
    const char *name = http_param(req, "name");
    if (shellview_current(api->sessions, http_param(req, "id"), name, ret_pid, ret_command, &err) ==
        0) {
        if (*ret_pid > 0 || *ret_command)
            return true;
        err_set(&err, ERR_NOT_FOUND, "shell '%.64s' has no process", name);
    }
    send_err(req, &err);
    return false;
}

void shell_stdin(struct http_request *req, void *arg)
{
    struct err err;
    pid_t pid;
    struct exec *command;
    if (away_refuses(req, arg, "standard input") || !find_current(req, arg, &pid, &command))
        return;
    if (!command) {
        input_to(req, arg, pid);
        return;
    }
    exec_unref(command);
    err_set(&err, ERR_CONFLICT,
            "the command in front takes no input: give it `stdin`, or start it with `background`");
    send_err(req, &err);
}

/* The execution of what runs there is ended, without waiting for it. */
static void kill_away(struct http_request *req, struct api *api)
{
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(64);
    if (cloudbox_kill(api->cloudbox, http_param(req, "id"), http_param(req, "name"), &err)) {
        send_err(req, &err);
        return;
    }
    buf_adds(&out, "{\"status\":\"terminated\",\"returncode\":137}");
    send_json(req, 200, &out);
}

void shell_kill(struct http_request *req, void *arg)
{
    pid_t pid;
    struct exec *command;
    struct api *api = arg;
    if (cloudbox_has(api->cloudbox, http_param(req, "id"))) {
        kill_away(req, api);
        return;
    }
    if (!find_current(req, arg, &pid, &command))
        return;
    if (!command) {
        end_and_say(req, arg, pid);
        return;
    }
    exec_kill(command);
    exec_unref(command);
    AUTO(buf) struct buf out = BUF_INIT(64);
    buf_adds(&out, "{\"status\":\"terminated\",\"returncode\":137}");
    send_json(req, 200, &out);
}

void shell_wait(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    pid_t pid;
    struct exec *command;
    int64_t seconds = 60;
    const struct field fields[] = {
        {.name = "seconds", .kind = FIELD_INT, .to = &seconds, .min = 0, .max = WAIT_MAX_S}};
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body || away_refuses(req, api, "waiting for a process") ||
        !find_current(req, api, &pid, &command))
        return;
    if (command) {
        wait_for(req, api, command, 0, seconds > 0 ? (int)seconds : 1);
        return;
    }
    bool running = false;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (detached_print(api->sessions, http_param(req, "id"), pid, &out, &running, &err))
        send_err(req, &err);
    else if (running && seconds > 0)
        wait_for(req, api, NULL, pid, (int)seconds);
    else
        send_json(req, 200, &out);
}
