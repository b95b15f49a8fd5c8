/*
 * The file that takes the credentials' place. Private to runner/oauth.
 *
 * Theory of operation. Once the token server has answered, the refresh token in the file is spent
 * and the new pair exists only in our memory, so whatever could keep it from the disk is found out
 * before the server is asked: the spare exists, belongs to the right owner, its room on the disk is
 * taken, and the file can be replaced by a rename. Afterwards:
 *
 *     write ─▶ cut to length ─▶ fsync ─▶ read back ─▶ rename ─▶ fsync of the directory
 *
 * A process killed on the way leaves the old pair in the file and, from the first step on, the new
 * one in the spare, where spare_recover() finds it.
 *
 * Threads: one at a time, under the CLI's lock.
 */
#ifndef OAUTH_SPARE_H
#define OAUTH_SPARE_H

#include "runner/oauth/credentials.h"

#include <limits.h>

struct spare {
    char path[PATH_MAX];
    int fd;
};

#define SPARE_INIT \
    {              \
        .fd = -1   \
    }

/* Makes the spare of the file `path` (not a link). */
int spare_make(struct spare *spare, const char *path, struct err *err);

/* Replaces the file by the spare with this text, which holds these tokens. */
int spare_use(struct spare *spare, const char *path, const struct buf *text,
              const struct login_tokens *tokens, struct err *err);

/* Removes the spare, unless it was used. */
void spare_drop(struct spare *spare);
static inline void auto_spare(struct spare *spare)
{
    spare_drop(spare);
}

/* Returns 1 when a killed process (or a failed rename) had left a pair that is newer than the
 * file's, and it is in the file now; 0 when there is none; -1 when there is one that cannot be
 * moved: then the file's refresh token is spent and must not be tried. */
int spare_recover(const char *path, struct err *err);

#endif
