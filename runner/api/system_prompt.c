#include "runner/api/system_prompt.h"

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/request/request.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Distinguishes one version of a file from another. */
struct version {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct system_prompt {
    struct lock lock; /* guards the fields below; not held while the file is read */
    char *path;       /* file that the text is from; NULL: none was read yet */
    struct version version;
    char *text; /* the last valid text */
};

struct system_prompt *system_prompt_new(void)
{
    struct system_prompt *prompt = calloc(1, sizeof(*prompt));
    if (prompt)
        lock_init(&prompt->lock);
    return prompt;
}

void system_prompt_free(struct system_prompt *prompt)
{
    if (!prompt)
        return;
    lock_done(&prompt->lock);
    free(prompt->path);
    free(prompt->text);
    free(prompt);
}

/* The version of a file; a missing file is a version, too. */
static struct version look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return (struct version){.size = -1};
    return (struct version){
        .device = st.st_dev, .inode = st.st_ino, .size = st.st_size, .changed = st.st_ctim};
}

static bool is_same(const struct version *a, const struct version *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static char *read_text(const char *path, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(REQUEST_ARG_MAX);
    if (file_read(path, &text, err))
        return NULL;
    const char *data = buf_str(&text);
    if (strlen(data) != text.len || !str_is_utf8(data, text.len) || str_is_blank(data, text.len)) {
        err_set(err, ERR_INVALID, "'%s' is not UTF-8 text, or blank", path);
        return NULL;
    }
    return buf_steal(&text);
}

/* Stores a version that was read (text NULL: it is invalid). True when that is news. */
static bool install_locked(struct system_prompt *prompt, const char *path,
                           const struct version *version, char *text) HOLDS(prompt->lock);
static bool install_locked(struct system_prompt *prompt, const char *path,
                           const struct version *version, char *text)
{
    bool moved = !prompt->path || strcmp(prompt->path, path) != 0;
    bool news = moved || !is_same(&prompt->version, version);
    if (moved) {
        free(prompt->path);
        prompt->path = strdup(path);
    }
    if (moved || text) { /* The last valid text of another file does not count. */
        free(prompt->text);
        prompt->text = text;
    }
    prompt->version = *version;
    return news;
}

static int copy_locked(const struct system_prompt *prompt, char **ret_text, struct err *err)
    HOLDS(prompt->lock);
static int copy_locked(const struct system_prompt *prompt, char **ret_text, struct err *err)
{
    if (!prompt->text)
        return err_set(err, ERR_CONFIG, "there is no usable system prompt; the log says why");
    char *copy = strdup(prompt->text);
    if (!copy)
        return err_sys(err, "system prompt");
    *ret_text = copy;
    return 0;
}

int system_prompt_get(struct system_prompt *prompt, const char *path, char **ret_text,
                      struct err *err)
{
    struct err trouble;
    *ret_text = NULL;
    if (!path)
        return 0;
    struct version version = look_at(path);
    lock_take(&prompt->lock);
    bool known =
        prompt->path && strcmp(prompt->path, path) == 0 && is_same(&prompt->version, &version);
    if (!known) {
        lock_drop(&prompt->lock);
        char *text = read_text(path, &trouble);
        lock_take(&prompt->lock);
        bool news = install_locked(prompt, path, &version, text);
        if (news && !text)
            log_error("config", "system prompt: %s%s", trouble.msg,
                      prompt->text ? "; the last good text stays in force" : "");
        else if (news)
            log_info("config", "system prompt read from '%s'", path);
    }
    int rc = copy_locked(prompt, ret_text, err);
    lock_drop(&prompt->lock);
    return rc;
}
