#include "runner/repo/repos.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/repo/repo_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_FILE_MAX 131072

/* --- life ---------------------------------------------------------------------------------- */

static int make_places(struct repos *repos, struct err *err)
{
    AUTO(str) char *forges = NULL;
    repos->dir = path_join(repos->config.state_dir, "repos");
    repos->known_hosts = path_join(repos->config.state_dir, "known_hosts");
    if (!repos->dir || !repos->known_hosts ||
        asprintf(&forges, "%s.forges", repos->known_hosts) < 0)
        return err_sys(err, "repositories");
    if (path_make_dirs(repos->dir, 0700, err))
        return -1;
    return file_replace(forges, remote_forge_keys, strlen(remote_forge_keys), 0644, err);
}

int repos_probe(struct repos *repos, struct err *err)
{
    static const char *const names[] = {"auto", "overlay", "reflink", "copy"};
    enum { AUTO_METHOD, OVERLAY, REFLINK, COPY };
    int asked = CONFIG_GET(repos->config.config, workspaces);
    if (asked == AUTO_METHOD || asked == OVERLAY)
        overlay_probe(repos);
    if (!repos->overlay && (asked == AUTO_METHOD || asked == REFLINK))
        reflink_probe(repos);
    if (asked == AUTO_METHOD || asked == COPY || repos->overlay || repos->reflink)
        return 0;
    return err_set(err, ERR_INVALID, "WORKSPACES: this host has no %s for RUNNER_STATE_DIR",
                   names[asked]);
}

struct repos *repos_new(const struct repos_config *config, struct err *err)
{
    struct repos *repos = calloc(1, sizeof(*repos));
    if (!repos) {
        err_sys(err, "repositories");
        return NULL;
    }
    repos->config = *config;
    repos->mirrors = repos->bytes = -1;
    lock_init(&repos->lock);
    if (make_places(repos, err)) {
        repos_free(repos);
        return NULL;
    }
    repos_sweep(repos);
    return repos;
}

void repos_free(struct repos *repos)
{
    if (!repos)
        return;
    while (repos->holds) {
        struct hold *hold = repos->holds;
        repos->holds = hold->next;
        free(hold->name);
        free(hold);
    }
    lock_done(&repos->lock);
    free(repos->dir);
    free(repos->known_hosts);
    free(repos);
}

const char *repos_method(const struct repos *repos)
{
    return repos->overlay ? "overlay" : repos->reflink ? "reflink" : "copy";
}

const char *repos_overlay(const struct repos *repos)
{
    return repos->overlay;
}

int repos_check_url(struct repos *repos, const char *text, struct err *err)
{
    REQUIRE(text);
    struct git_url url;
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    return git_url_parse(text, &url, err) || git_url_check(&url, &config->git_allow, err) ? -1 : 0;
}

/* --- holds -------------------------------------------------------------------------------- */

static struct hold **find_locked(struct repos *repos, const char *name) HOLDS(repos->lock);
static struct hold **find_locked(struct repos *repos, const char *name)
{
    struct hold **at = &repos->holds;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static struct hold *hold_new(const char *name)
{
    struct hold *hold = calloc(1, sizeof(*hold));
    if (hold && !(hold->name = strdup(name))) {
        free(hold);
        hold = NULL;
    }
    return hold;
}

int hold_take(struct repos *repos, const char *name, struct err *err)
{
    lock_take(&repos->lock);
    struct hold **at = find_locked(repos, name);
    if (!*at)
        *at = hold_new(name);
    if (*at)
        (*at)->count++;
    bool ok = *at != NULL;
    lock_drop(&repos->lock);
    return ok ? 0 : err_sys(err, "repository");
}

void hold_drop(struct repos *repos, const char *name)
{
    REQUIRE(name);
    lock_take(&repos->lock);
    struct hold **at = find_locked(repos, name), *gone = NULL;
    if (*at && --(*at)->count == 0) {
        gone = *at;
        *at = gone->next;
    }
    lock_drop(&repos->lock);
    if (gone)
        free(gone->name);
    free(gone);
}

bool hold_is_taken_locked(const struct repos *repos, const char *name)
{
    for (const struct hold *at = repos->holds; at; at = at->next)
        if (strcmp(at->name, name) == 0)
            return true;
    return false;
}

/* --- credentials --------------------------------------------------------------------------- */

static bool file_names_host(const char *path, const char *host)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    return path && file_read(path, &text, &ignored) == 0 && strstr(buf_str(&text), host) != NULL;
}

