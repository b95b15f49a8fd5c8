/*
 * What a job with Direct VPC egress may reach: rules for its network tag, which is the job's name.
 *
 *     NAME-deny, NAME-deny6      nothing                          priority 65000
 *     NAME-allow                 443, and --allow without range   1000
 *     NAME-allow-N               the Nth --allow with a range     1000
 *
 * Rules of those names that are not wished any more are taken away: nothing else is let out.
 */
#include "base/auto.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

int network_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err)
{
    bool private_access = true;
    AUTO(json) struct json *subnet = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_addf(&path, "/compute/v1/projects/%s/regions/%s/subnetworks/%s", site->project,
             site->region, site->subnet);
    const struct ask ask = {
        .api = step->api, .method = "GET", .path = &path, .permission = "compute.subnetworks.get"};
    if (site_ask(site, &ask, &subnet, err))
        return err_wrap(err, "subnetwork %s in %s", site->subnet, site->region);
    const char *network = json_text(json_get(subnet, "network"));
    const char *name = network ? strrchr(network, '/') : NULL;
    if (name && strcmp(name + 1, site->network) != 0)
        return err_set(err, ERR_INVALID, "subnetwork %s is of network %.60s", site->subnet,
                       name + 1);
    json_bool(json_get(subnet, "privateIpGoogleAccess"), &private_access);
    if (!private_access)
        buf_adds(&verdict->note, "Private Google Access is off in that subnetwork: the job reaches "
                                 "its bucket only through a NAT");
    return 0;
}

/* --- what is wished ------------------------------------------------------------------------- */

static void add_traffic(const char *allow, struct json_writer *w)
{
    const char *ports = strchr(allow, ':');
    json_open_object(w, NULL);
    json_add_textn(w, "IPProtocol", allow, ports ? (size_t)(ports - allow) : strcspn(allow, "@"));
    if (ports) {
        json_open_array(w, "ports");
        json_add_textn(w, NULL, ports + 1, strcspn(ports + 1, "@"));
        json_close(w);
    }
    json_close(w);
}

static void open_rule(const struct site *site, const char *suffix, int priority, const char *range,
                      const char *member, struct json_writer *w)
{
    char name[128], network[256];
    snprintf(name, sizeof(name), "%s%s", site->job, suffix);
    snprintf(network, sizeof(network), "projects/%s/global/networks/%s", site->project,
             site->network);
    json_open_object(w, NULL);
    json_add_text(w, "name", name);
    json_add_text(w, "description", CLOUD_MARK_WORDS);
    json_add_text(w, "network", network);
    json_add_text(w, "direction", "EGRESS");
    json_add_int(w, "priority", priority);
    json_open_array(w, "destinationRanges");
    json_add_text(w, NULL, range);
    json_close(w);
    json_open_array(w, "targetTags");
    json_add_text(w, NULL, site->job);
    json_close(w);
    json_open_array(w, member);
}

static void close_rule(struct json_writer *w)
{
    json_close(w);
    json_close(w);
}

static void write_rules(const struct site *site, struct json_writer *w)
{
    int ranged = 0;
    char suffix[32];
    static const char *const nowhere[][2] = {{"-deny", "0.0.0.0/0"}, {"-deny6", "::/0"}};
    json_open_array(w, NULL);
    for (size_t i = 0; i < COUNT_OF(nowhere); i++) {
        open_rule(site, nowhere[i][0], 65000, nowhere[i][1], "denied", w);
        add_traffic("all", w);
        close_rule(w);
    }
    open_rule(site, "-allow", 1000, "0.0.0.0/0", "allowed", w);
    add_traffic("tcp:443", w);
    for (size_t i = 0; i < site->allow.count; i++)
        if (!strchr(site->allow.items[i], '@') && strcmp(site->allow.items[i], "tcp:443") != 0)
            add_traffic(site->allow.items[i], w);
    close_rule(w);
    for (size_t i = 0; i < site->allow.count; i++) {
        const char *range = strchr(site->allow.items[i], '@');
        if (!range)
            continue;
        snprintf(suffix, sizeof(suffix), "-allow-%d", ++ranged);
        open_rule(site, suffix, 1000, range + 1, "allowed", w);
        add_traffic(site->allow.items[i], w);
        close_rule(w);
    }
    json_close(w);
}

static struct json *make_rules(const struct site *site, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(CLOUD_BODY_MAX);
    json_write(&w, &text);
    write_rules(site, &w);
    return buf_check(&text, "the rules", err) ? NULL : json_parse(buf_str(&text), text.len, err);
}

/* --- what is there -------------------------------------------------------------------------- */

struct listing {
    const struct site *site;
    struct json_writer w;
};

static bool is_ours(const struct site *site, const struct json *rule)
{
    const char *name = json_text(json_get(rule, "name"));
    size_t len = strlen(site->job);
    return name && strncmp(name, site->job, len) == 0 &&
           (str_starts(name + len, "-deny") || str_starts(name + len, "-allow")) &&
           thing_is_ours(rule);
}

static int take_rule(const struct json *rule, void *arg)
{
    struct listing *listing = arg;
    if (is_ours(listing->site, rule))
        match_merge(&listing->w, NULL, rule, NULL);
    return 0;
}

