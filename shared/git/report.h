/*
 * What is in a commit that a task should know of: it is found when the commit's files are made, and
 * kept beside them for who gets them later.
 *
 * Threads: one at a time.
 */
#ifndef GIT_REPORT_H
#define GIT_REPORT_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>

#define REPORT_NOTES "notes" /* of a mirror: one file for each tree */

struct tree_report {
    int64_t files;
    int64_t lfs_pointers;      /* files whose content is elsewhere */
    struct strlist submodules; /* their paths; they are empty directories */
    bool submodules_more;      /* there were more than are listed */
};

void tree_report_done(struct tree_report *report);
static inline void auto_tree_report(struct tree_report *report)
{
    tree_report_done(report);
}

/* Writes and reads the mirror's note on a commit. Loading replaces *report. */
int tree_report_save(const char *mirror, const char *commit, const struct tree_report *report,
                     struct err *err);
int tree_report_load(const char *mirror, const char *commit, struct tree_report *report,
                     struct err *err);

#endif
