/*
 * The job's image, built at Google out of the sources that the program carries (runner/source):
 * nobody needs Docker, and an image for linux/amd64 comes out whatever machine this is.
 *
 *     sources ─▶ bucket: builds/TAG.tgz ─▶ Cloud Build ─▶ repository: claude-runner:TAG ─▶ digest
 * ─▶ job
 *
 * TAG names the sources' bytes. So an image that is there is not built again, and a build that an
 * earlier run has begun is waited for.
 */
#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/cli/cloud.h"
#include "runner/source/source.h"

#include <stdio.h>
#include <string.h>

#define BUILD_TIMEOUT "3600s"
#define BUILD_MS 4200000 /* it may have to wait for a place before */
#define GRANTS_MS 300000 /* until what was granted a moment ago holds at Cloud Build */
#define LOOK_MIN_MS 200
#define LOOK_MAX_MS 5000
#define LINES 30 /* of its log, when it failed */
#define LOG_BYTES_MAX 65536

#define PACKAGE "claude-runner"

struct build {
    char id[64];
    char status[32];
    char digest[80];
    char why[400]; /* it failed */
};

/* --- names ---------------------------------------------------------------------------------- */

static void add_image(const struct site *site, const char *suffix, struct buf *out)
{
    buf_addf(out, "%s-docker.pkg.dev/%s/%s/" PACKAGE "%s", site->region, site->project,
             site->repository, suffix);
}

static int set_image(struct site *site, const char *digest, struct err *err)
{
    AUTO(buf) struct buf image = BUF_INIT(1024);
    add_image(site, "@", &image);
    buf_adds(&image, digest);
    return buf_check(&image, "an image's name", err)    ? -1
           : str_replace(&site->image, buf_str(&image)) ? err_sys(err, "an image's name")
                                                        : 0;
}

static void builds_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/builds", site->project);
}

void setup_build_name(const struct site *site, struct buf *out)
{
    char tag[SOURCE_TAG_SIZE];
    (void)site;
    sources_tag(tag);
    buf_addf(out, PACKAGE ":%s", tag);
}

/* --- is it there ---------------------------------------------------------------------------- */

