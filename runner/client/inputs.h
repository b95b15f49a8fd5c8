/*
 * Inputs of tasks: packed once per path, uploaded once per digest.
 *
 * Theory of operation. A path is packed into a temporary file while its digest is computed; the
 * runner is asked whether it has that digest, and gets the file when it has not. A thread that asks
 * for a path which another thread is uploading waits for that thread.
 *
 * Threads: any, for struct client_inputs. Ownership: the caller of client_inputs_new() frees it by
 * client_inputs_free().
 */
#ifndef CLIENT_INPUTS_H
#define CLIENT_INPUTS_H

#include "runner/client/client.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

struct client_inputs;

struct inputs_count {
    int64_t packed, asked, uploaded, uploaded_bytes;
};

/* `to` is borrowed. */
struct client_inputs *client_inputs_new(const struct settings *to, bool gitignore, struct err *err);
void client_inputs_free(struct client_inputs *inputs);
DEFINE_AUTO(client_inputs, struct client_inputs *, client_inputs_free)

/* Makes sure that the runner has the content of `path`; writes "sha256:<hex>" to ret. The result is
 * kept as long as `inputs` exists, also a failure. */
#define INPUTS_DIGEST_SIZE 72
int client_inputs_put(struct client_inputs *inputs, const char *path, char ret[INPUTS_DIGEST_SIZE],
                      struct err *err);
void client_inputs_count(struct client_inputs *inputs, struct inputs_count *ret_count);

/* Splits "NAME=PATH" or "PATH", whose name is its last part. Returns where the path begins, and a
 * copy of the name that the caller frees. NULL with ERR_INVALID. */
const char *client_inputs_split(const char *text, char **ret_name, struct err *err);

/* Uploads what --input options name and writes the field `inputs`; does nothing without them. */
int client_inputs_write(struct call *call, struct json_writer *w, struct err *err);

#endif
