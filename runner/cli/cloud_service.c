/*
 * The same service at Google: the job's image as a Cloud Run service that scales to zero. It acts
 * as the account of the runner at home, which may do what it takes: seal payloads, start executions
 * and follow them, and nothing with the API key. Its secret is in Secret Manager.
 */
#include "base/auto.h"
#include "base/id.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

#define INSTANCES_MAX 10
#define SECRET_RANDOM 24 /* bytes */

bool setup_wants_service(const struct site *site)
{
    return site->service || site->down;
}

void setup_service_name(const struct site *site, struct buf *out)
{
    buf_adds(out, site->job);
}

/* --- its secret ----------------------------------------------------------------------------- */

void setup_door_name(const struct site *site, struct buf *out)
{
    buf_addf(out, "%s-service", site->job);
}

static void door_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets/%s-service", site->project, site->job);
}

static void door_create_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets?secretId=%s-service", site->project, site->job);
}

static void door_create(const struct site *site, struct json_writer *w)
{
    (void)site;
    json_open_object(w, "replication");
    json_open_object(w, "automatic");
    json_close(w);
    json_close(w);
    thing_add_mark(w);
}

const struct thing cloud_door_thing = {.permissions = "secretmanager.secrets",
                                       .path = door_path,
                                       .create_path = door_create_path,
                                       .create = door_create};

int setup_door_value_look(struct site *site, const struct step *step, struct verdict *verdict,
                          struct err *err)
{
    AUTO(json) struct json *version = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    door_path(site, &path);
    buf_adds(&path, "/versions/latest");
    const struct ask ask = {.api = step->api,
                            .method = "GET",
                            .path = &path,
                            .permission = "secretmanager.versions.get"};
    if (site_ask(site, &ask, &version, err) && err->code != ERR_NOT_FOUND)
        return -1;
    verdict->kind = version ? VERDICT_SAME : VERDICT_CREATE;
    return 0;
}

/* Nobody sees it here; whoever may read the secret at Google does. */
int setup_door_value_act(struct site *site, const struct step *step, struct verdict *verdict,
                         struct err *err)
{
    struct json_writer w;
    unsigned char bytes[SECRET_RANDOM];
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    AUTO(buf_wipe) struct buf text = BUF_INIT(256), data = BUF_INIT(512), body = BUF_INIT(1024);
    (void)verdict;
    id_random(bytes, sizeof(bytes));
    str_add_hex(&text, bytes, sizeof(bytes));
    str_add_base64(&data, BASE64_STD, text.data, text.len);
    door_path(site, &path);
    buf_adds(&path, ":addVersion");
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_open_object(&w, "payload");
    json_add_text(&w, "data", buf_str(&data));
    json_close(&w);
    json_close(&w);
    const struct ask ask = {.api = step->api,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "secretmanager.versions.add"};
    return site_ask(site, &ask, NULL, err);
}

/* --- the service ---------------------------------------------------------------------------- */

static void services_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v2/projects/%s/locations/%s/services", site->project, site->region);
}

static void service_path(const struct site *site, struct buf *out)
{
    services_path(site, out);
    buf_addf(out, "/%s", site->job);
}

static void service_create_path(const struct site *site, struct buf *out)
{
    services_path(site, out);
    buf_addf(out, "?serviceId=%s", site->job);
}

static void add_variable(struct json_writer *w, const char *name, size_t len, const char *value)
{
    json_open_object(w, NULL);
    json_add_textn(w, "name", name, len);
    json_add_text(w, "value", value);
    json_close(w);
}

static void add_secret(struct json_writer *w, const char *name, const char *secret)
{
    json_open_object(w, NULL);
    json_add_text(w, "name", name);
    json_open_object(w, "valueSource");
    json_open_object(w, "secretKeyRef");
    json_add_text(w, "secret", secret);
    json_add_text(w, "version", "latest");
    json_close(w);
    json_close(w);
    json_close(w);
}

