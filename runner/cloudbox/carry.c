#include "runner/cloudbox/carry.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "google/storage.h"
#include "pack/tgz.h"
#include "pack/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define BOX_BYTES_MAX (INT64_C(64) << 30)
#define GONE_BYTES_MAX (64u << 20)
#define SYNCED_BYTES_MAX 65536
#define PULL_TRIES 4 /* layers go while they are read: somebody has written anew */

/* Past either, what is left of all layers becomes one. */
#define LAYERS_FULL 16
#define LAYERS_FREE_BYTES (INT64_C(8) << 20)

static int open_box(const struct carry_place *place, struct err *err)
{
    AUTO(str) char *path = path_join(place->dir, "box");
    int box = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    return box < 0 ? err_sys(err, "cannot open the session's box") : box;
}

/* --- synced.json --------------------------------------------------------------------------- */

static int write_synced(const struct carry_place *place, const struct box_state *state,
                        struct err *err)
{
    struct json_writer w;
    AUTO(str) char *path = path_join(place->dir, "synced.json");
    AUTO(buf) struct buf text = BUF_INIT(SYNCED_BYTES_MAX);
    json_write(&w, &text);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < state->layer_count; i++)
        json_add_text(&w, NULL, state->layers[i].name);
    json_close(&w);
    if (!path || buf_check(&text, "synced.json", err))
        return path ? -1 : err_sys(err, "session");
    return file_replace(path, text.data, text.len, 0600, err);
}

/* How many of the state's layers the box has already; -1: it is to be filled from nothing. */
static int count_synced(const struct carry_place *place, const struct box_state *state)
{
    int count = 0;
    struct err ignored;
    AUTO(str) char *path = path_join(place->dir, "synced.json");
    AUTO(buf) struct buf text = BUF_INIT(SYNCED_BYTES_MAX);
    if (!path || file_read(path, &text, &ignored))
        return -1;
    AUTO(json) struct json *synced = json_parse(buf_str(&text), text.len, &ignored);
    if (!synced)
        return -1;
    for (const struct json *at = json_first(synced); at; at = json_next(at), count++)
        if ((size_t)count >= state->layer_count || !json_text(at) ||
            strcmp(json_text(at), state->layers[count].name) != 0)
            return -1;
    return count;
}

void carry_forget(const struct carry_place *place)
{
    AUTO(str) char *path = path_join(place->dir, "synced.json");
    if (path)
        unlink(path);
}

/* --- pulling ------------------------------------------------------------------------------- */

struct fetching {
    const struct carry_place *place;
    int fd;
};

static int keep_piece(const char *data, size_t len, void *arg)
{
    const struct fetching *fetching = arg;
    return fd_write_all(fetching->fd, data, len);
}

static bool is_stopped(void *arg)
{
    const struct carry_place *place = ((const struct fetching *)arg)->place;
    return place->stopped && place->stopped(place->arg);
}

static ssize_t read_piece(void *data, size_t max, void *arg, struct err *err)
{
    const struct fetching *fetching = arg;
    if (is_stopped(arg))
        return err_set(err, ERR_BUSY, "the session's files are not wanted any more");
    ssize_t n = read(fetching->fd, data, max);
    return n < 0 ? err_sys(err, "session") : n;
}

/* An object in a file without a name, at its beginning. */
static int fetch(const struct carry_place *place, const char *name, int *ret_fd, struct err *err)
{
    AUTO(fd) int fd = file_nameless(place->dir, 0);
    struct fetching fetching = {place, fd};
    const struct storage_sink sink = {.write = keep_piece, .stop = is_stopped, .arg = &fetching};
    if (fd < 0)
        return err_sys(err, "cannot make a file for the session");
    if (storage_read(place->cloud->google, place->cloud->bucket, name, 0, -1, &sink, err))
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "session");
    *ret_fd = fd;
    fd = -1;
    return 0;
}

/* The directory that holds it; -1 when that is not there. */
static int open_above(int box, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    AUTO(str) char *above = slash ? strndup(path, (size_t)(slash - path)) : NULL;
    *ret_name = slash ? slash + 1 : path;
    return above ? beneath_open(box, above, O_PATH | O_DIRECTORY, 0, BENEATH_NO_LINKS) : -1;
}

