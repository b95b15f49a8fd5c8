/* Steps that are not plain things: services, project, bucket, keys, the secret's value, the
 * role. */
#include "base/auto.h"
#include "base/str.h"
#include "google/secret.h"
#include "google/storage.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

/* --- services ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool network_only, impersonation_only, build_only;
} services[] = {
    {"run.googleapis.com", false, false, false},
    {"storage.googleapis.com", false, false, false},
    {"cloudkms.googleapis.com", false, false, false},
    {"secretmanager.googleapis.com", false, false, false},
    {"iam.googleapis.com", false, false, false},
    {"artifactregistry.googleapis.com", false, false, false},
    {"cloudresourcemanager.googleapis.com", false, false, false},
    {"cloudbilling.googleapis.com", false, false, false},
    {"cloudbuild.googleapis.com", false, false, true},
    {"logging.googleapis.com", false, false, true},
    {"iamcredentials.googleapis.com", false, true, false},
    {"compute.googleapis.com", true, false, false},
};

static bool wants_service(const struct site *site, size_t i)
{
    return (!services[i].network_only || site->network) &&
           (!services[i].impersonation_only || site->impersonator) &&
           (!services[i].build_only || site_builds(site));
}

static int take_enabled(const struct json *service, void *on)
{
    const char *state = json_text(json_get(service, "state"));
    const char *name = json_text(json_get(service, "name"));
    const char *slash = name ? strrchr(name, '/') : NULL;
    if (slash && state && strcmp(state, "ENABLED") == 0)
        strlist_add(on, slash + 1);
    return 0;
}

/* Fills site->off with all disabled services, wanted or not; the verdict names those to enable. */
int services_look(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    AUTO(strlist) struct strlist on = STRLIST_INIT;
    buf_addf(&path, "/v1/projects/%s/services?filter=state:ENABLED&pageSize=200", site->project);
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "serviceusage.services.list"};
    if (site_list(site, &ask, "services", take_enabled, &on, err))
        return -1;
    if (on.failed)
        return err_set(err, ERR_TOO_LARGE, "more services than can be looked at");
    strlist_done(&site->off);
    for (size_t i = 0; i < COUNT_OF(services); i++)
        if (!strlist_has(&on, services[i].name)) {
            strlist_add(&site->off, services[i].name);
            if (wants_service(site, i))
                strlist_add(&verdict->names, services[i].name);
        }
    verdict->kind = verdict->names.count > 0 ? VERDICT_CHANGE : VERDICT_SAME;
    return 0;
}

int services_act(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    buf_addf(&path, "/v1/projects/%s/services:batchEnable", site->project);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_texts(&w, "serviceIds", &verdict->names);
    json_close(&w);
    const struct ask ask = {.api = step->api,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "serviceusage.services.enable"};
    if (site_ask(site, &ask, NULL, err))
        return -1;
    strlist_done(&site->off);
    site->just_enabled = true;
    return 0;
}

/* --- project -------------------------------------------------------------------------------- */

int project_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_addf(&path, "/v3/projects/%s", site->project);
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "resourcemanager.projects.get"};
    if (site_ask(site, &ask, &verdict->found, err))
        return -1;
    const char *state = json_text(json_get(verdict->found, "state"));
    const char *name = json_text(json_get(verdict->found, "name"));
    if (state && strcmp(state, "ACTIVE") != 0)
        return err_set(err, ERR_CONFLICT, "the project is not active: %s", state);
    if (name && str_starts(name, "projects/"))
        snprintf(site->number, sizeof(site->number), "%s", name + strlen("projects/"));
    return 0;
}

/* --- billing -------------------------------------------------------------------------------- */

int billing_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err)
{
    bool on = false;
    AUTO(json) struct json *info = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_addf(&path, "/v1/projects/%s/billingInfo", site->project);
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "resourcemanager.projects.get"};
    if (site_ask(site, &ask, &info, err))
        return -1;
    json_bool(json_get(info, "billingEnabled"), &on);
    verdict->kind = on ? VERDICT_SAME : VERDICT_CHANGE;
    return 0;
}

/* A person switches it on; whoever looks again sees it. */
int billing_act(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err)
{
    (void)site;
    (void)step;
    (void)verdict;
    return err_set(err, ERR_CONFIG, "the project has no billing account");
}

