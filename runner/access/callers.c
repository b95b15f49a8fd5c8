#include "runner/access/callers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "callers.json"
#define FILE_BYTES_MAX (256u << 10)
#define SAVE_EVERY_MS 60000

struct callers {
    char *path;
    struct lock lock;
    struct caller_use uses[CALLERS_MAX];
    size_t count;
    int64_t saved_ms; /* mono */
    bool changed;
};

/* --- the file ------------------------------------------------------------------------------ */

static void read_one(struct callers *callers, const struct json *item)
{
    const char *name = json_text(json_get(item, "name"));
    const char *address = json_text(json_get(item, "address"));
    struct caller_use use = {.name = ""};
    if (!name || !*name || callers->count == CALLERS_MAX ||
        json_int(json_get(item, "firstMs"), &use.first_ms) ||
        json_int(json_get(item, "lastMs"), &use.last_ms) ||
        json_int(json_get(item, "requests"), &use.requests))
        return;
    snprintf(use.name, sizeof(use.name), "%s", name);
    snprintf(use.address, sizeof(use.address), "%s", address ? address : "");
    callers->uses[callers->count++] = use;
}

static void load(struct callers *callers)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    if (file_read(callers->path, &text, &err)) {
        if (err.code != ERR_NOT_FOUND)
            log_warn("callers", "%s", err.msg);
        return;
    }
    AUTO(json) struct json *root = json_parse(text.data, text.len, &err);
    if (!root)
        log_warn("callers", "'%s' is begun anew: %s", callers->path, err.msg);
    for (const struct json *at = root ? json_first(root) : NULL; at; at = json_next(at))
        read_one(callers, at);
}

static void print_locked(struct callers *callers, struct buf *out) HOLDS(callers->lock)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < callers->count; i++) {
        const struct caller_use *use = &callers->uses[i];
        json_open_object(&w, NULL);
        json_add_text(&w, "name", use->name);
        json_add_text(&w, "address", use->address);
        json_add_int(&w, "firstMs", use->first_ms);
        json_add_int(&w, "lastMs", use->last_ms);
        json_add_int(&w, "requests", use->requests);
        json_close(&w);
    }
    json_close(&w);
}

/* Writes the file. The lock is not held meanwhile. */
static void save(struct callers *callers)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    lock_take(&callers->lock);
    print_locked(callers, &text);
    callers->changed = false;
    lock_drop(&callers->lock);
    if (buf_check(&text, "the list of callers", &err) ||
        file_replace(callers->path, text.data, text.len, 0600, &err))
        log_warn("callers", "their last use is not kept: %s", err.msg);
}

/* --- life ---------------------------------------------------------------------------------- */

struct callers *callers_new(const char *state_dir, struct err *err)
{
    struct callers *callers = calloc(1, sizeof(*callers));
    char *path = path_join(state_dir, FILE_NAME);
    if (!callers || !path) {
        err_sys(err, "callers");
        free(callers);
        free(path);
        return NULL;
    }
    lock_init(&callers->lock);
    callers->path = path;
    callers->saved_ms = clock_mono_ms();
    load(callers);
    return callers;
}

void callers_free(struct callers *callers)
{
    if (!callers)
        return;
    if (callers->changed)
        save(callers);
    lock_done(&callers->lock);
    free(callers->path);
    free(callers);
}

/* --- use ----------------------------------------------------------------------------------- */

static struct caller_use *find_locked(struct callers *callers, const char *name)
    HOLDS(callers->lock)
{
    struct caller_use *oldest = &callers->uses[0];
    for (size_t i = 0; i < callers->count; i++) {
        if (strncmp(callers->uses[i].name, name, sizeof(oldest->name) - 1) == 0)
            return &callers->uses[i];
        if (callers->uses[i].last_ms < oldest->last_ms)
            oldest = &callers->uses[i];
    }
    struct caller_use *use =
        callers->count < CALLERS_MAX ? &callers->uses[callers->count++] : oldest;
    *use = (struct caller_use){.first_ms = clock_real_ms()};
    snprintf(use->name, sizeof(use->name), "%s", name);
    return use;
}

void callers_note(struct callers *callers, const char *name, const char *address)
{
    int64_t now = clock_mono_ms();
    lock_take(&callers->lock);
    struct caller_use *use = find_locked(callers, name);
    use->last_ms = clock_real_ms();
    use->requests++;
    snprintf(use->address, sizeof(use->address), "%s", address);
    callers->changed = true;
    bool due = now - callers->saved_ms >= SAVE_EVERY_MS;
    if (due)
        callers->saved_ms = now; /* Only this thread writes it. */
    lock_drop(&callers->lock);
    if (due)
        save(callers);
}

size_t callers_copy(struct callers *callers, struct caller_use *ret_uses, size_t max)
{
    lock_take(&callers->lock);
    size_t n = callers->count < max ? callers->count : max;
    memcpy(ret_uses, callers->uses, n * sizeof(*ret_uses));
    lock_drop(&callers->lock);
    return n;
}
