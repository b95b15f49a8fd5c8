/* A body decodes or is refused with a reason; what decodes is saved and loaded without a change,
 * its secrets stay out of what is saved, and no value becomes an option of the CLI. */
#include "runner/request/request.h"
#include "json/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_errors(const struct request_errors *errors, const struct err *err)
{
    struct err inner = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    must(err->code != ERR_NONE && err->msg[0] != '\0');
    buf_adds(&text, "{\"first\":0");
    request_errors_print(errors, &text);
    buf_addc(&text, '}');
    must(buf_ok(&text) && json_check(text.data, text.len, &inner) == 0);
}

static void check_argv(const struct task_request *request)
{
    struct err err = ERR_INIT;
    AUTO(strlist) struct strlist argv = STRLIST_INIT;
    must(task_request_argv(request, &argv, &err) == 0);
    for (size_t i = 0; i < argv.count; i++)
        must(argv.items[i][0] == '-' || strcmp(argv.items[i], "stream-json") == 0);
}

static void check_saved(const struct task_request *request)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf saved = BUF_INIT(64 << 20);
    AUTO(buf) struct buf secrets = BUF_INIT(64 << 20);
    AUTO(buf) struct buf again = BUF_INIT(64 << 20);
    task_request_save(request, &saved);
    task_request_save_secrets(request, &secrets);
    must(buf_ok(&saved) && buf_ok(&secrets));
    AUTO(task_request)
    struct task_request *loaded =
        task_request_load(saved.data, saved.len, secrets.data, secrets.len, &err);
    must(loaded != NULL);
    task_request_save(loaded, &again);
    must(again.len == saved.len && memcmp(again.data, saved.data, saved.len) == 0);
    buf_clear(&again);
    task_request_save_secrets(loaded, &again);
    must(strcmp(buf_str(&again), buf_str(&secrets)) == 0);
}

/* The first byte says which fields the request may have. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned places[] = {REQUEST_CLAUDE, REQUEST_CLAUDE | REQUEST_PYTHON,
                                      REQUEST_COMMAND, REQUEST_PYTHON};
    if (size == 0)
        return 0;
    struct err err = ERR_INIT;
    AUTO(request_errors) struct request_errors errors = {0};
    const struct request_defaults defaults = {.where = places[data[0] % COUNT_OF(places)],
                                              .timeout_minutes = 55,
                                              .permission_mode = "acceptEdits",
                                              .model = "opus"};
    AUTO(task_request)
    struct task_request *request =
        task_request_decode((const char *)data + 1, size - 1, &defaults, &errors, &err);
    if (!request) {
        check_errors(&errors, &err);
        return 0;
    }
    must(errors.count == 0 && request->timeout_ms > 0);
    check_argv(request);
    check_saved(request);
    return 0;
}
