#include "git/remote.h"

#include "base/fd.h"
#include "base/str.h"
#include "git/git_private.h"
#include "git/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES_MAX 131072
#define SECRET_BYTES_MAX 16384

/* --- secrets ------------------------------------------------------------------------------- */

/* Makes a file in memory that only we can read. Returns its descriptor. */
static int secret_file(const struct buf *text, struct err *err)
{
    AUTO(fd) int fd = memfd_create("secret", MFD_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0600) || fd_write_all(fd, buf_str(text), text->len))
        return err_sys(err, "cannot keep a secret in memory");
    int out = fd;
    fd = -1;
    return out;
}

/* The user name that a forge expects with a token; other hosts accept any. */
static const char *token_user(const char *host)
{
    static const struct {
        const char *host;
        const char *user;
    } users[] = {{"gitlab.com", "oauth2"}, {"bitbucket.org", "x-token-auth"}};
    for (size_t i = 0; i < COUNT_OF(users); i++)
        if (strcmp(host, users[i].host) == 0)
            return users[i].user;
    return "x-access-token";
}

/* Splits a token "user:password", or one that is only a password. */
static const char *split_token(const struct remote *remote, const char **ret_user, int *ret_len)
{
    const char *token = remote->config->token, *colon = strchr(token, ':');
    *ret_user = colon ? token : token_user(remote->url.host);
    *ret_len = colon ? (int)(colon - token) : (int)strlen(*ret_user);
    return colon ? colon + 1 : token;
}

void remote_add_authorization(const struct remote *remote, struct buf *out)
{
    const char *user;
    int len;
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_BYTES_MAX);
    if (remote->token_fd < 0)
        return;
    const char *password = split_token(remote, &user, &len);
    buf_addf(&text, "%.*s:%s", len, user, password);
    buf_adds(out, "Authorization: Basic ");
    str_add_base64(out, BASE64_STD, buf_str(&text), text.len);
}

static int prepare_token(struct remote *remote, struct err *err)
{
    const char *user;
    int len;
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_BYTES_MAX);
    if (strpbrk(remote->config->token, "\r\n"))
        return err_set(err, ERR_INVALID, "the git token holds a line end");
    const char *password = split_token(remote, &user, &len);
    buf_addf(&text, "username=%.*s\npassword=%s\n", len, user, password);
    remote->token_fd = buf_check(&text, "the git token", err) ? -1 : secret_file(&text, err);
    return remote->token_fd < 0 ? -1 : 0;
}

static int prepare_key(struct remote *remote, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(KEY_BYTES_MAX);
    if (key_normalize(remote->config->key, &text, err))
        return -1;
    remote->key_fd = secret_file(&text, err);
    return remote->key_fd < 0 ? -1 : 0;
}

/* --- host keys ----------------------------------------------------------------------------- */

/* The host's name in the form of known_hosts. */
static void host_alias(const struct git_url *url, char *alias, size_t size)
{
    if (url->port)
        snprintf(alias, size, "[%s]:%d", url->host, url->port);
    else
        snprintf(alias, size, "%s", url->host);
}

/* Asks ssh-keygen about the host in a file: -F finds it, -l gives fingerprints. */
static int ask_keygen(const struct remote *remote, const char *file, bool fingerprint,
                      struct buf *out)
{
    char alias[300];
    struct err ignored;
    AUTO(program)
    struct program program = {.secret_fd = -1, .deadline_ms = remote->config->deadline_ms};
    host_alias(&remote->url, alias, sizeof(alias));
    strlist_add(&program.argv, "ssh-keygen");
    if (fingerprint)
        strlist_add(&program.argv, "-l");
    strlist_add(&program.argv, "-F");
    strlist_add(&program.argv, alias);
    strlist_add(&program.argv, "-f");
    strlist_add(&program.argv, file);
    program_add_environment(&program.env);
    return program_run(&program, out, &ignored);
}

