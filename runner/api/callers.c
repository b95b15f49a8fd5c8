/* GET /callers: which secrets exist, and how they were used. */
#include "runner/access/callers.h"
#include "runner/api/caller_limits.h"

#include <stdlib.h>
#include <string.h>

#define LIST_BYTES_MAX (1u << 20)

/* The data about all callers, from which entries are printed. */
struct listing {
    struct json_writer w;
    struct caller_use uses[CALLERS_MAX];
    size_t use_count;
    struct caller_tasks tasks[CALLERS_MAX];
    size_t task_count;
};

static void print_tasks(struct listing *listing, const char *name)
{
    json_open_object(&listing->w, "tasks");
    for (size_t i = 0; i < listing->task_count; i++) {
        const struct caller_tasks *tasks = &listing->tasks[i];
        if (strcmp(tasks->name, name) != 0)
            continue;
        for (int state = 0; state < TASK_STATE_COUNT; state++)
            if (tasks->counts[state] > 0)
                json_add_int(&listing->w, task_state_name((enum task_state)state),
                             tasks->counts[state]);
    }
    json_close(&listing->w);
}

static void print_caller(struct listing *listing, const struct config *config, const char *name,
                         bool configured, const struct caller_use *use)
{
    struct json_writer *w = &listing->w;
    json_open_object(w, NULL);
    json_add_text(w, "name", name);
    json_add_bool(w, "configured", configured);
    json_add_time(w, "firstUsedAt", use ? use->first_ms : 0);
    json_add_time(w, "lastUsedAt", use ? use->last_ms : 0);
    json_add_text(w, "lastAddress", use && use->address[0] ? use->address : NULL);
    json_add_int(w, "requests", use ? use->requests : 0);
    print_tasks(listing, name);
    caller_limits_print(w, config, name);
    json_close(w);
}

static const struct caller_use *find_use(const struct listing *listing, const char *name)
{
    for (size_t i = 0; i < listing->use_count; i++)
        if (strncmp(listing->uses[i].name, name, sizeof(listing->uses[i].name) - 1) == 0)
            return &listing->uses[i];
    return NULL;
}

static bool is_configured(const struct config *config, const struct caller_use *use)
{
    for (size_t i = 0; i < config->secrets.count; i++)
        if (strncmp(config->secrets.items[i].name, use->name, sizeof(use->name) - 1) == 0)
            return true;
    return false;
}

/* Prints the configured callers in their order, then former ones. */
static void print_all(struct api *api, struct listing *listing)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    listing->use_count = callers_copy(api->callers, listing->uses, CALLERS_MAX);
    json_open_object(&listing->w, NULL);
    json_open_array(&listing->w, "callers");
    for (size_t i = 0; i < config->secrets.count; i++) {
        const char *name = config->secrets.items[i].name;
        print_caller(listing, config, name, true, find_use(listing, name));
    }
    for (size_t i = 0; i < listing->use_count; i++)
        if (!is_configured(config, &listing->uses[i]))
            print_caller(listing, config, listing->uses[i].name, false, &listing->uses[i]);
    json_close(&listing->w);
    json_close(&listing->w);
}

void callers_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    AUTO(str) char *memory = calloc(1, sizeof(struct listing));
    struct listing *listing = (struct listing *)(void *)memory;
    if (!listing)
        err_sys(&err, "callers");
    if (!listing ||
        store_callers(api->store, listing->tasks, CALLERS_MAX, &listing->task_count, &err)) {
        send_err(req, &err);
        return;
    }
    json_write(&listing->w, &out);
    print_all(api, listing);
    send_json(req, 200, &out);
}
