/* The Cloud Run job, as it must be. */
#include "base/auto.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

static void job_path(const struct site *site, struct buf *out)
{
    buf_adds(out, "/v2/");
    site_add_job(site, out);
}

static void job_create_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v2/projects/%s/locations/%s/jobs?jobId=%s", site->project, site->region,
             site->job);
}

static void add_variable(struct json_writer *w, const char *name, size_t len, const char *value)
{
    json_open_object(w, NULL);
    json_add_textn(w, "name", name, len);
    json_add_text(w, "value", value);
    json_close(w);
}

static void write_env(const struct site *site, struct json_writer *w)
{
    const char *const own[][2] = {
        {"GCP_PROJECT_ID", site->project},
        {"GCS_LOGS_BUCKET", site->bucket},
        {"KMS_LOCATION", site->kms_location},
        {"KMS_KEY_RING", site->ring},
        {"KMS_KEY_NAME", site->key},
        {site->has_value ? "CLOUD_API_KEY_SECRET" : NULL, site->secret},
    };
    json_open_array(w, "env");
    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (own[i][0])
            add_variable(w, own[i][0], strlen(own[i][0]), own[i][1]);
    for (size_t i = 0; i < site->env.count; i++) {
        const char *text = site->env.items[i], *equals = strchr(text, '=');
        add_variable(w, text, (size_t)(equals - text), equals + 1);
    }
    json_close(w);
}

/* Settings that nobody has asked for stay as they are. */
static void write_container(const struct site *site, bool fresh, struct json_writer *w)
{
    const char *cpu = site->cpu ? site->cpu : fresh ? "1" : NULL;
    const char *memory = site->memory ? site->memory : fresh ? "2Gi" : NULL;
    json_open_array(w, "containers");
    json_open_object(w, NULL);
    if (fresh || site->image_given || site->image_made)
        json_add_text(w, "image", site->image);
    json_open_object(w, "resources");
    json_open_object(w, "limits");
    if (cpu)
        json_add_text(w, "cpu", cpu);
    if (memory)
        json_add_text(w, "memory", memory);
    json_close(w);
    json_close(w);
    write_env(site, w);
    json_close(w);
    json_close(w);
}

static void write_vpc(const struct site *site, struct json_writer *w)
{
    json_open_object(w, "vpcAccess");
    json_add_text(w, "egress", "ALL_TRAFFIC");
    json_open_array(w, "networkInterfaces");
    json_open_object(w, NULL);
    json_add_text(w, "network", site->network);
    json_add_text(w, "subnetwork", site->subnet);
    json_open_array(w, "tags");
    json_add_text(w, NULL, site->job);
    json_close(w);
    json_close(w);
    json_close(w);
    json_close(w);
}

/* maxRetries is 0, because the home runner decides about further attempts. */
static void job_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    char seconds[32];
    json_open_object(w, "template");
    json_add_int(w, "taskCount", 1);
    json_open_object(w, "template");
    write_container(site, !found, w);
    json_add_int(w, "maxRetries", 0);
    json_add_text(w, "serviceAccount", site->job_account);
    json_add_text(w, "executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2");
    if (!found || site->timeout_s) {
        snprintf(seconds, sizeof(seconds), "%llds",
                 (long long)(site->timeout_s ? site->timeout_s : 3600));
        json_add_text(w, "timeout", seconds);
    }
    if (site->network)
        write_vpc(site, w);
    json_close(w);
    json_close(w);
}

static void job_create(const struct site *site, struct json_writer *w)
{
    thing_add_mark(w);
    job_wish(site, NULL, w);
}

static void no_query(const struct json *found, struct buf *out)
{
    (void)found;
    (void)out;
}

/* Google replaces everything that can be written, so the existing settings are sent as well. */
static void job_patch(const struct site *site, const struct json *found, const struct json *wish,
                      struct json_writer *w)
{
    static const char *const kept[] = {"labels", "annotations", "binaryAuthorization",
                                       "launchStage"};
    (void)site;
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (json_get(found, kept[i]))
            match_merge(w, kept[i], json_get(found, kept[i]), NULL);
    match_merge(w, "template", json_get(found, "template"), json_get(wish, "template"));
}

const struct thing cloud_job_thing = {.permissions = "run.jobs",
                                      .path = job_path,
                                      .create_path = job_create_path,
                                      .create = job_create,
                                      .wish = job_wish,
                                      .patch_query = no_query,
                                      .patch = job_patch};

/* Google accepts a job whose image does not exist yet, and says so. */
int setup_job_act(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err)
{
    struct err why;
    AUTO(verdict) struct verdict now = {.note = BUF_INIT(1024)};
    if (thing_act(site, step, verdict, err) == 0)
        return 0;
    bool image = strcasestr(err->msg, "image") != NULL;
    if (!image || verdict->kind != VERDICT_CREATE || err->code == ERR_FORBIDDEN ||
        thing_look(site, step, &now, &why) || now.kind != VERDICT_SAME)
        return image ? err_wrap(err, "push the image first, then run this again") : -1;
    buf_addf(&verdict->note, "it cannot run yet: %s", err->msg);
    return 0;
}