static void remove_one(int box, const char *path)
{
    const char *name;
    AUTO(fd) int above = open_above(box, path, &name);
    if (above >= 0 && unlinkat(above, name, 0) && errno == EISDIR)
        unlinkat(above, name, AT_REMOVEDIR);
}

/* Last names first: what is in a directory goes before it. */
static int apply_gone(const struct carry_place *place, int box, const struct box_layer *layer,
                      struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf list = BUF_INIT(GONE_BYTES_MAX);
    if (!layer->gone)
        return 0;
    box_layer_name(place->id, layer, ".gone", name);
    if (storage_get(place->cloud->google, place->cloud->bucket, name, &list, NULL, err))
        return -1;
    for (size_t end = list.len; end > 0;) {
        size_t at = end - 1;
        while (at > 0 && list.data[at - 1])
            at--;
        remove_one(box, list.data + at);
        end = at;
    }
    return 0;
}

static int apply_layer(const struct carry_place *place, int box, const struct box_layer *layer,
                       struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    struct unpack_result result;
    const struct unpack_limits limits = {.bytes = BOX_BYTES_MAX,
                                         .entries = MANIFEST_ENTRIES_MAX,
                                         .exact = true,
                                         .owned = geteuid() == 0,
                                         .uid = place->uid,
                                         .gid = place->gid};
    AUTO(fd) int fd = -1;
    box_layer_name(place->id, layer, ".tgz", name);
    if (fetch(place, name, &fd, err) || apply_gone(place, box, layer, err))
        return -1;
    struct fetching fetching = {place, fd};
    return unpack_below(box, read_piece, &fetching, &limits, &result, err);
}

static int own_part(const struct carry_place *place, const char *path, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) || chmod(path, mode))
        return err_sys(err, "cannot make the session's '%s'", path);
    return geteuid() == 0 ? path_own(path, place->uid, place->gid, err) : 0;
}

/* The parts stay, for somebody may look at them; what is in them goes. */
static int empty_box(const struct carry_place *place, struct err *err)
{
    static const char *const kept[] = {"home/user", NULL};
    for (const char *const *part = manifest_parts; *part; part++) {
        AUTO(buf) struct buf path = BUF_INIT(8192);
        buf_addf(&path, "%s/box/%s", place->dir, *part);
        if (buf_check(&path, "the session's directory", err))
            return -1;
        int fd = open(buf_str(&path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
            fd_close(&fd);
            return err_sys(err, "cannot empty the session's '%s'", *part);
        }
        struct dirent *entry;
        int rc = 0;
        while (rc == 0 && (entry = readdir(dir))) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            AUTO(str) char *below = path_join(buf_str(&path), entry->d_name);
            rc = below ? path_remove_tree(below, err) : err_sys(err, "session");
        }
        closedir(dir);
        if (rc)
            return -1;
    }
    for (const char *const *at = kept; *at; at++) {
        AUTO(buf) struct buf path = BUF_INIT(8192);
        buf_addf(&path, "%s/box/%s", place->dir, *at);
        if (own_part(place, buf_str(&path), 0755, err))
            return -1;
    }
    return 0;
}

static int pull_once(const struct carry_place *place, struct box_state *state,
                     struct carry_count *count, struct err *err)
{
    AUTO(fd) int box = open_box(place, err);
    if (box < 0)
        return -1;
    int have = count_synced(place, state);
    if (have < 0 && empty_box(place, err))
        return -1;
    size_t first = have < 0 ? 0 : (size_t)have;
    if (have >= 0 && first == state->layer_count)
        return write_synced(place, state, err);
    carry_forget(place);
    for (size_t i = first; i < state->layer_count; i++) {
        if (apply_layer(place, box, &state->layers[i], err))
            return -1;
        count->bytes += state->layers[i].bytes;
        count->layers++;
    }
    return write_synced(place, state, err);
}

int carry_pull(const struct carry_place *place, struct box_state *ret_state,
               struct carry_count *ret_count, struct err *err)
{
    struct carry_count count = {0};
    for (int tries = 1;; tries++) {
        struct box_state state;
        if (box_state_get(place->cloud, place->id, &state, err))
            return -1;
        if (pull_once(place, &state, &count, err) == 0) {
            *ret_state = state;
            if (ret_count)
                *ret_count = count;
            return 0;
        }
        box_state_done(&state);
        if (err->code != ERR_NOT_FOUND || tries == PULL_TRIES)
            return err->code == ERR_NOT_FOUND
                       ? err_set(err, ERR_UPSTREAM, "a layer of session '%.64s' is missing",
                                 place->id)
                       : -1;
    }
}