/* True for hosts that the owner has named: the owner's key is never offered to a host that only a
 * caller names. */
static bool is_owners_host(const struct config *config, const struct git_url *url)
{
    return git_host_is_forge(url->host) || git_url_is_allowed(url, &config->git_allow) ||
           file_names_host(config->git_known_hosts, url->host);
}

static void name_credential(struct repo_secret *secret)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf name = BUF_INIT(sizeof(secret->name));
    const char *what = secret->key ? secret->key : secret->token;
    if (!what)
        return;
    crypto_sha256(what, strlen(what), digest);
    str_add_hex(&name, digest, sizeof(digest));
    snprintf(secret->name, sizeof(secret->name), "%s", buf_str(&name));
}

/* Copies a credential, because its configuration may be replaced meanwhile. NULL stays NULL. */
static const char *own_token(struct repo_secret *secret, const char *token)
{
    if (!token)
        return NULL;
    buf_adds(&secret->owned, token);
    return buf_ok(&secret->owned) ? buf_str(&secret->owned) : NULL;
}

int repo_secret_choose(const struct repos *repos, const struct repo_wish *wish,
                       const struct git_url *url, struct repo_secret *secret, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    secret->key = wish->key;
    secret->token = wish->key ? NULL : wish->token;
    if (!secret->key && !secret->token && url->scheme == GIT_SSH && config->git_ssh_key_file &&
        is_owners_host(config, url)) {
        if (file_read(config->git_ssh_key_file, &secret->owned, err))
            return err_wrap(err, "GIT_SSH_KEY_FILE");
        secret->key = buf_str(&secret->owned);
    }
    if (!secret->key && !secret->token && strcmp(url->host, "github.com") == 0)
        secret->token = own_token(secret, config->github_token);
    name_credential(secret);
    return 0;
}

void repo_secret_done(struct repo_secret *secret)
{
    buf_wipe(&secret->owned);
}

int repos_lend(struct repos *repos, const struct repo_wish *wish,
               void (*use)(const char *key, const char *token, void *arg), void *arg,
               struct err *err)
{
    struct git_url url;
    AUTO(secret) struct repo_secret secret = {.owned = BUF_INIT(1u << 20)};
    if (git_url_parse(wish->url, &url, err) || repo_secret_choose(repos, wish, &url, &secret, err))
        return -1;
    use(secret.key, secret.token, arg);
    return 0;
}

/* --- jobs ---------------------------------------------------------------------------------- */

void repo_job_begin(const struct repos *repos, struct json_writer *w, struct buf *out,
                    const char *op, int timeout_ms)
{
    json_write(w, out);
    json_open_object(w, NULL);
    json_add_text(w, "op", op);
    json_add_int(w, "timeoutMs", timeout_ms);
    json_add_int(w, "uid", repos->config.uid);
    json_add_int(w, "gid", repos->config.gid);
}

void repo_job_add_remote(const struct repos *repos, struct json_writer *w, const char *url,
                         const struct repo_secret *secret)
{
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    json_add_text(w, "url", url);
    if (secret->token)
        json_add_text(w, "token", secret->token);
    if (secret->key)
        json_add_text(w, "key", secret->key);
    json_add_text(w, "credential", secret->name);
    json_add_text(w, "knownHosts", repos->known_hosts);
    if (config->git_known_hosts)
        json_add_text(w, "knownHostsOwner", config->git_known_hosts);
    json_add_texts(w, "allow", &config->git_allow);
}

struct json *repo_job_run(const struct repos *repos, struct json_writer *w, int timeout_ms,
                          const struct work_stop *stop, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(repos->config.config);
    json_close(w);
    const struct call call = {.launcher = repos->config.launcher,
                              .marker = repos->config.marker,
                              .job = w->out,
                              .uid = geteuid(),
                              .gid = getegid(),
                              .timeout_ms = timeout_ms,
                              .file_mb_max = config->repo_cache_max_mb,
                              .stop = stop ? *stop : (struct work_stop){0}};
    return call_run(&call, err);
}
