/*
 * Sends a task into the cloud as the runner at home does, but starts no execution: reads a
 * request's JSON from stdin, seals it and puts payload.enc into the bucket. Its environment is the
 * runner's.
 *
 *     seal-payload ID ATTEMPT [SEALED-FOR]
 *
 * SEALED-FOR is another task's id, for a payload that was moved.
 */
#include "google/storage.h"
#include "runner/overflow/payload.h"
#include "runner/request/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX (10u << 20)

static int fail(const struct err *err)
{
    fprintf(stderr, "seal-payload: %s\n", err->msg);
    return 1;
}

static int read_request(struct buf *out)
{
    ssize_t n = 1;
    while (n > 0) {
        char *to = buf_room(out, 65536);
        n = to ? read(STDIN_FILENO, to, 65536) : -1;
        if (n > 0)
            buf_grew(out, (size_t)n);
    }
    return n < 0 ? -1 : 0;
}

static int put(const struct cloud *cloud, const char *id, const struct buf *sealed, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    folder_name(id, FOLDER_PAYLOAD, name);
    return storage_put(
        cloud->google,
        &(const struct storage_at){cloud->bucket, name, "application/octet-stream", STORAGE_ANY},
        sealed->data, sealed->len, NULL, err);
}

static int send_task(const struct config *config, char **argv, struct err *err)
{
    AUTO(cloud) struct cloud cloud = {0};
    AUTO(request_errors) struct request_errors errors = {0};
    AUTO(buf) struct buf body = BUF_INIT(REQUEST_BYTES_MAX), spec = BUF_INIT(REQUEST_BYTES_MAX);
    AUTO(buf)
    struct buf secrets = BUF_INIT(REQUEST_BYTES_MAX), sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    const struct request_defaults defaults = {
        .where = REQUEST_CLAUDE, .timeout_minutes = 5, .permission_mode = "acceptEdits"};
    if (read_request(&body) || cloud_open(config, &cloud, err))
        return -1;
    AUTO(task_request)
    struct task_request *task = task_request_decode(body.data, body.len, &defaults, &errors, err);
    if (!task)
        return -1;
    task_request_save(task, &spec);
    task_request_save_secrets(task, &secrets);
    const struct payload payload = {.task_id = argv[3] ? argv[3] : argv[1],
                                    .kind = (char[]){"claude"},
                                    .request = spec.data,
                                    .secrets = secrets.data,
                                    .request_id = (char[]){"test-request"},
                                    .attempt = (int)strtol(argv[2], NULL, 10)};
    return payload_seal(&cloud, &payload, &sealed, err) || put(&cloud, argv[1], &sealed, err) ? -1
                                                                                              : 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    const struct config_source source = {.env = environ, .no_callers = true};
    if (argc < 3 || argc > 4)
        return 2;
    AUTO(config) struct config *config = config_load(&source, &report, &err);
    return !config || send_task(config, argv, &err) ? fail(&err) : 0;
}