/* --- pushing ------------------------------------------------------------------------------- */

int carry_begin(const struct carry_place *place, struct manifest *ret_before, struct err *err)
{
    AUTO(fd) int box = open_box(place, err);
    if (box < 0 || manifest_read(box, ret_before, err))
        return -1;
    carry_forget(place);
    return 0;
}

/* What one layer gets: counted first, then packed. */
struct packing {
    const struct carry_place *place;
    int box;
    struct buf gone;
    size_t changed;
    struct storage_upload *upload;
    struct tgz *tgz; /* NULL: it is only counted */
    int64_t packed;
    char *piece;
    struct err *err;
};

static int store_piece(const void *data, size_t len, void *arg)
{
    struct packing *packing = arg;
    const struct carry_place *place = packing->place;
    if (place->stopped && place->stopped(place->arg))
        return err_set(packing->err, ERR_BUSY, "the session's files are not stored any more");
    packing->packed += (int64_t)len;
    return storage_upload_add(packing->upload, data, len, packing->err);
}

/* As long as was said, whatever becomes of the file meanwhile. */
static int pack_content(struct packing *packing, int fd, int64_t size)
{
    for (int64_t at = 0; at < size;) {
        size_t want = size - at < (int64_t)PIECE_BYTES ? (size_t)(size - at) : PIECE_BYTES;
        ssize_t n = fd_pread_full(fd, packing->piece, want, at);
        if (n < 0)
            return err_sys(packing->err, "cannot read a file of the session");
        memset(packing->piece + n, 0, want - (size_t)n);
        if (tgz_data(packing->tgz, packing->piece, want, packing->err))
            return -1;
        at += (int64_t)want;
    }
    return 0;
}

static int pack_file(struct packing *packing, int above, const char *name,
                     const struct manifest_entry *entry)
{
    AUTO(fd) int fd = openat(above, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_sys(packing->err, "cannot read '%.160s' of the session", entry->path);
    if (tgz_file(packing->tgz, entry->path, entry->mode & 0777,
                 entry->modified_ns / INT64_C(1000000000), entry->size, packing->err))
        return -1;
    return pack_content(packing, fd, entry->size);
}

static int pack_entry(struct packing *packing, const struct manifest_entry *entry)
{
    char target[MANIFEST_PATH_MAX + 100];
    const char *name;
    int64_t mtime = entry->modified_ns / INT64_C(1000000000);
    AUTO(fd) int above = open_above(packing->box, entry->path, &name);
    if (above < 0)
        return err_sys(packing->err, "cannot read '%.160s' of the session", entry->path);
    if (S_ISREG(entry->mode))
        return pack_file(packing, above, name, entry);
    if (S_ISDIR(entry->mode))
        return tgz_directory(packing->tgz, entry->path, entry->mode & 0777, mtime, packing->err);
    ssize_t n = readlinkat(above, name, target, sizeof(target) - 1);
    if (n <= 0)
        return err_sys(packing->err, "cannot read '%.160s' of the session", entry->path);
    target[n] = '\0';
    return tgz_link(packing->tgz, entry->path, target, packing->err);
}

static int take_change(const struct manifest_entry *before, const struct manifest_entry *after,
                       void *arg)
{
    struct packing *packing = arg;
    bool replaced = before && after && (before->mode & S_IFMT) != (after->mode & S_IFMT);
    if (!packing->tgz && before && (!after || replaced))
        buf_add(&packing->gone, before->path, strlen(before->path) + 1);
    if (!after)
        return 0;
    packing->changed++;
    return packing->tgz ? pack_entry(packing, after) : 0;
}

/* A layer of what differs. 0 with layer->name "" when nothing does. */
static int store_layer(struct packing *packing, const struct manifest *before,
                       const struct manifest *after, struct box_layer *layer)
{
    char name[FOLDER_NAME_SIZE];
    const struct cloud *cloud = packing->place->cloud;
    struct err *err = packing->err;
    manifest_compare(before, after, take_change, packing);
    if (buf_check(&packing->gone, "the list of names that are gone", err))
        return -1;
    *layer = (struct box_layer){.gone = packing->gone.len > 0};
    if (packing->changed == 0 && packing->gone.len == 0)
        return 0;
    id_new(layer->name);
    box_layer_name(packing->place->id, layer, ".gone", name);
    const struct storage_at gone = {cloud->bucket, name, NULL, STORAGE_ABSENT};
    if (layer->gone &&
        storage_put(cloud->google, &gone, packing->gone.data, packing->gone.len, NULL, err))
        return -1;
    box_layer_name(packing->place->id, layer, ".tgz", name);
    AUTO(storage_upload)
    struct storage_upload *upload = storage_upload_new(cloud->google, cloud->bucket, name,
                                                       "application/gzip", STORAGE_ABSENT, err);
    packing->upload = upload;
    AUTO(tgz) struct tgz *tgz = upload ? tgz_new(store_piece, packing, err) : NULL;
    packing->tgz = tgz;
    if (!tgz || manifest_compare(before, after, take_change, packing) || tgz_end(tgz, err) ||
        storage_upload_end(upload, NULL, err))
        return -1;
    layer->bytes = packing->packed;
    return 0;
}

static bool is_full(const struct box_state *state)
{
    int64_t later = 0;
    for (size_t i = 1; i < state->layer_count; i++)
        later += state->layers[i].bytes;
    return state->layer_count >= LAYERS_FULL ||
           (state->layer_count > 1 && later > state->layers[0].bytes + LAYERS_FREE_BYTES);
}

static void drop_layers(const struct carry_place *place, const struct box_layer *layers,
                        size_t count)
{
    static const char *const endings[] = {".tgz", ".gone"};
    char name[FOLDER_NAME_SIZE];
    struct err err;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < COUNT_OF(endings); k++) {
            box_layer_name(place->id, &layers[i], endings[k], name);
            if ((k == 0 || layers[i].gone) &&
                storage_delete(place->cloud->google, place->cloud->bucket, name, STORAGE_ANY, &err))
                log_warn("cloudbox", "'%s' stays until the session is removed: %s", name, err.msg);
        }
}

