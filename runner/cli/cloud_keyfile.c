/*
 * The home runner's key, in a file that only its owner can read.
 *
 * Google gives the private half only once. So the place for the file is tested before the key is
 * asked for. A key whose answer was lost stays at Google unused, and the next run says that there
 * is an older one.
 *
 * A key of 90 days is replaced. A runner that was not started again since still signs with the old
 * one, so that stays at Google until the run after the next day; its name is kept beside the file:
 *
 *     KEYFILE            the key
 *     KEYFILE.previous   the id of the one before, which is to be deleted
 */
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_MAX 65536
#define DAY_MS INT64_C(86400000)
#define ROTATION_MS (90 * DAY_MS)
#define IS_OLD "it is older than 90 days"
#define HAS_PREVIOUS "the key before it is deleted at Google"

static void keys_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/serviceAccounts/%s/keys", site->project, site->home_account);
}

/* Returns 1 when the file is a key of the account (its id in `id`), 0 when there is no file, or
 * -1. */
static int read_file(const struct site *site, struct buf *id, struct err *err)
{
    struct err why;
    AUTO(buf_wipe) struct buf text = BUF_INIT(KEY_FILE_MAX);
    if (file_read(site->key_file, &text, err))
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    AUTO(json) struct json *key = json_parse(buf_str(&text), text.len, &why);
    const char *email = json_text(json_get(key, "client_email"));
    const char *name = json_text(json_get(key, "private_key_id"));
    if (!email || !name || strcmp(email, site->home_account) != 0)
        return err_set(err, ERR_CONFLICT,
                       "the file is no key of %s, and is not written over: take another --key-file",
                       site->home_account);
    buf_adds(id, name);
    return 1;
}

static int key_exists(struct site *site, const char *id, bool *ret_exists, int64_t *ret_age_ms,
                      struct err *err)
{
    int64_t since;
    AUTO(json) struct json *key = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    keys_path(site, &path);
    buf_addc(&path, '/');
    google_add_escaped(&path, id);
    const struct ask ask = {.api = GOOGLE_IAM,
                            .method = "GET",
                            .path = &path,
                            .permission = "iam.serviceAccountKeys.get"};
    *ret_exists = site_ask(site, &ask, &key, err) == 0;
    const char *from = json_text(json_get(key, "validAfterTime"));
    *ret_age_ms = from && clock_parse(from, &since) == 0 ? clock_real_ms() - since : 0;
    return *ret_exists || err->code == ERR_NOT_FOUND ? 0 : -1;
}

static void count_others(struct site *site, struct verdict *verdict)
{
    struct err ignored;
    size_t count = 0;
    AUTO(json) struct json *list = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    keys_path(site, &path);
    buf_adds(&path, "?keyTypes=USER_MANAGED");
    const struct ask ask = {.api = GOOGLE_IAM, .method = "GET", .path = &path};
    if (site_ask(site, &ask, &list, &ignored) == 0)
        count = json_count(json_get(list, "keys"));
    if (count > 0)
        buf_addf(&verdict->note,
                 "the account has %zu older key%s: delete at Google what nobody uses", count,
                 count == 1 ? "" : "s");
}

/* --- the one before ------------------------------------------------------------------------- */

static char *previous_path(const struct site *site)
{
    char *path;
    return asprintf(&path, "%s.previous", site->key_file) < 0 ? NULL : path;
}

static int delete_key(struct site *site, const char *id, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX);
    keys_path(site, &path);
    buf_addc(&path, '/');
    google_add_escaped(&path, id);
    const struct ask ask = {.api = GOOGLE_IAM,
                            .method = "DELETE",
                            .path = &path,
                            .permission = "iam.serviceAccountKeys.delete"};
    return site_ask(site, &ask, NULL, err) && err->code != ERR_NOT_FOUND ? -1 : 0;
}

/* Whether there is one whose time is over: the key that replaced it has been there for a day. */
static bool has_previous(const struct site *site, int64_t age_ms, struct buf *id)
{
    struct err ignored;
    AUTO(str) char *path = previous_path(site);
    return age_ms >= DAY_MS && path && file_read(path, id, &ignored) == 0 && id->len > 0;
}

static int drop_previous(struct site *site, struct err *err)
{
    AUTO(buf) struct buf id = BUF_INIT(256);
    AUTO(str) char *path = previous_path(site);
    if (!path || file_read(path, &id, err) || delete_key(site, buf_str(&id), err))
        return -1;
    return unlink(path) && errno != ENOENT ? err_sys(err, "unlink") : 0;
}

/* Before the file holds another key: so that none is forgotten. */
static int note_previous(const struct site *site, const char *id, struct err *err)
{
    AUTO(str) char *path = previous_path(site);
    return path ? file_replace(path, id, strlen(id), 0600, err) : err_sys(err, "a path");
}

