#include "git/report.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "json/json.h"

#include <stdio.h>

#define NOTE_BYTES_MAX (4u << 20)

void tree_report_done(struct tree_report *report)
{
    strlist_done(&report->submodules);
    *report = (struct tree_report){0};
}

static void place_of(const char *mirror, const char *commit, char *path, size_t size)
{
    snprintf(path, size, "%s/" REPORT_NOTES "/%s", mirror, commit);
}

int tree_report_save(const char *mirror, const char *commit, const struct tree_report *report,
                     struct err *err)
{
    char path[4300];
    struct json_writer w;
    AUTO(str) char *dir = path_join(mirror, REPORT_NOTES);
    AUTO(buf) struct buf text = BUF_INIT(NOTE_BYTES_MAX);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_int(&w, "files", report->files);
    json_add_int(&w, "lfsPointers", report->lfs_pointers);
    json_add_bool(&w, "submodulesMore", report->submodules_more);
    json_add_texts(&w, "submodules", &report->submodules);
    json_close(&w);
    place_of(mirror, commit, path, sizeof(path));
    if (!dir)
        return err_sys(err, "mirror");
    if (buf_check(&text, "the note on a commit", err) || path_make_dirs(dir, 0700, err))
        return -1;
    return file_replace(path, buf_str(&text), text.len, 0600, err);
}

int tree_report_load(const char *mirror, const char *commit, struct tree_report *report,
                     struct err *err)
{
    char path[4300];
    AUTO(buf) struct buf text = BUF_INIT(NOTE_BYTES_MAX);
    place_of(mirror, commit, path, sizeof(path));
    if (file_read(path, &text, err))
        return -1;
    AUTO(json) struct json *root = json_parse(buf_str(&text), text.len, err);
    if (!root)
        return -1;
    tree_report_done(report);
    json_int(json_get(root, "files"), &report->files);
    json_int(json_get(root, "lfsPointers"), &report->lfs_pointers);
    json_bool(json_get(root, "submodulesMore"), &report->submodules_more);
    const struct json *at = json_first(json_get(root, "submodules"));
    for (; at; at = json_next(at))
        strlist_add(&report->submodules, json_text(at));
    return 0;
}
