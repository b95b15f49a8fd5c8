/* Sessions of a runner under test. */
#ifndef TESTLIB_SESSION_H
#define TESTLIB_SESSION_H

#include "runner.h"

/* The answer to a command. */
struct done {
    struct reply *reply;
    int exit_code;
    const char *out, *err, *cwd;
    bool timed_out, truncated;
    int pid; /* background_pid, 0 for null */
};

/* Makes a session; fails the test when that is refused. */
void session_make(const struct runner *runner, const char *id);

/* Runs a command in the default shell; fails the test unless the answer is 200 and has all members.
 * `more` is fields (`"timeout":1`) or "". */
struct done *session_run(const struct runner *runner, const char *id, const char *command,
                         const char *more);
void done_free(struct done *done);

/* Whether the default shell runs a command in the foreground. */
bool session_is_busy(const struct runner *runner, const char *id);

/* A request with the secret and a body of any bytes. */
struct reply *session_send(const struct runner *runner, const char *method, const char *path,
                           const void *body, size_t size);

/* A tar archive of entries, not compressed. */
struct tar {
    char *data;
    size_t size;
};
/* `type` is the archive's: '0' file, '1' and '2' links to `text`, '5' directory, … */
void tar_add(struct tar *tar, const char *name, char type, const char *text);
void tar_end(struct tar *tar);

/* The SHA-256 of these bytes in hex. The caller frees it. */
char *sha256_of(const void *data, size_t size);

/* Uploads an archive as an input; fails the test when that is refused. Returns "sha256:…", which
 * the caller frees. */
char *input_upload(const struct runner *runner, const void *data, size_t size);

/* Whether there is an incomplete upload or input. */
bool inputs_have_parts(const struct runner *runner);

#endif
