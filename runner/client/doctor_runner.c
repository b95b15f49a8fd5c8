/* What a runner says of itself at /health?verbose=true, as `claude-runner doctor` prints it. */
#include "runner/client/client.h"
#include "runner/client/doctor.h"

#include <stdio.h>
#include <string.h>

/* A member by its path, "jail.tier"; NULL when there is none. */
static const struct json *at(const struct json *root, const char *path)
{
    char name[64];
    while (root && *path) {
        size_t len = strcspn(path, ".");
        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        root = json_get(root, name);
        path += len + (path[len] == '.');
    }
    return root;
}

static const char *text(const struct json *root, const char *path, const char *otherwise)
{
    const char *found = json_text(at(root, path));
    return found ? found : otherwise;
}

static void examine_login(struct doctor *doctor, const struct json *health)
{
    char found[240];
    double hours = 0;
    const char *kind = text(health, "credential", "none");
    bool expired = client_is_true(at(health, "oauth"), "expired");
    bool has_end = json_number(at(health, "oauth.hours_remaining"), &hours) == 0;
    const char *end = text(health, "oauth.login_expires_at", NULL);
    if (strcmp(kind, "login") != 0)
        snprintf(found, sizeof(found), "%s",
                 strcmp(kind, "none") == 0 ? "there is none" : "an API key is used");
    else if (has_end)
        snprintf(found, sizeof(found), "its token lasts %.1f hours%s%s", hours,
                 end ? "; the login itself ends at " : "", end ? end : "");
    else
        snprintf(found, sizeof(found), "%s", expired ? "it has expired" : "there is one");
    doctor_say(doctor, strcmp(kind, "none") != 0 && !expired, "login", found,
               "log in: open /login, or run `claude-runner login`");
}

static void examine_claude(struct doctor *doctor, const struct json *health)
{
    char found[400];
    const char *version = text(health, "claude.version", NULL);
    const char *warning = text(health, "claude.warning", NULL);
    const char *error = text(health, "claude.error", NULL);
    snprintf(found, sizeof(found), "%s at %s%s%s", version ? version : "no version",
             text(health, "claude.path", "no path"), error ? "; started as a task: " : "",
             error ? error : "");
    if (doctor_say(doctor, version != NULL, "claude", found,
                   error ? "show what it needs to tasks (JAIL_PATHS), or install it again: "
                           "runner/install-claude"
                         : "install it: runner/install-claude, or set CLAUDE_BIN") &&
        warning)
        printf("               %s\n", warning);
}

/* A weaker tier is no failure: JAIL_MIN is where the owner says what must be. */
static void examine_jail(struct doctor *doctor, const struct json *health)
{
    char found[400];
    const struct json *missing = at(health, "jail.missing");
    const char *why = text(health, "jail.why_not_full", NULL);
    snprintf(found, sizeof(found), "tier %s%s%s", text(health, "jail.tier", "unknown"),
             why ? ": " : "", why ? why : "");
    doctor_say(doctor, true, "jail", found, NULL);
    if (strcmp(text(health, "jail.network", "gate"), "proxy") == 0)
        printf("               network: %s\n", text(health, "jail.network_why", ""));
    for (const struct json *item = json_first(missing); item; item = json_next(item))
        printf("               without %s: %s\n", json_name(item),
               json_text(item) ? json_text(item) : "");
}

static void examine_rest(struct doctor *doctor, const struct json *health)
{
    char found[400];
    int64_t free_mb = 0, slots = 0, running = 0, queued = 0;
    const struct json *cloud = at(health, "cloud"), *python = at(health, "python");
    if (json_int(at(health, "disk.free_mb"), &free_mb) == 0) {
        snprintf(found, sizeof(found), "%lld MB free at %s", (long long)free_mb,
                 text(health, "disk.path", "its state folder"));
        doctor_say(doctor, true, "disk", found, NULL);
    }
    if (python) {
        const char *error = text(python, "error", NULL);
        const char *is = client_is_true(python, "available")
                             ? "is there"
                             : text(python, "reason", "is not installed");
        doctor_say(doctor, !error, "python", error ? error : is,
                   "this is the last try's error; the log has all of them");
    }
    if (cloud)
        doctor_say(doctor, client_is_true(cloud, "reachable"), "cloud",
                   text(cloud, "error", "Google Cloud answers"), "run `claude-runner cloud check`");
    if (json_int(at(health, "tasks.slots"), &slots) == 0 &&
        json_int(at(health, "tasks.running"), &running) == 0 &&
        json_int(at(health, "tasks.queued"), &queued) == 0) {
        snprintf(found, sizeof(found), "%lld run, %lld wait, %lld may run at once",
                 (long long)running, (long long)queued, (long long)slots);
        doctor_say(doctor, true, "tasks", found, NULL);
    }
}

/* What the runner counts as trouble itself, with what it says about it. */
static void examine_troubles(struct doctor *doctor, const struct json *health)
{
    const struct json *remedies = json_get(health, "remedies");
    const struct json *reasons = json_get(health, "reasons");
    if (!json_first(reasons))
        doctor_say(doctor, true, "health", text(health, "status", "unknown"), NULL);
    for (const struct json *item = json_first(reasons); item; item = json_next(item)) {
        const char *reason = json_text(item);
        doctor_say(doctor, false, "health", reason ? reason : "?",
                   reason ? json_text(json_get(remedies, reason)) : NULL);
    }
}

void doctor_examine(struct doctor *doctor)
{
    struct err err;
    AUTO(json)
    struct json *health = client_call(doctor->to, "GET", "/health?verbose=true", NULL, &err);
    if (!health) {
        doctor_say(doctor, false, "health", err.msg, NULL);
        return;
    }
    examine_login(doctor, health);
    examine_claude(doctor, health);
    examine_jail(doctor, health);
    examine_rest(doctor, health);
    examine_troubles(doctor, health);
}
