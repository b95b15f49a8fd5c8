#include "runner/oauth/refresh.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "net/net.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS 30000
#define LOCK_STALE_S 30 /* the CLI renews its lock every few seconds */
#define LOCK_LOOK_MS 50
#define CALL_MS 20000
#define SPARE_BYTES 32768 /* more than a pair of tokens can grow by */
#define SCOPE \
    "user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload"

/* --- the CLI's lock ------------------------------------------------------------------------ */

static int lock_path_of(const char *path, char lock[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    int n = snprintf(lock, PATH_MAX, "%.*s/.oauth_refresh.lock", (int)(slash - path), path);
    return n > 0 && n < PATH_MAX ? 0 : -1;
}

/* A lock is a directory; one that nobody has renewed for long belongs to a process that died. */
static void clear_stale(const char *lock)
{
    struct stat st;
    if (stat(lock, &st) == 0 && clock_real_ms() / 1000 - st.st_mtim.tv_sec > LOCK_STALE_S)
        rmdir(lock);
}

static int take_lock(const char *lock, struct err *err)
{
    int64_t deadline = clock_mono_ms() + LOCK_WAIT_MS;
    while (mkdir(lock, 0700)) {
        if (errno != EEXIST)
            return err_sys(err, "cannot take the lock '%s'", lock);
        clear_stale(lock);
        if (clock_mono_ms() > deadline)
            return err_set(err, ERR_BUSY, "another program holds '%s'", lock);
        poll(NULL, 0, LOCK_LOOK_MS);
    }
    return 0;
}

void refresh_touch_lock(const char *path)
{
    char lock[PATH_MAX];
    if (lock_path_of(path, lock) == 0)
        utimensat(AT_FDCWD, lock, NULL, 0);
}

/* --- the request --------------------------------------------------------------------------- */

static void print_request(const struct config *config, const struct login *login, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "grant_type", "refresh_token");
    json_add_text(&w, "refresh_token", login->refresh_token);
    json_add_text(&w, "client_id", config->oauth_client_id);
    json_add_text(&w, "scope", login->scopes && *login->scopes ? login->scopes : SCOPE);
    json_close(&w);
}

static int ask(const struct config *config, const struct login *login,
               struct net_answer *ret_answer, struct err *err)
{
    AUTO(buf) struct buf body = BUF_INIT(65536);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    strlist_add(&headers, "Content-Type: application/json");
    strlist_add(&headers, "Accept: application/json");
    print_request(config, login, &body);
    const struct net_request request = {.method = "POST",
                                        .url = config->oauth_token_url,
                                        .headers = &headers,
                                        .body = body.data,
                                        .body_len = body.len,
                                        .reach = NET_TRUSTED,
                                        .total_ms = CALL_MS,
                                        .answer_max = 65536};
    int rc = buf_ok(&body) ? net_call(&request, ret_answer, err)
                           : err_set(err, ERR_INTERNAL, "out of memory");
    if (body.data)
        explicit_bzero(body.data, body.cap);
    return rc;
}

/* 400 and 401 with an OAuth error of the token's: it will never be taken again. */
static enum refresh_result judge_refusal(const struct net_answer *answer, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(buf_str(&answer->body), answer->body.len, &ignored);
    const char *error = json_text(json_get(root, "error"));
    if (!error) /* Anthropic's other shape: {"error":{"type":…}} */
        error = json_text(json_get(json_get(root, "error"), "type"));
    bool final = (answer->status == 400 || answer->status == 401) && error &&
                 (strcmp(error, "invalid_grant") == 0 || strcmp(error, "invalid_client") == 0 ||
                  strcmp(error, "unauthorized_client") == 0);
    if (final) {
        err_set(err, ERR_LOGIN, "OAuth login needed: the token server refused the refresh (%.40s)",
                error);
        return REFRESH_REFUSED;
    }
    err_set(err, ERR_UPSTREAM, "the token server answered %d (%.80s)", answer->status,
            error ? error : "no reason given");
    return REFRESH_FAILED;
}

/* --- the file ------------------------------------------------------------------------------ */

/* The file that will take the old one's place. Its room on the disk is taken before the token
 * server is asked: afterwards the old refresh token is spent, and the new one must not be lost. */
struct spare {
    char path[PATH_MAX];
    int fd;
};

