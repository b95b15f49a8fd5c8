/* Sessions: making them. */
#include "base/path.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/later.h"
#include "runner/api/session_cloud.h"
#include "runner/egress/rules.h"
#include "runner/inputs/inputs.h"
#include "runner/session/session.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_BYTES_MAX (16u << 20)
#define VARIABLE_BYTES_MAX 131071 /* a program cannot be started with a longer one */
#define ENV_BYTES_MAX 524288

/* --- making -------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    while (isalnum((unsigned char)*name) || *name == '_')
        name++;
    return !*name;
}

/* Notes what is wrong with a field; one that is noted already stays as it is. */
static void refuse(struct request_errors *errors, const char *field, const char *message)
{
    for (size_t i = 0; i < errors->count; i++)
        if (strcmp(errors->items[i].field, field) == 0)
            return;
    request_errors_add(errors, ERR_INVALID, field, message);
}

/* What follows notes what is wrong. The environment: */
static void read_env(struct request_errors *errors, const struct json *env, struct strlist *out)
{
    size_t total = 0;
    for (const struct json *at = json_first(env); at; at = json_next(at)) {
        char field[128];
        const char *value = json_text(at);
        snprintf(field, sizeof(field), "env.%.100s", json_name(at));
        if (!is_name(json_name(at)) || !value) {
            refuse(errors, field, value ? "is no name of a variable" : "must be a string");
            continue;
        }
        size_t len = strlen(json_name(at)) + 1 + strlen(value);
        total += len;
        if (len > VARIABLE_BYTES_MAX)
            refuse(errors, field, "must have at most 131071 bytes with its name");
        else if (total > ENV_BYTES_MAX || strlist_addf(out, "%s=%s", json_name(at), value))
            refuse(errors, "env", "must have at most 524288 bytes");
    }
}

/* Stores one limit, which is the i-th of the names. Returns what is wrong with it, or NULL. */
static const char *read_limit(const struct jail_host *host, const struct json *limit, size_t i,
                              struct session_wish *wish)
{
    double number;
    int64_t value = 0;
    int *const whole[] = {NULL, &wish->memory_mb, &wish->pids_max, &wish->disk_mb};
    if (json_number(limit, &number) || number <= 0 || number > 1e9)
        return "must be a number above 0";
    if (i == 0 && !host->has[JAIL_HAS_CPU]) /* the others are watched where no group counts */
        return host->why[JAIL_HAS_CPU];
    if (i == 0) {
        wish->cpu = number;
        return NULL;
    }
    if (json_int(limit, &value) || value > INT32_MAX || (i == 1 && value < 16))
        return i == 1 ? "must be a whole number of at least 16" : "must be a whole number";
    *whole[i] = (int)value;
    return NULL;
}

static void read_limits(struct request_errors *errors, struct api *api, const struct json *limits,
                        struct session_wish *wish)
{
    static const char *const known[] = {"cpu", "memoryMb", "pids", "diskMb"};
    for (const struct json *at = json_first(limits); at; at = json_next(at)) {
        char field[128];
        size_t i = 0;
        snprintf(field, sizeof(field), "limits.%.100s", json_name(at));
        while (i < COUNT_OF(known) && strcmp(known[i], json_name(at)) != 0)
            i++;
        const char *wrong = i == COUNT_OF(known)
                                ? "is no limit: cpu, memoryMb, pids, diskMb are"
                                : read_limit(launcher_host(api->launcher), at, i, wish);
        if (wrong)
            refuse(errors, field, wrong);
    }
}

/* The names and hashes of inputs. */
static void check_inputs(struct request_errors *errors, struct api *api, const struct json *inputs)
{
    struct err err;
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        char field[128], name[INPUT_NAME_SIZE];
        int64_t size;
        snprintf(field, sizeof(field), "inputs.%.100s", json_name(at));
        if (!path_is_inside(json_name(at)) || strchr(json_name(at), '/')) {
            refuse(errors, field, "is no name of a file");
            continue;
        }
        if (!json_text(at) || input_name(json_text(at), name)) {
            refuse(errors, field, "must be 'sha256:' and 64 hexadecimal digits");
            continue;
        }
        int fd = input_open(api->inputs, name, &size, &err);
        if (fd < 0)
            refuse(errors, field, "has not been uploaded (PUT /inputs/{sha256})");
        else
            close(fd);
    }
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

/* `egress`, by the rules of a task's. */
static void read_egress(struct request_errors *errors, const struct api *api,
                        const struct json *egress, struct strlist *names)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(API_BODY_MAX);
    AUTO(request_errors) struct request_errors wrong = {0};
    const struct request_defaults defaults = {.where = REQUEST_COMMAND};
    buf_adds(&text, "{\"command\":\"true\",\"egress\":");
    if (egress)
        json_print(egress, &text);
    else
        buf_adds(&text, "null");
    buf_addc(&text, '}');
    AUTO(task_request)
    struct task_request *request =
        task_request_decode(buf_str(&text), text.len, &defaults, &wrong, &err);
    if (!request) {
        refuse(errors, "egress", wrong.count > 0 ? wrong.items[0].message : err.msg);
        return;
    }
    if (!api->claude->walls->gate && egress_mode_of(&request->egress) != EGRESS_OPEN) {
        refuse(errors, "egress", "must be open here: this host's sessions have no gate");
        return;
    }
    for (size_t i = 0; i < request->egress.count; i++)
        strlist_add(names, request->egress.items[i]);
    if (names->failed)
        refuse(errors, "egress", "is too long");
}