static bool is_known(const struct remote *remote)
{
    const char *const files[] = {remote->config->known_hosts, remote->config->known_hosts_owner};
    if (git_host_is_forge(remote->url.host))
        return true;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        AUTO(buf) struct buf out = BUF_INIT(65536);
        if (files[i] && access(files[i], R_OK) == 0 &&
            ask_keygen(remote, files[i], false, &out) == 0 && out.len > 0)
            return true;
    }
    return false;
}

void remote_learnt_key(const struct remote *remote, struct buf *out)
{
    AUTO(buf) struct buf text = BUF_INIT(65536);
    if (!remote->host_was_new || ask_keygen(remote, remote->config->known_hosts, true, &text))
        return;
    const char *at = strstr(buf_str(&text), "SHA256:");
    if (at)
        buf_add(out, at, strcspn(at, " \r\n"));
}

/* --- ssh ----------------------------------------------------------------------------------- */

void git_add_quoted(struct buf *out, const char *text)
{
    buf_addc(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            buf_adds(out, "'\\''");
        else
            buf_addc(out, *text);
    }
    buf_addc(out, '\'');
}

static void add_option(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_option(struct buf *out, const char *fmt, ...)
{
    va_list ap;
    AUTO(buf) struct buf text = BUF_INIT(16384);
    va_start(ap, fmt);
    buf_addv(&text, fmt, ap);
    va_end(ap);
    buf_adds(out, " -o ");
    git_add_quoted(out, buf_str(&text));
}

/* Makes the ssh command. It connects to the address that was checked and looks the host key up
 * under the name. ssh closes inherited descriptors, so it opens its key as a file of this
 * process. */
static int make_ssh_command(struct remote *remote, struct err *err)
{
    static const char *const fixed[] = {
        "BatchMode=yes",         "IdentitiesOnly=yes",
        "IdentityAgent=none",    "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",     "HashKnownHosts=no",
        "ConnectTimeout=20",     "ServerAliveInterval=15",
        "ServerAliveCountMax=4", "ControlMaster=no",
        "ForwardAgent=no",       "PermitLocalCommand=no",
        "CheckHostIP=no",        "LogLevel=ERROR",
    };
    const struct remote_config *config = remote->config;
    const char *owner = config->known_hosts_owner;
    char alias[300];
    AUTO(buf) struct buf text = BUF_INIT(32768);
    host_alias(&remote->url, alias, sizeof(alias));
    remote->host_was_new = !is_known(remote);
    buf_adds(&text, "ssh -F /dev/null");
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        add_option(&text, "%s", fixed[i]);
    add_option(&text, "HostName=%s", remote->address);
    add_option(&text, "HostKeyAlias=%s", alias);
    add_option(&text, "StrictHostKeyChecking=%s", remote->host_was_new ? "accept-new" : "yes");
    add_option(&text, "UserKnownHostsFile=\"%s\" \"%s.forges\"%s%s%s", config->known_hosts,
               config->known_hosts, owner ? " \"" : "", owner ? owner : "", owner ? "\"" : "");
    if (remote->key_fd >= 0)
        add_option(&text, "IdentityFile=/proc/%d/fd/%d", (int)getpid(), remote->key_fd);
    else
        add_option(&text, "IdentityFile=none");
    remote->ssh_command = buf_steal(&text);
    return remote->ssh_command ? 0 : err_sys(err, "ssh");
}

/* --- all of it ----------------------------------------------------------------------------- */

static bool uses_proxy(const struct remote *remote)
{
    const char *proxy = remote->url.scheme == GIT_HTTPS ? getenv("https_proxy") : NULL;
    return proxy && *proxy;
}

static int find_address(struct remote *remote, struct err *err)
{
    const struct remote_config *config = remote->config;
    if (git_url_check(&remote->url, config->allow, err))
        return -1;
    if (remote->url.scheme == GIT_FILE || uses_proxy(remote))
        return 0;
    return resolve_host(remote->url.host, git_url_is_allowed(&remote->url, config->allow),
                        remote->address, err);
}

int remote_open(struct remote *remote, const struct remote_config *config, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(sizeof(remote->text));
    remote->config = config;
    if (git_url_parse(config->url, &remote->url, err))
        return -1;
    if (config->key)
        git_url_use_ssh(&remote->url);
    else if (config->token)
        git_url_use_https(&remote->url);
    git_url_print(&remote->url, &text);
    snprintf(remote->text, sizeof(remote->text), "%s", buf_str(&text));
    if (find_address(remote, err))
        return -1;
    bool ssh = remote->url.scheme == GIT_SSH;
    if (!ssh && config->token && remote->url.scheme != GIT_FILE)
        return prepare_token(remote, err);
    if (ssh && config->key && prepare_key(remote, err))
        return -1;
    return ssh ? make_ssh_command(remote, err) : 0;
}

void remote_close(struct remote *remote)
{
    fd_close(&remote->token_fd);
    fd_close(&remote->key_fd);
    free(remote->ssh_command);
    remote->ssh_command = NULL;
}

static void add_setting(struct program *program, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void add_setting(struct program *program, const char *fmt, ...)
{
    va_list ap;
    AUTO(buf) struct buf text = BUF_INIT(16384);
    va_start(ap, fmt);
    buf_addv(&text, fmt, ap);
    va_end(ap);
    strlist_add(&program->argv, "-c");
    strlist_add(&program->argv, buf_str(&text));
}

void remote_pin(const struct remote *remote, struct buf *out)
{
    const struct git_url *url = &remote->url;
    int port = url->port ? url->port : url->scheme == GIT_HTTPS ? 443 : 80;
    bool six = strchr(remote->address, ':') != NULL;
    if (remote->address[0])
        buf_addf(out, "%s:%d:%s%s%s", url->host, port, six ? "[" : "", remote->address,
                 six ? "]" : "");
}

static void add_http_settings(const struct remote *remote, struct program *program)
{
    AUTO(buf) struct buf pin = BUF_INIT(1024);
    remote_pin(remote, &pin);
    add_setting(program, "http.followRedirects=false");
    add_setting(program, "http.lowSpeedLimit=1");
    add_setting(program, "http.lowSpeedTime=60");
    add_setting(program, "credential.helper=");
    if (pin.len > 0)
        add_setting(program, "http.curloptResolve=%s", buf_str(&pin));
    if (remote->config->ca_file)
        add_setting(program, "http.sslCAInfo=%s", remote->config->ca_file);
    if (remote->token_fd >= 0)
        add_setting(program,
                    "credential.helper=!f() { test \"$1\" != get || cat /proc/self/fd/%d; }; f",
                    PROGRAM_SECRET_FD);
}

void remote_program(const struct remote *remote, const char *git_dir, struct program *program)
{
    static const char *const schemes[] = {
        [GIT_HTTPS] = "https", [GIT_HTTP] = "http", [GIT_SSH] = "ssh", [GIT_FILE] = "file"};
    const char *const passed_on[] = {"https_proxy", "no_proxy"};
    strlist_add(&program->argv, "git");
    strlist_addf(&program->argv, "--git-dir=%s", git_dir);
    add_setting(program, "core.hooksPath=/dev/null");
    add_setting(program, "gc.auto=0");
    add_setting(program, "maintenance.auto=false");
    add_setting(program, "safe.directory=*");
    add_setting(program, "fetch.unpackLimit=1");
    add_setting(program, "transfer.unpackLimit=1");
    add_setting(program, "pack.threads=2");
    add_setting(program, "submodule.recurse=false");
    program_add_environment(&program->env);
    strlist_addf(&program->env, "GIT_ALLOW_PROTOCOL=file:%s", schemes[remote->url.scheme]);
    if (remote->ssh_command) {
        strlist_addf(&program->env, "GIT_SSH_COMMAND=%s", remote->ssh_command);
        strlist_add(&program->env, "GIT_SSH_VARIANT=ssh");
    }
    if (remote->url.scheme == GIT_HTTPS || remote->url.scheme == GIT_HTTP)
        add_http_settings(remote, program);
    for (size_t i = 0; i < COUNT_OF(passed_on); i++)
        if (getenv(passed_on[i]))
            strlist_addf(&program->env, "%s=%s", passed_on[i], getenv(passed_on[i]));
    program->secret_fd = remote->token_fd;
    program->deadline_ms = remote->config->deadline_ms;
}
