/* Which project: the only one there is, the one that the person picks, or a new one. */
#include "base/auto.h"
#include "base/str.h"
#include "runner/cli/cloud.h"
#include "runner/client/terminal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LISTED_MAX 50
#define CREATE_URL "https://console.cloud.google.com/projectcreate"

struct found {
    struct strlist ids;
    const char *wanted; /* or NULL: any */
};

static int take(const struct json *item, void *arg)
{
    struct found *found = arg;
    const char *id = json_text(json_get(item, "projectId"));
    const char *state = json_text(json_get(item, "state"));
    if (!id || (state && strcmp(state, "ACTIVE") != 0) ||
        (found->wanted && strcmp(id, found->wanted) != 0))
        return 0;
    strlist_add(&found->ids, id);
    return found->ids.count >= LISTED_MAX;
}

/* Those that the caller may see. */
static int search(struct site *site, struct found *found, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_adds(&path, "/v3/projects:search?pageSize=100");
    if (found->wanted) {
        buf_adds(&path, "&query=id%3A");
        google_add_escaped(&path, found->wanted);
    }
    const struct ask ask = {.api = GOOGLE_PROJECTS,
                            .method = "GET",
                            .path = &path,
                            .permission = "resourcemanager.projects.get"};
    return site_list(site, &ask, "projects", take, found, err);
}

static int choose(struct site *site, const char *id, struct err *err)
{
    return str_replace(&site->project, id) ? err_sys(err, "the project") : 0;
}

/* After an interruption the project may be there already: then it is gone on with. */
static int make(struct site *site, struct err *err)
{
    struct json_writer w;
    const char *id = site->create_project;
    struct found found = {.ids = STRLIST_INIT, .wanted = id};
    AUTO(buf) struct buf path = BUF_INIT(64), body = BUF_INIT(1024);
    int rc = search(site, &found, err);
    bool there = found.ids.count > 0;
    strlist_done(&found.ids);
    if (rc || there || site->dry_run) {
        printf("project %s: %s\n", id, there ? "there" : "would be created");
        return rc ? -1 : choose(site, id, err);
    }
    buf_adds(&path, "/v3/projects");
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "projectId", id);
    json_add_text(&w, "displayName", "Claude Runner");
    json_close(&w);
    const struct ask ask = {.api = GOOGLE_PROJECTS,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "resourcemanager.projects.create",
                            .once = true};
    if (site_ask(site, &ask, NULL, err))
        return err->code == ERR_CONFLICT
                   ? err_wrap(err, "project %s: the name is taken, all over Google: another one",
                              id)
                   : err_wrap(err, "project %s", id);
    printf("project %s: created\n", id);
    return choose(site, id, err);
}

/* One of several, by its number or its name; or a new one. */
static int ask_which(struct site *site, const struct found *found, struct err *err)
{
    char line[128] = "";
    int64_t number = 0;
    for (size_t i = 0; i < found->ids.count; i++)
        fprintf(stderr, "%3zu  %s\n", i + 1, found->ids.items[i]);
    fputs(found->ids.count ? "Which project (a number), or the id of a new one: "
                           : "There is no project yet. The id of a new one (6 to 30 letters, "
                             "digits, -): ",
          stderr);
    if (terminal_read_line(line, sizeof(line), false, NULL) || !*line)
        return err_set(err, ERR_CONFIG, "no project: --project ID, or --create-project ID");
    if (str_to_int(line, 1, (int64_t)found->ids.count, &number) == 0)
        return choose(site, found->ids.items[number - 1], err);
    if (strlist_has(&found->ids, line))
        return choose(site, line, err);
    if (str_replace(&site->create_project, line))
        return err_sys(err, "the project");
    return make(site, err);
}

int site_find_project(struct site *site, struct err *err)
{
    struct found found = {.ids = STRLIST_INIT};
    AUTO(buf) struct buf names = BUF_INIT(8192);
    if (site->create_project)
        return make(site, err);
    if (search(site, &found, err)) {
        strlist_done(&found.ids);
        return err_wrap(err, "which project? --project ID (or GCP_PROJECT_ID)");
    }
    int rc = -1;
    if (found.ids.count == 1) {
        fprintf(stderr, "project %s: the only one there is\n", found.ids.items[0]);
        rc = choose(site, found.ids.items[0], err);
    } else if (isatty(STDIN_FILENO)) {
        rc = ask_which(site, &found, err);
    } else if (found.ids.count == 0) {
        err_set(err, ERR_CONFIG,
                "which project? There is none: --create-project ID, or " CREATE_URL);
    } else {
        strlist_join(&found.ids, ", ", &names);
        err_set(err, ERR_CONFIG, "which project? --project ID, one of: %.150s", buf_str(&names));
    }
    strlist_done(&found.ids);
    return rc;
}