int setup_key_look(struct site *site, const struct step *step, struct verdict *verdict,
                   struct err *err)
{
    bool exists = false;
    int64_t age_ms = 0;
    struct stat st;
    AUTO(buf) struct buf id = BUF_INIT(256), previous = BUF_INIT(256);
    int is = read_file(site, &id, err);
    if (is < 0 || (is > 0 && !site_is_off(site, step->api) &&
                   key_exists(site, buf_str(&id), &exists, &age_ms, err)))
        return -1;
    if (!exists) {
        verdict->kind = is > 0 ? VERDICT_CHANGE : VERDICT_CREATE;
        if (is > 0)
            strlist_add(&verdict->names, "Google does not know its key any more");
        else if (!site_is_off(site, step->api))
            count_others(site, verdict);
        return 0;
    }
    if (age_ms >= ROTATION_MS) {
        verdict->kind = VERDICT_CHANGE;
        strlist_add(&verdict->names, IS_OLD);
        buf_adds(&verdict->note, "start the runner again; the old key goes with a later set-up");
    } else if (has_previous(site, age_ms, &previous)) {
        verdict->kind = VERDICT_CHANGE;
        strlist_add(&verdict->names, HAS_PREVIOUS);
    } else if (stat(site->key_file, &st) == 0 && (st.st_mode & 077)) {
        verdict->kind = VERDICT_CHANGE;
        strlist_add(&verdict->names, "mode");
    }
    return 0;
}

/* --- a new one ------------------------------------------------------------------------------ */

static int check_place(const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    AUTO(str) char *dir = str_copy(path, slash && slash > path ? (size_t)(slash - path) : 1);
    if (!dir)
        return err_sys(err, "a path");
    return access(dir, W_OK | X_OK) ? err_sys(err, "cannot write in '%.120s'", dir) : 0;
}

static int store(const struct site *site, const struct json *answer, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(KEY_FILE_MAX);
    struct err why;
    const char *data = json_text(json_get(answer, "privateKeyData"));
    if (!data || str_read_base64(data, strlen(data), &text))
        return err_set(err, ERR_UPSTREAM, "IAM: the answer holds no key");
    AUTO(json) struct json *key = json_parse(buf_str(&text), text.len, &why);
    if (!json_text(json_get(key, "private_key")))
        return err_set(err, ERR_UPSTREAM, "IAM: the answer holds no key");
    return file_replace(site->key_file, text.data, text.len, 0600, err);
}

int setup_key_act(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err)
{
    AUTO(json) struct json *answer = NULL;
    AUTO(buf) struct buf path = BUF_INIT(CLOUD_PATH_MAX), body = BUF_INIT(256);
    AUTO(buf) struct buf old = BUF_INIT(256);
    const char *why = verdict->names.count > 0 ? verdict->names.items[0] : "";
    if (strcmp(why, "mode") == 0)
        return chmod(site->key_file, 0600) ? err_sys(err, "chmod") : 0;
    if (strcmp(why, HAS_PREVIOUS) == 0)
        return drop_previous(site, err);
    if (strcmp(why, IS_OLD) == 0 &&
        (read_file(site, &old, err) < 0 || note_previous(site, buf_str(&old), err)))
        return -1;
    if (check_place(site->key_file, err))
        return -1;
    keys_path(site, &path);
    buf_adds(&body, "{\"privateKeyType\":\"TYPE_GOOGLE_CREDENTIALS_FILE\"}");
    const struct ask ask = {.api = step->api,
                            .method = "POST",
                            .path = &path,
                            .body = &body,
                            .permission = "iam.serviceAccountKeys.create",
                            .once = true};
    if (site_ask(site, &ask, &answer, err) == 0)
        return store(site, answer, err);
    bool policy = strcasestr(err->msg, "disableServiceAccountKeyCreation") ||
                  strcasestr(err->msg, "key creation is not allowed");
    return policy
               ? err_wrap(err, "a policy of the organisation allows no keys: run this again with "
                               "--impersonate user:YOU and log in at home as YOU")
               : -1;
}

/* --- down ----------------------------------------------------------------------------------- */

int setup_key_survey(struct site *site, const struct step *step, struct verdict *verdict,
                     struct buf *what, struct err *err)
{
    AUTO(buf) struct buf id = BUF_INIT(256);
    int is = read_file(site, &id, err);
    (void)step;
    if (is > 0)
        buf_adds(what, "deleted, here and at Google");
    else if (is < 0)
        buf_addf(&verdict->note, "stays: %s", err->msg);
    return 0;
}

int setup_key_undo(struct site *site, const struct step *step, struct verdict *verdict,
                   struct err *err)
{
    AUTO(buf) struct buf id = BUF_INIT(256), path = BUF_INIT(256);
    (void)step;
    (void)verdict;
    int is = read_file(site, &id, err);
    if (is <= 0)
        return is;
    if (has_previous(site, DAY_MS, &path) && drop_previous(site, err))
        return -1;
    if (delete_key(site, buf_str(&id), err))
        return -1;
    return unlink(site->key_file) && errno != ENOENT ? err_sys(err, "unlink") : 0;
}
