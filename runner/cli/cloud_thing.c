/* Steps whose thing is one document: it exists or not, with the wanted content or not. */
#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

void verdict_done(struct verdict *verdict)
{
    strlist_done(&verdict->names);
    buf_done(&verdict->note);
    json_free(verdict->found);
    *verdict = (struct verdict){0};
}

bool thing_is_ours(const struct json *found)
{
    const char *label = json_text(json_get(json_get(found, "labels"), CLOUD_MARK_LABEL));
    const char *words = json_text(json_get(found, "description"));
    return (label && strcmp(label, CLOUD_MARK_VALUE) == 0) ||
           (words && str_starts(words, CLOUD_MARK_WORDS));
}

void thing_add_mark(struct json_writer *w)
{
    json_open_object(w, "labels");
    json_add_text(w, CLOUD_MARK_LABEL, CLOUD_MARK_VALUE);
    json_close(w);
}

/* Reads the document. Returns 0 with *ret_found, which is NULL when there is none. */
static int get(struct site *site, const struct step *step, struct json **ret_found, struct err *err)
{
    char permission[80];
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    snprintf(permission, sizeof(permission), "%s.get", step->thing->permissions);
    step->thing->path(site, &path);
    const struct ask ask = {
        .api = step->api, .method = "GET", .path = &path, .permission = permission};
    *ret_found = NULL;
    return site_ask(site, &ask, ret_found, err) == 0 || err->code == ERR_NOT_FOUND ? 0 : -1;
}

/* The wish as a tree, which the caller frees; `text` holds its text. */
static struct json *make_wish(const struct site *site, const struct step *step,
                              const struct json *found, struct buf *text, struct err *err)
{
    struct json_writer w;
    json_write(&w, text);
    json_open_object(&w, NULL);
    if (step->thing->wish)
        step->thing->wish(site, found, &w);
    json_close(&w);
    return buf_check(text, step->what, err) ? NULL : json_parse(buf_str(text), text->len, err);
}

int thing_look(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    REQUIRE(step->thing);
    AUTO(buf) struct buf text = BUF_INIT(CLOUD_BODY_MAX);
    if (get(site, step, &verdict->found, err))
        return -1;
    if (!verdict->found) {
        verdict->kind = VERDICT_CREATE;
        return 0;
    }
    AUTO(json) struct json *wish = make_wish(site, step, verdict->found, &text, err);
    if (!wish)
        return -1;
    match_differences(wish, verdict->found, &verdict->names);
    if (verdict->names.count == 0)
        return 0;
    if (!step->thing->patch_query)
        return err_set(err, ERR_CONFIG,
                       "its %s is not what it has to be, and cannot be changed: %s",
                       verdict->names.items[0], step->thing->cannot_change);
    verdict->kind = VERDICT_CHANGE;
    return 0;
}

static int create(struct site *site, const struct step *step, struct err *err)
{
    char permission[80];
    struct json_writer w;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    snprintf(permission, sizeof(permission), "%s.create", step->thing->permissions);
    step->thing->create_path(site, &path);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    if (step->thing->create)
        step->thing->create(site, &w);
    json_close(&w);
    const struct ask ask = {
        .api = step->api, .method = "POST", .path = &path, .body = &body, .permission = permission};
    return site_ask(site, &ask, NULL, err);
}

static int change(struct site *site, const struct step *step, const struct json *found,
                  struct err *err)
{
    char permission[80];
    struct json_writer w;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    AUTO(buf) struct buf text = BUF_INIT(CLOUD_BODY_MAX);
    AUTO(json) struct json *wish = make_wish(site, step, found, &text, err);
    if (!wish)
        return -1;
    snprintf(permission, sizeof(permission), "%s.update", step->thing->permissions);
    step->thing->path(site, &path);
    step->thing->patch_query(found, &path);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    if (step->thing->patch)
        step->thing->patch(site, found, wish, &w);
    else
        for (const struct json *at = json_first(wish); at; at = json_next(at))
            match_merge(&w, json_name(at), at, NULL);
    json_close(&w);
    const struct ask ask = {.api = step->api,
                            .method = "PATCH",
                            .path = &path,
                            .body = &body,
                            .permission = permission};
    return site_ask(site, &ask, NULL, err);
}

int thing_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    return verdict->kind == VERDICT_CREATE ? create(site, step, err)
                                           : change(site, step, verdict->found, err);
}

/* --- down ----------------------------------------------------------------------------------- */

int thing_survey(struct site *site, const struct step *step, struct verdict *verdict,
                 struct buf *what, struct err *err)
{
    if (get(site, step, &verdict->found, err))
        return -1;
    if (!verdict->found)
        return 0;
    if (thing_is_ours(verdict->found))
        buf_adds(what, "deleted");
    else
        buf_adds(&verdict->note, "was not made by set-up: it stays");
    return 0;
}

int thing_undo(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    char permission[80];
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    (void)verdict;
    snprintf(permission, sizeof(permission), "%s.delete", step->thing->permissions);
    step->thing->path(site, &path);
    const struct ask ask = {
        .api = step->api, .method = "DELETE", .path = &path, .permission = permission};
    return site_ask(site, &ask, NULL, err) == 0 || err->code == ERR_NOT_FOUND ? 0 : -1;
}