static struct json *list_rules(struct site *site, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), text = BUF_INIT(CLOUD_BODY_MAX);
    struct listing listing = {.site = site};
    buf_addf(&path, "/compute/v1/projects/%s/global/firewalls?maxResults=500", site->project);
    const struct ask ask = {.api = GOOGLE_COMPUTE,
                            .method = "GET",
                            .path = &path,
                            .permission = "compute.firewalls.list"};
    json_write(&listing.w, &text);
    json_open_array(&listing.w, NULL);
    if (site_list(site, &ask, "items", take_rule, &listing, err))
        return NULL;
    json_close(&listing.w);
    return buf_check(&text, "the rules", err) ? NULL : json_parse(buf_str(&text), text.len, err);
}

static const struct json *find_rule(const struct json *rules, const struct json *wanted)
{
    const char *name = json_text(json_get(wanted, "name"));
    for (const struct json *rule = json_first(rules); rule; rule = json_next(rule))
        if (name && strcmp(json_text(json_get(rule, "name")), name) == 0)
            return rule;
    return NULL;
}

int firewall_look(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err)
{
    (void)step;
    verdict->found = list_rules(site, err);
    AUTO(json) struct json *wish = verdict->found ? make_rules(site, err) : NULL;
    if (!wish)
        return -1;
    for (const struct json *rule = json_first(wish); rule; rule = json_next(rule)) {
        AUTO(strlist) struct strlist names = STRLIST_INIT;
        match_differences(rule, find_rule(verdict->found, rule), &names);
        if (names.count > 0)
            strlist_add(&verdict->names, json_text(json_get(rule, "name")));
    }
    for (const struct json *rule = json_first(verdict->found); rule; rule = json_next(rule))
        if (!find_rule(wish, rule))
            strlist_addf(&verdict->names, "without %s", json_text(json_get(rule, "name")));
    verdict->kind = verdict->names.count == 0         ? VERDICT_SAME
                    : json_count(verdict->found) == 0 ? VERDICT_CREATE
                                                      : VERDICT_CHANGE;
    return 0;
}

/* --- doing ---------------------------------------------------------------------------------- */

static int delete_rule(struct site *site, const struct json *rule, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    buf_addf(&path, "/compute/v1/projects/%s/global/firewalls/", site->project);
    google_add_escaped(&path, json_text(json_get(rule, "name")));
    const struct ask ask = {.api = GOOGLE_COMPUTE,
                            .method = "DELETE",
                            .path = &path,
                            .permission = "compute.firewalls.delete"};
    return site_ask(site, &ask, NULL, err) == 0 || err->code == ERR_NOT_FOUND ? 0 : -1;
}

static int put_rule(struct site *site, const struct json *rule, bool exists, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(CLOUD_BODY_MAX);
    buf_addf(&path, "/compute/v1/projects/%s/global/firewalls", site->project);
    if (exists) {
        buf_addc(&path, '/');
        google_add_escaped(&path, json_text(json_get(rule, "name")));
    }
    json_print(rule, &body);
    const struct ask ask = {.api = GOOGLE_COMPUTE,
                            .method = exists ? "PATCH" : "POST",
                            .path = &path,
                            .body = &body,
                            .permission =
                                exists ? "compute.firewalls.update" : "compute.firewalls.create"};
    return site_ask(site, &ask, NULL, err);
}

/* Makes or changes a rule. Its network and direction cannot change: then it is deleted and made
 * anew. */
static int set_rule(struct site *site, const struct json *rule, const struct json *found,
                    struct err *err)
{
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    match_differences(rule, found, &names);
    if (names.count == 0)
        return 0;
    bool anew = found && (strlist_has(&names, "network") || strlist_has(&names, "direction"));
    if (anew && delete_rule(site, found, err))
        return -1;
    return put_rule(site, rule, found && !anew, err);
}

int firewall_act(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err)
{
    AUTO(json) struct json *wish = make_rules(site, err);
    (void)step;
    if (!wish)
        return -1;
    for (const struct json *rule = json_first(wish); rule; rule = json_next(rule))
        if (set_rule(site, rule, find_rule(verdict->found, rule), err))
            return -1;
    for (const struct json *rule = json_first(verdict->found); rule; rule = json_next(rule))
        if (!find_rule(wish, rule) && delete_rule(site, rule, err))
            return -1;
    return 0;
}

/* --- down ----------------------------------------------------------------------------------- */

int firewall_survey(struct site *site, const struct step *step, struct verdict *verdict,
                    struct buf *what, struct err *err)
{
    if (site_is_off(site, step->api))
        return 0;
    verdict->found = list_rules(site, err);
    if (!verdict->found)
        return -1;
    for (const struct json *rule = json_first(verdict->found); rule; rule = json_next(rule)) {
        buf_adds(what, what->len > 0 ? ", " : "deleted: ");
        buf_adds(what, json_text(json_get(rule, "name")));
    }
    return 0;
}

int firewall_undo(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err)
{
    (void)step;
    for (const struct json *rule = json_first(verdict->found); rule; rule = json_next(rule))
        if (delete_rule(site, rule, err))
            return -1;
    return 0;
}
