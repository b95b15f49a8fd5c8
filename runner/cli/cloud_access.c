/*
 * Grants: bindings in IAM policies. Each policy is read, extended and written back with its etag,
 * again until nobody has changed it in between; other bindings are kept.
 */
#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

#define WAIT_MS 180000 /* time until a policy accepts an account that was just made */
#define PAUSE_MIN_MS 200
#define PAUSE_MAX_MS 5000

enum who {
    THE_JOB,
    THE_HOME,
    THE_IMPERSONATOR,
    THE_JOB_OF_ITSELF,
    THE_BUILDER,
    THE_HOME_WITH_IMAGES,
    EVERYBODY
};

/*
 * Everything that is granted. The job's account gets only what a task needs, since a task may act
 * as it. To run a job with overrides Google requires, besides the job's permissions, that the
 * caller may act as the job's account: without iam.serviceAccounts.actAs jobs.run is refused in
 * some projects. That gives home nothing that running the job does not.
 */
static const struct grant {
    int place;
    const char *role; /* NULL: the project's own role, for home */
    enum who who;
} grants[] = {
    {ON_BUCKET, "roles/storage.objectUser", THE_JOB},
    {ON_BUCKET, "roles/storage.objectUser", THE_HOME},
    {ON_KEY, "roles/cloudkms.cryptoKeyDecrypter", THE_JOB},
    {ON_KEY, "roles/cloudkms.cryptoKeyEncrypter", THE_HOME},
    {ON_SECRET, "roles/secretmanager.secretAccessor", THE_JOB},
    {ON_PROJECT, "roles/logging.logWriter", THE_JOB},
    {ON_JOB_ACCOUNT, "roles/iam.serviceAccountUser", THE_HOME},
    {ON_HOME_ACCOUNT, "roles/iam.serviceAccountTokenCreator", THE_IMPERSONATOR},
    {ON_JOB, NULL, THE_HOME},
    {ON_PROMPT, "roles/secretmanager.secretAccessor", THE_HOME},
    {ON_PROJECT, "", THE_HOME_WITH_IMAGES},
    {ON_DOOR, "roles/secretmanager.secretAccessor", THE_HOME},
    {ON_SERVICE, "roles/run.invoker", EVERYBODY},
    {ON_JOB, "roles/run.viewer", THE_JOB_OF_ITSELF}, /* what of its variables is meant */
    {ON_BUCKET, "roles/storage.objectViewer", THE_BUILDER},
    {ON_PROJECT, "roles/logging.logWriter", THE_BUILDER},
    {ON_REPOSITORY, "roles/artifactregistry.writer", THE_BUILDER},
};

/* --- places --------------------------------------------------------------------------------- */

static void bucket_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/storage/v1/b/%s", site->bucket);
}

static void key_base(const struct site *site, struct buf *out)
{
    buf_adds(out, "/v1/");
    site_add_key(site, out);
}

static void secret_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets/%s", site->project, site->secret);
}

static void prompt_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets/%s", site->project, site->prompt_secret);
}

static void project_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v3/projects/%s", site->project);
}

static void job_account_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/serviceAccounts/%s", site->project, site->job_account);
}

static void home_account_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/serviceAccounts/%s", site->project, site->home_account);
}

static void repository_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/locations/%s/repositories/%s", site->project, site->region,
             site->repository);
}

static void service_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v2/projects/%s/locations/%s/services/%s", site->project, site->region,
             site->job);
}

static void door_base(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets/%s-service", site->project, site->job);
}

static void job_base(const struct site *site, struct buf *out)
{
    buf_adds(out, "/v2/");
    site_add_job(site, out);
}