static int make_spare(struct spare *spare, const char *path, struct err *err)
{
    struct stat st;
    int n = snprintf(spare->path, sizeof(spare->path), "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof(spare->path))
        return err_set(err, ERR_INVALID, "path too long: '%.80s'", path);
    unlink(spare->path);
    spare->fd = open(spare->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spare->fd < 0 || stat(path, &st))
        return err_sys(err, "cannot make '%s'", spare->path);
    if (fchown(spare->fd, st.st_uid, st.st_gid) && geteuid() == 0)
        return err_sys(err, "cannot give '%s' to its owner", spare->path);
    errno = posix_fallocate(spare->fd, 0, st.st_size + SPARE_BYTES);
    return errno ? err_sys(err, "no room for new credentials; not refreshing") : 0;
}

static void drop_spare(struct spare *spare)
{
    if (spare->fd >= 0)
        unlink(spare->path);
    fd_close(&spare->fd);
}

/* True when the spare, read back from the disk, is what it is meant to be. */
static bool reads_back(const struct spare *spare, size_t len, const char *access_token)
{
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    char *to = buf_room(&text, len);
    if (!to || fd_pread_full(spare->fd, to, len, 0) != (ssize_t)len)
        return false;
    buf_grew(&text, len);
    login_parse(text.data, text.len, &login);
    explicit_bzero(text.data, text.cap);
    return login.access_token && strcmp(login.access_token, access_token) == 0;
}

static int use_spare(struct spare *spare, const char *path, const struct buf *text,
                     const char *access_token, struct err *err)
{
    if (fd_pwrite_all(spare->fd, text->data, text->len, 0) ||
        ftruncate(spare->fd, (off_t)text->len) || fsync(spare->fd))
        return err_sys(err, "cannot write '%s'", spare->path);
    if (!reads_back(spare, text->len, access_token))
        return err_set(err, ERR_INTERNAL, "the new credentials do not read back");
    if (rename(spare->path, path))
        return err_sys(err, "cannot replace '%s'", path);
    fd_close(&spare->fd);
    return file_sync_directory(path, err);
}

static enum refresh_result keep_answer(struct spare *spare, const char *path, const struct buf *old,
                                       const struct net_answer *answer, struct err *err)
{
    int64_t expires_in = 0;
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(json) struct json *root = json_parse(buf_str(&answer->body), answer->body.len, err);
    json_int(json_get(root, "expires_in"), &expires_in);
    const struct login_tokens tokens = {
        .access_token = json_text(json_get(root, "access_token")),
        .refresh_token = json_text(json_get(root, "refresh_token")),
        .expires_ms = expires_in > 0 ? clock_real_ms() + expires_in * 1000 : 0};
    if (!tokens.access_token) {
        err_set(err, ERR_UPSTREAM, "the token server's answer holds no access_token");
        return REFRESH_FAILED;
    }
    int rc = login_rewrite(buf_str(old), old->len, &tokens, &text, err) ||
             use_spare(spare, path, &text, tokens.access_token, err);
    if (text.data)
        explicit_bzero(text.data, text.cap);
    return rc ? REFRESH_FAILED : REFRESH_DONE;
}

static enum refresh_result exchange(const struct config *config, const char *path,
                                    const struct buf *text, const struct login *login,
                                    struct err *err)
{
    struct spare spare = {.fd = -1};
    AUTO(net_answer) struct net_answer answer = {0};
    enum refresh_result result = REFRESH_FAILED;
    if (make_spare(&spare, path, err) == 0 && ask(config, login, &answer, err) == 0)
        result = answer.status == 200 ? keep_answer(&spare, path, text, &answer, err)
                                      : judge_refusal(&answer, err);
    if (answer.body.data)
        explicit_bzero(answer.body.data, answer.body.cap);
    drop_spare(&spare);
    return result;
}

static enum refresh_result refresh_locked(const struct config *config, const char *path,
                                          const char *old_token, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    if (file_read(path, &text, err))
        return REFRESH_FAILED;
    login_parse(buf_str(&text), text.len, &login);
    if (login.access_token && old_token && strcmp(login.access_token, old_token) != 0)
        return REFRESH_DONE; /* somebody was faster */
    if (!login.refresh_token) {
        err_set(err, ERR_LOGIN, "OAuth login needed: there is no refresh token");
        return REFRESH_REFUSED;
    }
    enum refresh_result result = exchange(config, path, &text, &login, err);
    explicit_bzero(text.data, text.cap);
    return result;
}

enum refresh_result refresh_login(const struct config *config, const char *path,
                                  const char *old_token, struct err *err)
{
    char real[PATH_MAX], lock[PATH_MAX];
    if (!realpath(path, real)) { /* a link is kept: what it points to is replaced */
        err_sys(err, "cannot find '%s'", path);
        return REFRESH_FAILED;
    }
    if (lock_path_of(path, lock) || take_lock(lock, err))
        return REFRESH_FAILED;
    enum refresh_result result = refresh_locked(config, real, old_token, err);
    rmdir(lock);
    return result;
}