/* --- bucket --------------------------------------------------------------------------------- */

/* Checks who owns the bucket: bucket names are global, so one with this name may belong to a
 * stranger, who could read what is stored there. */
static int check_owner(const struct site *site, const struct json *found, struct err *err)
{
    const char *number = json_text(json_get(found, "projectNumber"));
    if (!found || !number || !*site->number || strcmp(number, site->number) == 0)
        return 0;
    return err_set(err, ERR_CONFLICT, "belongs to another project (%.32s): take another --bucket",
                   number);
}

int bucket_look(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err)
{
    return thing_look(site, step, verdict, err) ? -1 : check_owner(site, verdict->found, err);
}

static int find_foreign(const struct storage_object *object, void *arg)
{
    struct buf *foreign = arg;
    if (str_starts(object->name, CLOUD_SESSIONS) || str_starts(object->name, CLOUD_INPUTS) ||
        str_starts(object->name, CLOUD_BUILDS))
        return 0;
    buf_adds(foreign, object->name);
    return 1;
}

int bucket_survey(struct site *site, const struct step *step, struct verdict *verdict,
                  struct buf *what, struct err *err)
{
    const struct storage_list all = {0};
    AUTO(buf) struct buf foreign = BUF_INIT(4096);
    if (thing_survey(site, step, verdict, what, err))
        return -1;
    if (what->len == 0)
        return 0;
    if (storage_list(site->google, site->bucket, &all, find_foreign, &foreign, err))
        return err->code == ERR_FORBIDDEN
                   ? err_wrap(err, "the permission storage.objects.list is missing")
                   : -1;
    buf_adds(what, " with all that is in it");
    if (foreign.len > 0 && !site->force)
        return err_set(err, ERR_CONFLICT,
                       "holds what no task has put there ('%.80s'): move it away, or --force",
                       buf_str(&foreign));
    return 0;
}

/* False for objects that appeared after the survey: they stay, and so does the bucket. */
static bool may_go(const char *name, void *arg)
{
    const struct site *site = arg;
    return site->force || str_starts(name, CLOUD_SESSIONS) || str_starts(name, CLOUD_INPUTS) ||
           str_starts(name, CLOUD_BUILDS);
}

int bucket_undo(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err)
{
    if (storage_sweep(site->google, site->bucket, NULL, may_go, site, err) == 0)
        return thing_undo(site, step, verdict, err);
    if (err->code == ERR_NOT_FOUND)
        return 0;
    return err->code == ERR_FORBIDDEN
               ? err_wrap(err, "the permission storage.objects.delete is missing")
               : -1;
}

/* --- keys ----------------------------------------------------------------------------------- */

static void versions_path(const struct site *site, struct buf *out)
{
    buf_adds(out, "/v1/");
    site_add_key(site, out);
    buf_adds(out, "/cryptoKeyVersions?pageSize=100");
}

static int take_version(const struct json *item, void *arg)
{
    const char *name = json_text(json_get(item, "name"));
    const char *state = json_text(json_get(item, "state"));
    if (name && state && (strcmp(state, "ENABLED") == 0 || strcmp(state, "DISABLED") == 0))
        strlist_add(arg, name);
    return 0;
}

int keys_survey(struct site *site, const struct step *step, struct verdict *verdict,
                struct buf *what, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), thing = BUF_INIT(256);
    versions_path(site, &path);
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "cloudkms.cryptoKeyVersions.list"};
    if (thing_survey(site, step, verdict, &thing, err))
        return -1;
    if (thing.len == 0)
        return 0;
    if (!site->destroy_key) {
        buf_adds(&verdict->note,
                 "stays, as Google deletes neither keys nor key rings; --destroy-key "
                 "destroys what it encrypts with");
        return 0;
    }
    if (site_list(site, &ask, "cryptoKeyVersions", take_version, &verdict->names, err))
        return -1;
    if (verdict->names.count > 0)
        buf_addf(what, "destroyed: %zu version%s, after the time that Google waits (30 days)",
                 verdict->names.count, verdict->names.count == 1 ? "" : "s");
    return 0;
}