static const struct {
    const char *title;
    const char *permissions;
    void (*base)(const struct site *site, struct buf *out);
    const char *get_method, *get, *get_body;
    const char *set_method, *set;
    bool bare; /* the body is the policy itself, without an object around it */
} places[] = {
#define GET "GET", ":getIamPolicy?options.requestedPolicyVersion=3", NULL
#define SET "POST", ":setIamPolicy", false
    [ON_BUCKET] = {"the bucket", "storage.buckets", bucket_base, "GET",
                   "/iam?optionsRequestedPolicyVersion=3", NULL, "PUT", "/iam", true},
    [ON_KEY] = {"the key", "cloudkms.cryptoKeys", key_base, GET, SET},
    [ON_SECRET] = {"the secret", "secretmanager.secrets", secret_base, GET, SET},
    [ON_PROJECT] = {"the project", "resourcemanager.projects", project_base, "POST",
                    ":getIamPolicy", "{\"options\":{\"requestedPolicyVersion\":3}}", SET},
    [ON_JOB_ACCOUNT] = {"the job's account", "iam.serviceAccounts", job_account_base, "POST",
                        ":getIamPolicy?options.requestedPolicyVersion=3", NULL, SET},
    [ON_HOME_ACCOUNT] = {"the home runner's account", "iam.serviceAccounts", home_account_base,
                         "POST", ":getIamPolicy?options.requestedPolicyVersion=3", NULL, SET},
    [ON_JOB] = {"the job", "run.jobs", job_base, GET, SET},
    [ON_REPOSITORY] = {"the repository", "artifactregistry.repositories", repository_base, GET,
                       SET},
    [ON_SERVICE] = {"the service", "run.services", service_base, GET, SET},
    [ON_DOOR] = {"the service's secret", "secretmanager.secrets", door_base, GET, SET},
    [ON_PROMPT] = {"the system prompt's secret", "secretmanager.secrets", prompt_base, GET, SET},
#undef GET
#undef SET
};

void setup_access_name(const struct site *site, int place, struct buf *out)
{
    (void)site;
    buf_adds(out, places[place].title);
}

/* --- grants --------------------------------------------------------------------------------- */

static void add_role(const struct site *site, const struct grant *grant, struct buf *out)
{
    if (grant->role && *grant->role)
        buf_adds(out, grant->role);
    else if (grant->role)
        buf_addf(out, "projects/%s/roles/%sImages", site->project, site->role);
    else
        buf_addf(out, "projects/%s/roles/%s", site->project, site->role);
}

/* True when the job needs addresses other than Google's and Anthropic's own, which it takes from
 * its definition only. */
static bool has_own_addresses(const struct site *site)
{
    for (size_t i = 0; i < site->env.count; i++)
        if (str_starts(site->env.items[i], "ANTHROPIC_UPSTREAM=") ||
            str_starts(site->env.items[i], "HTTPS_PROXY=") ||
            str_starts(site->env.items[i], "SSL_CERT_"))
            return true;
    return false;
}

/* Appends the grant's member. False when there is none. */
static bool add_member(const struct site *site, const struct grant *grant, struct buf *out)
{
    if (grant->who == THE_IMPERSONATOR && !site->impersonator)
        return false;
    if (grant->who == THE_JOB_OF_ITSELF && !has_own_addresses(site))
        return false;
    if (grant->who == THE_HOME_WITH_IMAGES && !site->images && !site->down)
        return false;
    if (grant->who == EVERYBODY && !site->public && !site->down)
        return false;
    if (grant->who == EVERYBODY) {
        buf_adds(out, "allUsers");
        return true;
    }
    if (grant->who == THE_BUILDER && !site_builds(site))
        return false;
    if (grant->who == THE_IMPERSONATOR)
        buf_adds(out, site->impersonator);
    else
        buf_addf(out, "serviceAccount:%s",
                 grant->who == THE_HOME || grant->who == THE_HOME_WITH_IMAGES ? site->home_account
                 : grant->who == THE_BUILDER                                  ? site->build_account
                                                                              : site->job_account);
    return true;
}

static bool is_role(const struct json *binding, const char *role)
{
    const char *is = json_text(json_get(binding, "role"));
    return is && strcmp(is, role) == 0;
}

static bool has_member(const struct json *binding, const char *member)
{
    const struct json *members = json_get(binding, "members");
    for (const struct json *one = json_first(members); one; one = json_next(one))
        if (json_text(one) && strcmp(json_text(one), member) == 0)
            return true;
    return false;
}

/* Finds a binding. One with a condition does not count, because the condition may be false. */
static const struct json *find_binding(const struct json *policy, const char *role,
                                       const char *member)
{
    const struct json *bindings = json_get(policy, "bindings");
    for (const struct json *one = json_first(bindings); one; one = json_next(one))
        if (is_role(one, role) && !json_get(one, "condition") &&
            (!member || has_member(one, member)))
            return one;
    return NULL;
}

