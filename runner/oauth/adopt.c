#include "runner/oauth/adopt.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/oauth/credentials.h"
#include "runner/oauth/login_lock.h"
#include "runner/oauth/spare.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Appends `text` and those members of `old` that are not about a login. */
static int merge(const struct buf *old, const struct buf *text, struct buf *out, struct err *err)
{
    struct json_writer w;
    struct err ignored;
    size_t len;
    AUTO(json) struct json *before = json_parse(buf_str(old), old->len, &ignored);
    AUTO(json) struct json *now = json_parse(buf_str(text), text->len, err);
    if (!now)
        return -1;
    json_write(&w, out);
    json_open_object(&w, NULL);
    for (const struct json *at = json_first(now); at; at = json_next(at)) {
        const char *raw = json_raw_member(buf_str(text), text->len, json_name(at), &len);
        json_add_raw(&w, json_name(at), raw, len);
    }
    bool nested = json_get(before, "claudeAiOauth") != NULL; /* Otherwise its members are the
                                                              * login. */
    for (const struct json *at = json_first(before); nested && at; at = json_next(at)) {
        const char *raw = json_raw_member(buf_str(old), old->len, json_name(at), &len);
        if (!json_get(now, json_name(at)))
            json_add_raw(&w, json_name(at), raw, len);
    }
    json_close(&w);
    return buf_check(out, "the credentials", err);
}

/* Makes the file that will be replaced; a new one gets the owner of its directory. */
static int make_file(const char *path, struct err *err)
{
    struct stat st;
    AUTO(str) char *copy = strdup(path);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? 0 : err_sys(err, "cannot make '%s'", path);
    if (!copy || stat(dirname(copy), &st) || (fchown(fd, st.st_uid, st.st_gid) && geteuid() == 0))
        return err_sys(err, "cannot give '%s' to its owner", path);
    return 0;
}

static int replace(const char *path, const struct buf *text, const struct login *login,
                   struct err *err)
{
    AUTO(buf_wipe) struct buf old = BUF_INIT(LOGIN_FILE_MAX), next = BUF_INIT(2 * LOGIN_FILE_MAX);
    AUTO(spare) struct spare spare = SPARE_INIT;
    const struct login_tokens tokens = {.access_token = login->access_token,
                                        .refresh_token = login->refresh_token};
    if (file_read(path, &old, err) || merge(&old, text, &next, err) ||
        spare_make(&spare, path, err))
        return -1;
    return spare_use(&spare, path, &next, &tokens, err);
}

int adopt_login(const char *from, const char *to, const _Atomic bool *stop, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    if (file_read(from, &text, err) == 0)
        login_parse(buf_str(&text), text.len, &login);
    if (!login.access_token)
        return err_set(err, ERR_UPSTREAM, "the Claude CLI has written no login");
    AUTO(login_lock) struct login_lock *lock = login_lock_take(to, stop, err);
    if (!lock || make_file(to, err))
        return -1;
    AUTO(str) char *real = realpath(to, NULL); /* A link stays, and its target is replaced. */
    return real ? replace(real, &text, &login, err) : err_sys(err, "cannot find '%s'", to);
}