static void check_words(struct request_errors *errors, const struct session_wish *wish,
                        const char *executor)
{
    static const char name[] = "must be 1..64 of A-Z a-z 0-9 . _ ~ - and not begin with . or -";
    if (wish->id && !id_is_valid(wish->id))
        refuse(errors, "id", name);
    if (wish->from && !id_is_valid(wish->from))
        refuse(errors, "from", name);
    if (executor && strcmp(executor, "auto") != 0 && strcmp(executor, "local") != 0 &&
        strcmp(executor, "cloud") != 0)
        refuse(errors, "executor", "must be auto, local or cloud");
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
    bool layered;
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

/* The bucket gets files: an overlay's upper layer is half of them. */
static int check_whole(struct api *api, const char *id, struct err *err)
{
    if (session_check(api->sessions, id, err) == 0)
        return 0;
    return err->code == ERR_CONFLICT
               ? err_set(err, ERR_CONFLICT,
                         "from: the snapshot is of a session that was made with `layered` and "
                         "holds only what differs from its repository; a session in the cloud "
                         "needs all files: snapshot one that was made without")
               : -1;
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
    if (rc == 0)
        rc = check_whole(api, making->id, err);
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

/* The repository's fields, by the rules of a command's. */
static void read_repo(struct request_errors *errors, struct making *making)
{
    struct err err;
    struct json_writer w;
    AUTO(request_errors) struct request_errors wrong = {0};
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
    making->request = task_request_decode(buf_str(&text), text.len, &defaults, &wrong, &err);
    for (size_t i = 0; i < wrong.count; i++)
        refuse(errors, wrong.items[i].field, wrong.items[i].message);
    if (!making->request && wrong.count == 0)
        refuse(errors, "repoUrl", err.msg);
}

/* What the session is made from. */
static void check_base(struct request_errors *errors, struct api *api, struct making *making)
{
    struct err err;
    const struct task_request *request = making->request;
    if (!request)
        return;
    const char *needs_repo = request->git_branch  ? "gitBranch"
                             : request->git_ref   ? "gitRef"
                             : request->git_token ? "gitToken"
                             : request->ssh_key   ? "sshKey"
                                                  : NULL;
    if (!request->repo_url && needs_repo)
        refuse(errors, needs_repo, "needs repoUrl");
    if (request->repo_url && making->wish.from)
        refuse(errors, "from", "a session begins as a snapshot or with repoUrl, not both");
    if (request->repo_url && repos_check_url(api->repos, request->repo_url, &err))
        refuse(errors, "repoUrl", err.msg);
    if (making->layered && !request->repo_url)
        refuse(errors, "layered", "needs repoUrl");
    making->repo = (struct repo_wish){.url = request->repo_url,
                                      .branch = request->git_branch,
                                      .ref = request->git_ref,
                                      .key = request->ssh_key,
                                      .token = request->git_token,
                                      .stale_ok = request->stale_ok,
                                      .own_files = !making->layered};
    making->wish.repo = request->repo_url ? &making->repo : NULL;
}

/* One that is to be in the cloud has its name before it is made. */
static bool read_away(struct http_request *req, struct api *api, struct making *making)
{
    struct session_wish *wish = &making->wish;
    if (wish->id)
        snprintf(making->id, sizeof(making->id), "%s", wish->id);
    else
        id_new(making->id);
    wish->id = making->id;
    return away_may(req, api, wish, making->layered);
}

/* Reads and checks the request; false after the answer has been sent. */
static bool read_making(struct http_request *req, struct api *api, struct making *making)
{
    int64_t ttl = 0, idle = 0;
    struct session_wish *wish = &making->wish;
    const char *executor = NULL, *text = NULL;
    const struct json *env = NULL, *limits = NULL, *metadata = NULL, *egress = NULL;
    bool stale;
    struct request_errors errors = {0};
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
        {.name = "layered", .kind = FIELD_BOOL, .to = &making->layered},
    };
    making->body = body_read(req, fields, COUNT_OF(fields), &errors);
    if (!making->body)
        return false;
    check_words(&errors, wish, executor);
    read_env(&errors, env, &making->variables);
    read_limits(&errors, api, limits, wish);
    read_egress(&errors, api, egress, &making->egress);
    check_inputs(&errors, api, making->inputs);
    read_repo(&errors, making);
    check_base(&errors, api, making);
    if (body_refused(req, &errors))
        return false;
    wish->env = &making->variables;
    wish->egress = &making->egress;
    wish->ttl_minutes = (int)ttl;
    wish->idle_minutes = (int)idle;
    if (metadata)
        json_print(metadata, &making->metadata);
    wish->metadata = metadata ? buf_str(&making->metadata) : NULL;
    making->away = executor && strcmp(executor, "cloud") == 0;
    return !making->away || read_away(req, api, making);
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