/* Lists the grants of a place that exist (or do not), as "ROLE for WHOM". */
static void collect(const struct site *site, int place, const struct json *policy, bool there,
                    struct strlist *names)
{
    for (size_t i = 0; i < COUNT_OF(grants); i++) {
        AUTO(buf) struct buf role = BUF_INIT(512), member = BUF_INIT(512);
        if (grants[i].place != place || !add_member(site, &grants[i], &member))
            continue;
        add_role(site, &grants[i], &role);
        const char *words = strrchr(buf_str(&role), '/');
        if ((find_binding(policy, buf_str(&role), buf_str(&member)) != NULL) == there)
            strlist_addf(names, "%s for %s", words ? words + 1 : buf_str(&role),
                         strchr(buf_str(&member), ':') ? strchr(buf_str(&member), ':') + 1
                                                       : buf_str(&member));
    }
}

/* --- reading and writing -------------------------------------------------------------------- */

static int read_policy(struct site *site, const struct step *step, struct json **ret_policy,
                       struct err *err)
{
    char permission[80];
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(1024);
    snprintf(permission, sizeof(permission), "%s.getIamPolicy", places[step->place].permissions);
    places[step->place].base(site, &path);
    buf_adds(&path, places[step->place].get);
    if (places[step->place].get_body)
        buf_adds(&body, places[step->place].get_body);
    const struct ask ask = {.api = step->api,
                            .method = places[step->place].get_method,
                            .path = &path,
                            .body = body.len > 0 ? &body : NULL,
                            .permission = permission};
    return site_ask(site, &ask, ret_policy, err);
}

/* Writes the members of a binding: the present ones without one, plus one more. NULL: none. */
static void add_members(struct json_writer *w, const struct json *binding,
                        const struct strlist *without, const struct strlist *more)
{
    const struct json *members = json_get(binding, "members");
    json_open_array(w, "members");
    for (const struct json *one = json_first(members); one; one = json_next(one))
        if (json_text(one) && !strlist_has(without, json_text(one)))
            json_add_text(w, NULL, json_text(one));
    for (size_t i = 0; i < more->count; i++)
        if (!has_member(binding, more->items[i]))
            json_add_text(w, NULL, more->items[i]);
    json_close(w);
}

/* Lists our members that should have this role at the place. */
static void members_of(const struct site *site, int place, const char *role, struct strlist *list)
{
    for (size_t i = 0; i < COUNT_OF(grants); i++) {
        AUTO(buf) struct buf is = BUF_INIT(512), member = BUF_INIT(512);
        add_role(site, &grants[i], &is);
        if (grants[i].place == place && strcmp(buf_str(&is), role) == 0 &&
            add_member(site, &grants[i], &member))
            strlist_add(list, buf_str(&member));
    }
}

static bool keeps_any(const struct json *binding, const struct strlist *without)
{
    const struct json *members = json_get(binding, "members");
    for (const struct json *one = json_first(members); one; one = json_next(one))
        if (json_text(one) && !strlist_has(without, json_text(one)))
            return true;
    return false;
}

static void write_binding(const struct site *site, int place, const struct json *binding,
                          const struct json *policy, bool add, struct json_writer *w)
{
    static const struct strlist none = STRLIST_INIT;
    AUTO(strlist) struct strlist ours = STRLIST_INIT;
    const char *role = json_text(json_get(binding, "role"));
    bool plain = role && !json_get(binding, "condition");
    if (plain)
        members_of(site, place, role, &ours);
    if (ours.count == 0 || (add && find_binding(policy, role, NULL) != binding)) {
        match_merge(w, NULL, binding, NULL);
        return;
    }
    if (!add && !keeps_any(binding, &ours))
        return;
    json_open_object(w, NULL);
    json_add_text(w, "role", role);
    add_members(w, binding, add ? &none : &ours, add ? &ours : &none);
    json_close(w);
}