/* One layer more, or one in place of all. What they were before goes to `old`. */
static int add_layer(struct packing *packing, const struct manifest *before,
                     const struct manifest *after, struct box_state *state, struct box_layer *old,
                     size_t *ret_old, struct err *err)
{
    static const struct manifest nothing;
    struct box_layer layer;
    bool whole = is_full(state);
    *ret_old = 0;
    if (store_layer(packing, whole ? &nothing : before, after, &layer))
        return -1;
    if (whole) {
        memcpy(old, state->layers, sizeof(*old) * state->layer_count);
        *ret_old = state->layer_count;
        state->layer_count = 0;
    }
    if (layer.name[0] && state->layer_count == BOX_LAYERS_MAX)
        return err_set(err, ERR_INTERNAL, "the session has too many layers");
    if (layer.name[0])
        state->layers[state->layer_count++] = layer;
    return 0;
}

int carry_push(const struct carry_place *place, const struct manifest *before,
               struct box_state *state, struct carry_count *ret_count, struct err *err)
{
    struct box_layer old[BOX_LAYERS_MAX];
    size_t old_count = 0;
    AUTO(manifest) struct manifest after = {0};
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    AUTO(fd) int box = open_box(place, err);
    if (!piece)
        return err_sys(err, "session");
    if (box < 0 || manifest_read(box, &after, err))
        return -1;
    if (after.bytes > BOX_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the session's files have more than %lld GiB",
                       (long long)(BOX_BYTES_MAX >> 30));
    struct packing packing = {.place = place, .box = box, .piece = piece, .err = err};
    buf_init(&packing.gone, GONE_BYTES_MAX);
    int rc = add_layer(&packing, before, &after, state, old, &old_count, err);
    buf_done(&packing.gone);
    if (rc)
        return -1;
    if (box_state_put(place->cloud, place->id, state, err)) {
        if (err->code == ERR_MISMATCH && packing.packed > 0) /* else it may have been carried out */
            drop_layers(place, &state->layers[state->layer_count - 1], 1);
        return -1;
    }
    drop_layers(place, old, old_count);
    if (ret_count)
        *ret_count = (struct carry_count){packing.packed, packing.packed > 0};
    return write_synced(place, state, err);
}
