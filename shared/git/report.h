/*
 * What a task should know about a commit's files. It is found when the files are made, and stored
 * with them for later tasks.
 *
 * Threads: one at a time. Ownership: a report owns its list; end it by tree_report_done().
 */
#ifndef GIT_REPORT_H
#define GIT_REPORT_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>

#define REPORT_NOTES "notes" /* directory in a mirror with one file for each tree */

struct tree_report {
    int64_t files;
    int64_t lfs_pointers;      /* files whose content is stored elsewhere (Git LFS) */
    struct strlist submodules; /* their paths; they are empty directories */
    bool submodules_more;      /* there were more than the list holds */
};

void tree_report_done(struct tree_report *report);
static inline void auto_tree_report(struct tree_report *report)
{
    tree_report_done(report);
}

/* Write and read the mirror's note on a commit. Loading replaces *report. */
int tree_report_save(const char *mirror, const char *commit, const struct tree_report *report,
                     struct err *err);
int tree_report_load(const char *mirror, const char *commit, struct tree_report *report,
                     struct err *err);

#endif