int setup_build_look(struct site *site, const struct step *step, struct verdict *verdict,
                     struct err *err)
{
    char tag[SOURCE_TAG_SIZE];
    AUTO(json) struct json *found = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    sources_tag(tag);
    site->image_made = true;
    buf_addf(&path, "/v1/projects/%s/locations/%s/repositories/%s/packages/" PACKAGE "/tags/%s",
             site->project, site->region, site->repository, tag);
    const struct ask ask = {.api = GOOGLE_ARTIFACTS,
                            .method = "GET",
                            .path = &path,
                            .permission = "artifactregistry.tags.get"};
    (void)step;
    if (site_is_off(site, GOOGLE_ARTIFACTS) || site_ask(site, &ask, &found, err)) {
        verdict->kind = VERDICT_CREATE;
        return site_is_off(site, GOOGLE_ARTIFACTS) || err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    const char *version = json_text(json_get(found, "version"));
    const char *digest = version ? strrchr(version, '/') : NULL;
    if (!digest || !str_starts(digest, "/sha256:"))
        return err_set(err, ERR_UPSTREAM, "Artifact Registry: the tag names no version");
    return set_image(site, digest + 1, err);
}

/* --- the build ------------------------------------------------------------------------------ */

/* The sources in the bucket: *ret_generation is theirs. */
static int upload(struct site *site, const char *name, int64_t *ret_generation, struct err *err)
{
    size_t len;
    const char *archive = sources_archive(&len);
    AUTO(storage_object) struct storage_object object = {0};
    const struct storage_at at = {site->bucket, name, "application/gzip", STORAGE_ABSENT};
    if (storage_put(site->google, &at, archive, len, &object, err) &&
        (err->code != ERR_MISMATCH || storage_stat(site->google, site->bucket, name, &object, err)))
        return err->code == ERR_FORBIDDEN
                   ? err_wrap(err, "the permission storage.objects.create is missing")
                   : -1;
    *ret_generation = object.generation;
    return 0;
}

static void add_texts(struct json_writer *w, const char *name, const char *const *texts)
{
    json_open_array(w, name);
    for (; *texts; texts++)
        json_add_text(w, NULL, *texts);
    json_close(w);
}

static void write_source(const struct site *site, const char *object, int64_t generation,
                         struct json_writer *w)
{
    char number[32];
    snprintf(number, sizeof(number), "%lld", (long long)generation);
    json_open_object(w, "source");
    json_open_object(w, "storageSource");
    json_add_text(w, "bucket", site->bucket);
    json_add_text(w, "object", object);
    json_add_text(w, "generation", number);
    json_close(w);
    json_close(w);
}

static void write_build(const struct site *site, const char *tag, const char *object,
                        int64_t generation, struct json_writer *w)
{
    AUTO(buf) struct buf image = BUF_INIT(1024), account = BUF_INIT(1024);
    add_image(site, ":", &image);
    buf_adds(&image, tag);
    buf_addf(&account, "projects/%s/serviceAccounts/%s", site->project, site->build_account);
    const char *const images[] = {buf_str(&image), NULL}, *const tags[] = {PACKAGE, tag, NULL};
    const char *const args[] = {"build", "--platform", "linux/amd64", "--target",          "job",
                                "-t",    images[0],    "-f",          "runner/Dockerfile", ".",
                                NULL};
    static const char *const env[] = {"DOCKER_BUILDKIT=1", NULL};
    json_open_object(w, NULL);
    write_source(site, object, generation, w);
    json_open_array(w, "steps");
    json_open_object(w, NULL);
    json_add_text(w, "name", "gcr.io/cloud-builders/docker");
    add_texts(w, "args", args);
    add_texts(w, "env", env);
    json_close(w);
    json_close(w);
    add_texts(w, "images", images);
    add_texts(w, "tags", tags);
    json_add_text(w, "timeout", BUILD_TIMEOUT);
    json_add_text(w, "serviceAccount", buf_str(&account));
    json_open_object(w, "options");
    json_add_text(w, "logging", "CLOUD_LOGGING_ONLY");
    json_close(w);
    json_close(w);
}

static int begin(struct site *site, const char *tag, struct build *build, struct err *err)
{
    struct json_writer w;
    char object[64];
    int64_t generation = 0;
    AUTO(json) struct json *operation = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    snprintf(object, sizeof(object), CLOUD_BUILDS "%s.tgz", tag);
    if (upload(site, object, &generation, err))
        return -1;
    builds_path(site, &path);
    json_write(&w, &body);
    write_build(site, tag, object, generation, &w);
    const struct ask ask = {.api = GOOGLE_BUILD,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "cloudbuild.builds.create",
                            .once = true,
                            .leave = true};
    if (site_ask(site, &ask, &operation, err))
        return -1;
    const char *id = json_text(json_get(json_get(json_get(operation, "metadata"), "build"), "id"));
    if (!id || strlen(id) >= sizeof(build->id))
        return err_set(err, ERR_UPSTREAM, "Cloud Build: the answer names no build");
    snprintf(build->id, sizeof(build->id), "%s", id);
    return 0;
}

static bool is_under_way(const char *status)
{
    return strcmp(status, "PENDING") == 0 || strcmp(status, "QUEUED") == 0 ||
           strcmp(status, "WORKING") == 0 || strcmp(status, "STATUS_UNKNOWN") == 0;
}

static int take_running(const struct json *item, void *arg)
{
    struct build *build = arg;
    const char *id = json_text(json_get(item, "id"));
    const char *status = json_text(json_get(item, "status"));
    if (!id || !status || !is_under_way(status) || strlen(id) >= sizeof(build->id))
        return 0;
    snprintf(build->id, sizeof(build->id), "%s", id);
    return 1;
}

/* One of an earlier run, or of somebody else's, that is under way. */
static int find_running(struct site *site, const char *tag, struct build *build, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    builds_path(site, &path);
    buf_addf(&path, "?pageSize=50&filter=tags%%3D%%22%s%%22", tag);
    const struct ask ask = {.api = GOOGLE_BUILD,
                            .method = "GET",
                            .path = &path,
                            .permission = "cloudbuild.builds.list"};
    return site_list(site, &ask, "builds", take_running, build, err);
}

static void take_end(const struct json *found, struct build *build)
{
    const struct json *results = json_get(json_get(found, "results"), "images");
    const char *digest = json_text(json_get(json_first(results), "digest"));
    const char *why = json_text(json_get(json_get(found, "failureInfo"), "detail"));
    if (!why)
        why = json_text(json_get(found, "statusDetail"));
    snprintf(build->digest, sizeof(build->digest), "%s", digest ? digest : "");
    snprintf(build->why, sizeof(build->why), "%s", why ? why : "");
}

static int await(struct site *site, struct build *build, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    const int64_t begun = clock_mono_ms();
    builds_path(site, &path);
    buf_addc(&path, '/');
    google_add_escaped(&path, build->id);
    const struct ask ask = {
        .api = GOOGLE_BUILD, .method = "GET", .path = &path, .permission = "cloudbuild.builds.get"};
    fprintf(stderr, "Cloud Build makes the image (build %s): about ten minutes\n", build->id);
    for (int64_t pause = LOOK_MIN_MS; clock_mono_ms() - begun < BUILD_MS;) {
        AUTO(json) struct json *found = NULL;
        if (site_ask(site, &ask, &found, err))
            return -1;
        const char *status = json_text(json_get(found, "status"));
        snprintf(build->status, sizeof(build->status), "%s", status ? status : "STATUS_UNKNOWN");
        if (!is_under_way(build->status)) {
            take_end(found, build);
            return 0;
        }
        site_pause(pause);
        pause = pause < LOOK_MAX_MS / 2 ? pause * 2 : LOOK_MAX_MS;
    }
    return err_set(err, ERR_TIMEOUT, "build %s does not end; run this again later", build->id);
}

/* --- a build that failed -------------------------------------------------------------------- */

/* The last lines of its log, oldest first. Who may not read it is told where it is. */
static void print_log(struct site *site, const struct build *build)
{
    struct err err;
    struct json_writer w;
    const struct json *lines[LINES];
    size_t count = 0;
    AUTO(json) struct json *page = NULL;
    AUTO(buf) struct buf path = BUF_INIT(64), body = BUF_INIT(CLOUD_BODY_MAX);
    AUTO(buf) struct buf filter = BUF_INIT(512), project = BUF_INIT(512);
    buf_adds(&path, "/v2/entries:list");
    buf_addf(&filter, "resource.type=\"build\" AND resource.labels.build_id=\"%s\"", build->id);
    buf_addf(&project, "projects/%s", site->project);
    const char *const names[] = {buf_str(&project), NULL};
    json_write(&w, &body);
    json_open_object(&w, NULL);
    add_texts(&w, "resourceNames", names);
    json_add_text(&w, "filter", buf_str(&filter));
    json_add_text(&w, "orderBy", "timestamp desc");
    json_add_int(&w, "pageSize", LINES);
    json_close(&w);
    const struct ask ask = {.api = GOOGLE_LOGGING,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "logging.logEntries.list"};
    if (site_ask(site, &ask, &page, &err)) {
        fprintf(stderr, "its log cannot be read (%s)\n", err.msg);
        return;
    }
    const struct json *entries = json_get(page, "entries");
    for (const struct json *one = json_first(entries); one && count < LINES; one = json_next(one))
        if (json_text(json_get(one, "textPayload")))
            lines[count++] = json_get(one, "textPayload");
    while (count > 0)
        fprintf(stderr, "  %.500s\n", json_text(lines[--count]));
}

/* What was granted a moment ago is not known everywhere yet. */
static bool is_missing_grant(const struct build *build)
{
    return strstr(build->why, "does not have") || strcasestr(build->why, "denied") ||
           strcasestr(build->why, "permission");
}

/* The same, of the call that starts one: its account is new, or we may not act as it yet. */
static bool is_new_account(const struct err *err)
{
    return strcasestr(err->msg, "act as") || strcasestr(err->msg, "actAs") ||
           err->code == ERR_NOT_FOUND;
}

static int build_once(struct site *site, const char *tag, struct build *build, struct err *err)
{
    if (find_running(site, tag, build, err) || (!build->id[0] && begin(site, tag, build, err)))
        return -1;
    return await(site, build, err);
}

int setup_build_act(struct site *site, const struct step *step, struct verdict *verdict,
                    struct err *err)
{
    char tag[SOURCE_TAG_SIZE];
    const int64_t end = clock_mono_ms() + GRANTS_MS;
    int unsure = 0;
    (void)step;
    (void)verdict;
    sources_tag(tag);
    for (;;) {
        struct build build = {.id = ""};
        bool failed = build_once(site, tag, &build, err) != 0;
        if (!failed && strcmp(build.status, "SUCCESS") == 0 && str_starts(build.digest, "sha256:"))
            return set_image(site, build.digest, err);
        bool waits = failed ? is_new_account(err) : is_missing_grant(&build);
        if (failed && (err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT) && unsure++ < 3) {
            site_pause(LOOK_MIN_MS); /* the answer was lost: it may be under way */
            continue;
        }
        if (!waits || !site->just_granted || clock_mono_ms() > end) {
            if (!failed)
                print_log(site, &build);
            return failed ? -1
                          : err_set(err, ERR_UPSTREAM, "Cloud Build: %s%s%s (build %s)",
                                    build.status, build.why[0] ? ": " : "", build.why, build.id);
        }
        fputs("What was granted a moment ago is not known at Cloud Build yet: again\n", stderr);
        site_pause(LOOK_MAX_MS);
    }
}