/* PORT is Cloud Run's to set; nothing runs here, so no jail is asked for. */
static void write_env(const struct site *site, struct json_writer *w)
{
    AUTO(buf) struct buf door = BUF_INIT(256);
    const char *const own[][2] = {
        {"CLOUD_SERVICE", "on"},
        {"OVERFLOW", "always"},
        {"BIND", "0.0.0.0"},
        {"JAIL_MIN", "none"},
        {"RUNNER_STATE_DIR", "/tmp/claude-runner"},
        {"GCP_PROJECT_ID", site->project},
        {"GCP_REGION", site->region},
        {"CLOUDRUN_JOB_NAME", site->job},
        {"GCS_LOGS_BUCKET", site->bucket},
        {"KMS_LOCATION", site->kms_location},
        {"KMS_KEY_RING", site->ring},
        {"KMS_KEY_NAME", site->key},
        {site->has_value ? "CLOUD_API_KEY_SECRET" : NULL, site->secret},
    };
    setup_door_name(site, &door);
    json_open_array(w, "env");
    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (own[i][0])
            add_variable(w, own[i][0], strlen(own[i][0]), own[i][1]);
    for (size_t i = 0; i < site->env.count; i++) {
        const char *text = site->env.items[i], *equals = strchr(text, '=');
        add_variable(w, text, (size_t)(equals - text), equals + 1);
    }
    add_secret(w, "RUNNER_SECRET", buf_str(&door));
    json_close(w);
}

static void write_container(const struct site *site, bool fresh, struct json_writer *w)
{
    static const char *const command[] = {"tini", "--", "claude-runner", "serve"};
    json_open_array(w, "containers");
    json_open_object(w, NULL);
    if (fresh || site->image_given || site->image_made)
        json_add_text(w, "image", site->image);
    json_open_array(w, "command");
    for (size_t i = 0; i < COUNT_OF(command); i++)
        json_add_text(w, NULL, command[i]);
    json_close(w);
    json_open_object(w, "resources");
    json_add_bool(w, "cpuIdle", false); /* it follows executions between requests */
    json_open_object(w, "limits");
    json_add_text(w, "cpu", "1");
    json_add_text(w, "memory", "1Gi");
    json_close(w);
    json_close(w);
    write_env(site, w);
    json_close(w);
    json_close(w);
}

static void service_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    json_add_text(w, "ingress", "INGRESS_TRAFFIC_ALL");
    json_open_object(w, "template");
    json_open_object(w, "scaling");
    json_add_int(w, "minInstanceCount", 0);
    if (!found)
        json_add_int(w, "maxInstanceCount", INSTANCES_MAX);
    json_close(w);
    json_add_text(w, "serviceAccount", site->home_account);
    json_add_text(w, "executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2");
    json_add_text(w, "timeout", "3600s");
    write_container(site, !found, w);
    json_close(w);
}

static void service_create(const struct site *site, struct json_writer *w)
{
    thing_add_mark(w);
    service_wish(site, NULL, w);
}

static void no_query(const struct json *found, struct buf *out)
{
    (void)found;
    (void)out;
}

/* Google replaces all that may be written. */
static void service_patch(const struct site *site, const struct json *found,
                          const struct json *wish, struct json_writer *w)
{
    static const char *const kept[] = {"labels", "annotations", "launchStage"};
    (void)site;
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (json_get(found, kept[i]))
            match_merge(w, kept[i], json_get(found, kept[i]), NULL);
    json_add_text(w, "ingress", "INGRESS_TRAFFIC_ALL");
    match_merge(w, "template", json_get(found, "template"), json_get(wish, "template"));
}

const struct thing cloud_service_thing = {.permissions = "run.services",
                                          .path = service_path,
                                          .create_path = service_create_path,
                                          .create = service_create,
                                          .wish = service_wish,
                                          .patch_query = no_query,
                                          .patch = service_patch};

void setup_service_print(struct site *site)
{
    struct err ignored;
    AUTO(json) struct json *found = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    service_path(site, &path);
    const struct ask ask = {.api = GOOGLE_RUN, .method = "GET", .path = &path};
    if (!site->service || site_ask(site, &ask, &found, &ignored))
        return;
    const char *uri = json_text(json_get(found, "uri"));
    printf("\nThe service: %s\n"
           "Its RUNNER_SECRET: gcloud secrets versions access latest --secret=%s-service "
           "--project=%s\n%s",
           uri ? uri : "(Cloud Run has not named its address yet)", site->job, site->project,
           site->public ? ""
                        : "Callers need roles/run.invoker as well (or `setup --service --public`: "
                          "then the secret is the door).\n");
}