static void write_bindings(const struct site *site, int place, const struct json *policy, bool add,
                           struct json_writer *w)
{
    static const struct strlist none = STRLIST_INIT;
    AUTO(strlist) struct strlist written = STRLIST_INIT;
    const struct json *bindings = json_get(policy, "bindings");
    json_open_array(w, "bindings");
    for (const struct json *one = json_first(bindings); one; one = json_next(one))
        write_binding(site, place, one, policy, add, w);
    for (size_t i = 0; add && i < COUNT_OF(grants); i++) {
        AUTO(buf) struct buf role = BUF_INIT(512);
        AUTO(strlist) struct strlist ours = STRLIST_INIT;
        add_role(site, &grants[i], &role);
        members_of(site, place, buf_str(&role), &ours);
        if (ours.count == 0 || strlist_has(&written, buf_str(&role)) ||
            find_binding(policy, buf_str(&role), NULL))
            continue;
        json_open_object(w, NULL);
        json_add_text(w, "role", buf_str(&role));
        add_members(w, NULL, &none, &ours);
        json_close(w);
        strlist_add(&written, buf_str(&role));
    }
    json_close(w);
}

static int write_policy(struct site *site, const struct step *step, const struct json *policy,
                        bool add, struct err *err)
{
    char permission[80];
    struct json_writer w;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    snprintf(permission, sizeof(permission), "%s.setIamPolicy", places[step->place].permissions);
    places[step->place].base(site, &path);
    buf_adds(&path, places[step->place].set);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    if (!places[step->place].bare)
        json_open_object(&w, "policy");
    for (const struct json *at = json_first(policy); at; at = json_next(at))
        if (strcmp(json_name(at), "bindings") != 0)
            match_merge(&w, json_name(at), at, NULL);
    write_bindings(site, step->place, policy, add, &w);
    if (!places[step->place].bare)
        json_close(&w);
    json_close(&w);
    const struct ask ask = {.api = step->api,
                            .method = places[step->place].set_method,
                            .path = &path,
                            .body = &body,
                            .permission = permission};
    return site_ask(site, &ask, NULL, err);
}

/* True for errors that pass: somebody else changed the policy, or the account is so new that it is
 * not known there yet. */
static bool passes(const struct err *err)
{
    return err->code == ERR_CONFLICT || err->code == ERR_MISMATCH ||
           (err->code == ERR_INVALID && strstr(err->msg, "does not exist"));
}

static int rewrite(struct site *site, const struct step *step, bool add, struct err *err)
{
    int64_t end = clock_mono_ms() + WAIT_MS;
    for (int64_t pause_ms = PAUSE_MIN_MS;;
         pause_ms = pause_ms < PAUSE_MAX_MS / 2 ? pause_ms * 2 : PAUSE_MAX_MS) {
        AUTO(json) struct json *policy = NULL;
        AUTO(strlist) struct strlist names = STRLIST_INIT;
        if (read_policy(site, step, &policy, err)) {
            if (err->code == ERR_NOT_FOUND && !add)
                return 0;
            if (err->code != ERR_NOT_FOUND || clock_mono_ms() > end)
                return -1;
        } else {
            collect(site, step->place, policy, !add, &names);
            if (names.count == 0 || write_policy(site, step, policy, add, err) == 0)
                return 0;
            if (!passes(err) || clock_mono_ms() > end)
                return -1;
        }
        site_pause(pause_ms);
    }
}

/* --- the steps ------------------------------------------------------------------------------ */

int setup_access_look(struct site *site, const struct step *step, struct verdict *verdict,
                      struct err *err)
{
    AUTO(json) struct json *policy = NULL;
    if (read_policy(site, step, &policy, err) && err->code != ERR_NOT_FOUND)
        return -1;
    collect(site, step->place, policy, false, &verdict->names);
    verdict->kind = verdict->names.count > 0 ? VERDICT_CHANGE : VERDICT_SAME;
    return 0;
}

int setup_access_act(struct site *site, const struct step *step, struct verdict *verdict,
                     struct err *err)
{
    (void)verdict;
    site->just_granted = true;
    return rewrite(site, step, true, err);
}

int setup_access_survey(struct site *site, const struct step *step, struct verdict *verdict,
                        struct buf *what, struct err *err)
{
    AUTO(json) struct json *policy = NULL;
    if (read_policy(site, step, &policy, err) && err->code != ERR_NOT_FOUND)
        return -1;
    collect(site, step->place, policy, true, &verdict->names);
    if (verdict->names.count > 0) {
        buf_adds(what, "taken back: ");
        strlist_join(&verdict->names, ", ", what);
    }
    return 0;
}

int setup_access_undo(struct site *site, const struct step *step, struct verdict *verdict,
                      struct err *err)
{
    (void)verdict;
    return rewrite(site, step, false, err);
}
