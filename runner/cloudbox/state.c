#include "runner/cloudbox/state.h"

#include "base/clock.h"
#include "base/str.h"
#include "google/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_NAME "state.json"
#define VALUES_MAX 100000
#define CWD_BYTES_MAX 4096

/* As Python's datetime.isoformat() writes it, and its fromisoformat() reads it. */
static char *now_text(void)
{
    char text[CLOCK_TEXT_SIZE + 8];
    clock_format(clock_real_ms(), text);
    char *end = strchr(text, 'Z');
    if (end)
        memcpy(end, "+00:00", sizeof("+00:00"));
    return strdup(text);
}

int box_state_init(struct box_state *state, struct err *err)
{
    *state = (struct box_state){.generation = STORAGE_ABSENT};
    state->cwd = strdup("/workspace");
    state->env = strdup("{}");
    state->shells = strdup("{}");
    state->created_at = now_text();
    state->last_updated = strdup("");
    if (state->cwd && state->env && state->shells && state->created_at && state->last_updated)
        return 0;
    box_state_done(state);
    return err_sys(err, "session");
}

void box_state_done(struct box_state *state)
{
    free(state->cwd);
    free(state->env);
    free(state->shells);
    free(state->created_at);
    free(state->last_updated);
    *state = (struct box_state){0};
}

void box_state_print(const struct box_state *state, const char *id, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "session_id", id);
    json_add_text(&w, "cwd", state->cwd);
    json_add_raw(&w, "env_vars", state->env, strlen(state->env));
    json_open_object(&w, "background_pids");
    json_close(&w);
    json_add_text(&w, "created_at", state->created_at);
    json_add_text(&w, "last_updated", state->last_updated);
    json_add_raw(&w, "shells", state->shells, strlen(state->shells));
    json_add_text(&w, "last_task", state->last_task[0] ? state->last_task : NULL);
    json_open_array(&w, "workspace");
    for (size_t i = 0; i < state->layer_count; i++) {
        json_open_object(&w, NULL);
        json_add_text(&w, "name", state->layers[i].name);
        json_add_int(&w, "bytes", state->layers[i].bytes);
        json_add_bool(&w, "gone", state->layers[i].gone);
        json_close(&w);
    }
    json_close(&w);
    json_close(&w);
}

/* --- reading ------------------------------------------------------------------------------- */

static int wrong(const char *member, struct err *err)
{
    return err_set(err, ERR_UPSTREAM, "the session's " STATE_NAME " is damaged: %s", member);
}

/* A text, or what stands for a missing one. */
static int take_text(const struct json *root, const char *name, const char *missing, char **to,
                     struct err *err)
{
    const struct json *node = json_get(root, name);
    const char *text = json_text(node);
    if (node && !text && json_type(node) != JSON_NULL)
        return wrong(name, err);
    *to = strdup(text ? text : missing);
    return *to ? 0 : err_sys(err, "session");
}

/* An object of strings, as text. */
static int take_texts(const struct json *root, const char *name, char **to, struct err *err)
{
    const struct json *node = json_get(root, name);
    AUTO(buf) struct buf text = BUF_INIT(BOX_STATE_BYTES_MAX);
    if (node && json_type(node) != JSON_OBJECT)
        return wrong(name, err);
    for (const struct json *at = json_first(node); at; at = json_next(at))
        if (!json_text(at))
            return wrong(name, err);
    if (node)
        json_print(node, &text);
    else
        buf_adds(&text, "{}");
    *to = buf_steal(&text);
    return *to ? 0 : err_sys(err, "session");
}

static int take_layers(const struct json *root, struct box_state *state, struct err *err)
{
    const struct json *list = json_get(root, "workspace");
    if (list && json_type(list) != JSON_ARRAY)
        return wrong("workspace", err);
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        const char *name = json_text(json_get(at, "name"));
        struct box_layer *layer = &state->layers[state->layer_count];
        if (state->layer_count == BOX_LAYERS_MAX || !name || !id_is_valid(name) ||
            json_int(json_get(at, "bytes"), &layer->bytes) || layer->bytes < 0 ||
            json_bool(json_get(at, "gone"), &layer->gone))
            return wrong("workspace", err);
        snprintf(layer->name, sizeof(layer->name), "%s", name);
        state->layer_count++;
    }
    return 0;
}

static int take_all(const struct json *root, struct box_state *state, struct err *err)
{
    const char *task = json_text(json_get(root, "last_task"));
    if (json_type(root) != JSON_OBJECT)
        return wrong("it is no object", err);
    if (take_text(root, "cwd", "/workspace", &state->cwd, err) ||
        take_text(root, "created_at", "", &state->created_at, err) ||
        take_text(root, "last_updated", "", &state->last_updated, err) ||
        take_texts(root, "env_vars", &state->env, err) ||
        take_texts(root, "shells", &state->shells, err) || take_layers(root, state, err))
        return -1;
    if (state->cwd[0] != '/' || strlen(state->cwd) >= CWD_BYTES_MAX)
        return wrong("cwd", err);
    if (task && id_is_valid(task))
        snprintf(state->last_task, sizeof(state->last_task), "%s", task);
    return 0;
}

int box_state_parse(const char *text, size_t len, struct box_state *ret_state, struct err *err)
{
    struct box_state state = {0};
    AUTO(json) struct json *root = json_parse_within(text, len, VALUES_MAX, err);
    if (!root)
        return wrong("it is no JSON", err);
    if (take_all(root, &state, err)) {
        box_state_done(&state);
        return -1;
    }
    *ret_state = state;
    return 0;
}

/* --- in the bucket ------------------------------------------------------------------------- */

int box_state_get(const struct cloud *cloud, const char *id, struct box_state *ret_state,
                  struct err *err)
{
    int64_t generation = 0;
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(BOX_STATE_BYTES_MAX);
    folder_name(id, STATE_NAME, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, &generation, err) ||
        box_state_parse(buf_str(&text), text.len, ret_state, err))
        return -1;
    ret_state->generation = generation;
    return 0;
}

int box_state_put(const struct cloud *cloud, const char *id, struct box_state *state,
                  struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(BOX_STATE_BYTES_MAX);
    AUTO(storage_object) struct storage_object object = {0};
    const struct storage_at at = {cloud->bucket, name, "application/json", state->generation};
    folder_name(id, STATE_NAME, name);
    free(state->last_updated);
    state->last_updated = now_text();
    if (!state->last_updated)
        return err_sys(err, "session");
    box_state_print(state, id, &text);
    if (buf_check(&text, "the session's " STATE_NAME, err) ||
        storage_put(cloud->google, &at, text.data, text.len, &object, err))
        return -1;
    state->generation = object.generation;
    return 0;
}

void box_layer_name(const char *id, const struct box_layer *layer, const char *ending,
                    char ret_name[FOLDER_NAME_SIZE])
{
    char what[ID_SIZE + 32];
    snprintf(what, sizeof(what), "workspace/%s%s", layer->name, ending);
    folder_name(id, what, ret_name);
}

int box_state_remove(const struct cloud *cloud, const char *id, struct err *err)
{
    char name[FOLDER_NAME_SIZE], layers[FOLDER_NAME_SIZE], next[FOLDER_NAME_SIZE];
    folder_name(id, STATE_NAME, name);
    folder_name(id, "workspace/", layers);
    folder_name(id, "next/", next);
    return storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, err) ||
                   storage_sweep(cloud->google, cloud->bucket, layers, NULL, NULL, err) ||
                   storage_sweep(cloud->google, cloud->bucket, next, NULL, NULL, err)
               ? -1
               : 0;
}
