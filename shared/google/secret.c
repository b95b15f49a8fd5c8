#include "google/secret.h"
#include "google/limits.h"

#include "base/str.h"
#include "google/wire.h"

#include <stdio.h>
#include <string.h>

#define PATH_MAX_BYTES 4096

static int take_payload(const struct json *answer, struct buf *out, struct err *err)
{
    const struct json *payload = json_get(answer, "payload");
    const char *text = json_text(json_get(payload, "data"));
    int64_t crc = -1;
    AUTO(buf_wipe) struct buf data = BUF_INIT(SECRET_BYTES_MAX);
    if (!payload || json_type(payload) != JSON_OBJECT ||
        (text && str_read_base64(text, strlen(text), &data)))
        return err_set(err, ERR_UPSTREAM, "Secret Manager: the answer holds no payload");
    if (json_get(payload, "dataCrc32c") && (answer_int(payload, "dataCrc32c", &crc) ||
                                            crc != google_crc32c(0, buf_str(&data), data.len)))
        return err_set(err, ERR_UPSTREAM,
                       "Secret Manager: the payload arrived changed (its CRC32C is another)");
    return buf_add(out, buf_str(&data), data.len) ? buf_check(out, "the secret", err) : 0;
}

int google_secret(struct google *google, const char *name, struct buf *out,
                  char ret_version[SECRET_VERSION_SIZE], struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    AUTO(json) struct json *answer = NULL;
    if (answer_check_name("a secret", name, err))
        return -1;
    buf_adds(&path, "/v1/");
    str_add_url(&path, name, "/");
    buf_adds(&path, strstr(name, "/versions/") ? ":access" : "/versions/latest:access");
    const struct google_call call = {
        .api = GOOGLE_SECRETS, .method = "GET", .path = buf_str(&path)};
    if (buf_check(&path, "the request's path", err))
        return -1;
    for (int tries = 1;; tries++) {
        if (google_call(google, &call, &answer, NULL, err))
            return -1;
        if (take_payload(answer, out, err) == 0)
            break;
        if (err->code != ERR_UPSTREAM || tries == GOOGLE_WHOLE_TRIES)
            return -1;
        json_free(answer);
        answer = NULL;
    }
    const char *full = json_text(json_get(answer, "name"));
    const char *version = full ? strrchr(full, '/') : NULL;
    if (ret_version)
        snprintf(ret_version, SECRET_VERSION_SIZE, "%s", version ? version + 1 : "");
    return 0;
}
