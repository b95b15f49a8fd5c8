/* Inputs: archives that are uploaded once and named by the hash of their bytes. */
#include "runner/api/handlers.h"
#include "runner/inputs/inputs.h"

#include <unistd.h>

/* Reads the name in the path. False after the answer has been sent. */
static bool read_name(struct http_request *req, char name[INPUT_NAME_SIZE])
{
    struct err err;
    if (input_name(http_param(req, "sha256"), name) == 0)
        return true;
    err_set(&err, ERR_INVALID,
            "an input is named by its SHA-256: 64 hexadecimal digits in lower case");
    send_err(req, &err);
    return false;
}

static void say(struct http_request *req, int status, const char *name, int64_t size)
{
    AUTO(buf) struct buf out = BUF_INIT(256);
    buf_addf(&out, "{\"sha256\":\"%s\",\"sizeBytes\":%lld}", name, (long long)size);
    send_json(req, status, &out);
}

void input_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    char name[INPUT_NAME_SIZE];
    int64_t size = 0;
    if (!read_name(req, name))
        return;
    int fd = api->service ? instances_find_input(api, name, &size, &err)
                          : input_open(api->inputs, name, &size, &err);
    if (fd < 0) {
        send_err(req, &err);
        return;
    }
    if (!api->service)
        close(fd);
    say(req, 200, name, size);
}

static ssize_t next_piece(char *to, size_t max, void *arg, struct err *err)
{
    return http_read(arg, to, max, err);
}

void input_upload(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    char name[INPUT_NAME_SIZE];
    bool made = false;
    int64_t size = 0;
    if (!read_name(req, name))
        return;
    if (api->service ? instances_receive_input(api, req, name, &made, &size, &err)
                     : input_put(api->inputs, name, next_piece, req, &made, &size, &err))
        send_err(req, &err);
    else
        say(req, made ? 201 : 200, name, size);
}