int keys_undo(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    for (size_t i = 0; i < verdict->names.count; i++) {
        AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(16);
        buf_adds(&path, "/v1/");
        str_add_url(&path, verdict->names.items[i], "/");
        buf_adds(&path, ":destroy");
        buf_adds(&body, "{}");
        const struct ask ask = {.api = step->api,
                                .method = "POST",
                                .path = &path,
                                .body = &body,
                                .permission = "cloudkms.cryptoKeyVersions.destroy"};
        if (site_ask(site, &ask, NULL, err))
            return -1;
    }
    return 0;
}

/* --- the secret's value --------------------------------------------------------------------- */

static int has_version(struct site *site, const struct step *step, bool *ret_has, struct err *err)
{
    AUTO(json) struct json *version = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_addf(&path, "/v1/projects/%s/secrets/%s/versions/latest", site->project, site->secret);
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "secretmanager.versions.get"};
    if (site_ask(site, &ask, &version, err) && err->code != ERR_NOT_FOUND)
        return -1;
    const char *state = json_text(json_get(version, "state"));
    *ret_has = state && strcmp(state, "ENABLED") == 0;
    return 0;
}

/* True when the secret has this value. A caller who may not read it adds a version, which may be
 * the same. */
static bool is_current(struct site *site)
{
    struct err ignored;
    char name[512];
    AUTO(buf_wipe) struct buf now = BUF_INIT(SECRET_BYTES_MAX);
    snprintf(name, sizeof(name), "projects/%s/secrets/%s", site->project, site->secret);
    return google_secret(site->google, name, &now, NULL, &ignored) == 0 &&
           now.len == site->value.len && memcmp(now.data, site->value.data, now.len) == 0;
}

int value_look(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    if (has_version(site, step, &site->has_value, err) ||
        (!site->has_value && site->value.len == 0 && site_ask_value(site, err)))
        return -1;
    if (site->value.len == 0 && !site->has_value)
        buf_adds(&verdict->note, "it has none: requests have to bring their own key until "
                                 "`claude-runner cloud setup <FILE` gives it one");
    if (site->value.len == 0)
        return 0;
    verdict->kind = !site->has_value   ? VERDICT_CREATE
                    : is_current(site) ? VERDICT_SAME
                                       : VERDICT_CHANGE;
    site->has_value = true;
    return 0;
}

int value_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    char crc[32];
    struct json_writer w;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    AUTO(buf_wipe) struct buf body = BUF_INIT(SECRET_BYTES_MAX * 2);
    AUTO(buf_wipe) struct buf data = BUF_INIT(SECRET_BYTES_MAX * 2);
    (void)verdict;
    buf_addf(&path, "/v1/projects/%s/secrets/%s:addVersion", site->project, site->secret);
    str_add_base64(&data, BASE64_STD, site->value.data, site->value.len);
    snprintf(crc, sizeof(crc), "%u", google_crc32c(0, site->value.data, site->value.len));
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_open_object(&w, "payload");
    json_add_text(&w, "data", buf_str(&data));
    json_add_text(&w, "dataCrc32c", crc);
    json_close(&w);
    json_close(&w);
    const struct ask ask = {.api = step->api,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "secretmanager.versions.add"};
    return site_ask(site, &ask, NULL, err);
}

/* --- role ----------------------------------------------------------------------------------- */

static bool is_deleted(const struct json *role)
{
    bool deleted = false;
    json_bool(json_get(role, "deleted"), &deleted);
    return deleted;
}

/* A deleted role can be restored for a week; its name stays reserved for longer. */
int role_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(16);
    step->thing->path(site, &path);
    buf_adds(&path, ":undelete");
    buf_adds(&body, "{}");
    const struct ask ask = {.api = step->api,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "iam.roles.undelete"};
    if (is_deleted(verdict->found) && site_ask(site, &ask, NULL, err))
        return -1;
    if (verdict->kind == VERDICT_CHANGE && verdict->names.count == 1 &&
        strcmp(verdict->names.items[0], "deleted") == 0)
        return 0;
    return thing_act(site, step, verdict, err);
}

int role_survey(struct site *site, const struct step *step, struct verdict *verdict,
                struct buf *what, struct err *err)
{
    if (thing_survey(site, step, verdict, what, err))
        return -1;
    if (is_deleted(verdict->found))
        buf_clear(what);
    return 0;
}
