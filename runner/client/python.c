/* python: runs a file of Python on the runner. */
#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/client/fields.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define CODE_MAX (2u << 20)
#define ANSWER_MS 400000 /* Code may run for 300 s, and wait before that. */

/* Writes --file NAME=PATH (or PATH, with its own name) as texts of the request. */
static int write_files(const struct call *call, struct json_writer *w, struct err *err)
{
    if (!options_value(&call->given, "file"))
        return 0;
    json_open_object(w, "files");
    const char *value;
    for (size_t i = 0; (value = options_nth(&call->given, "file", i)); i++) {
        AUTO(buf) struct buf text = BUF_INIT(CODE_MAX);
        const char *equals = strchr(value, '='), *slash = strrchr(value, '/');
        const char *path = equals ? equals + 1 : value, *name = slash ? slash + 1 : value;
        AUTO(str) char *key = equals ? strndup(value, (size_t)(equals - value)) : strdup(name);
        if (!key || fields_read_file(path, &text, err))
            return -1;
        json_add_textn(w, key, buf_str(&text), text.len);
    }
    json_close(w);
    return 0;
}

static int write_body(const struct call *call, struct json_writer *w, struct err *err)
{
    AUTO(buf) struct buf code = BUF_INIT(CODE_MAX), input = BUF_INIT(CODE_MAX);
    static const struct {
        const char *option, *field;
    } numbers[] = {{"timeout", "timeout"}, {"memory", "memory_limit"}};
    const char *inline_code = options_value(&call->given, "code");
    const char *file = call->args.count ? call->args.items[0] : "-";
    const char *stdin_file = options_value(&call->given, "stdin");
    if (!inline_code && fields_read_file(file, &code, err))
        return -1;
    if (stdin_file && fields_read_file(stdin_file, &input, err))
        return -1;
    json_open_object(w, NULL);
    json_add_text(w, "code", inline_code ? inline_code : buf_str(&code));
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        const char *value = options_value(&call->given, numbers[i].option);
        int64_t number = 0;
        if (value && str_to_int(value, 1, INT32_MAX, &number))
            return err_set(err, ERR_INVALID, "--%s takes a number, got '%.40s'", numbers[i].option,
                           value);
        if (value)
            json_add_int(w, numbers[i].field, number);
    }
    if (stdin_file)
        json_add_textn(w, "stdin", buf_str(&input), input.len);
    if (write_files(call, w, err))
        return -1;
    json_close(w);
    return 0;
}

/* Saves the code's figures as files below --out. */
static int save_images(const struct call *call, const struct json *answer, struct err *err)
{
    const char *out = options_value(&call->given, "out");
    const struct json *images = json_get(answer, "images");
    for (const struct json *at = json_first(images); at; at = json_next(at)) {
        AUTO(buf) struct buf data = BUF_INIT(CLIENT_ANSWER_MAX);
        const char *name = text_of(at, "name"), *text = text_of(at, "base64");
        AUTO(str) char *to = path_join(out ? out : ".", name);
        if (!out) {
            fprintf(stderr, "picture %s: --out DIR saves it\n", name);
            continue;
        }
        if (!path_is_inside(name) || str_read_base64(text, strlen(text), &data))
            return err_set(err, ERR_UPSTREAM, "the runner sends a picture that is none");
        AUTO(fd) int fd = -1;
        if (path_make_dirs(out, 0777, err) || !to ||
            (fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0 ||
            fd_write_all(fd, buf_str(&data), data.len))
            return err_sys(err, "cannot write %.150s", to ? to : "a picture");
        fprintf(stderr, "%s\n", to);
    }
    return 0;
}

int client_python(struct call *call, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf body = BUF_INIT(CODE_MAX * 8);
    json_write(&w, &body);
    if (settings_find(&call->to, &call->given, err) || write_body(call, &w, err) ||
        buf_check(&body, "the request", err))
        return -1;
    call->to.answer_ms = ANSWER_MS;
    AUTO(json) struct json *answer = client_call(&call->to, "POST", "/python", buf_str(&body), err);
    if (!answer)
        return -1;
    const char *status = text_of(answer, "status");
    if (call->json) {
        client_print_answer(answer);
    } else {
        fputs(text_of(answer, "stdout"), stdout);
        fflush(stdout);
        fputs(text_of(answer, "stderr"), stderr);
        if (save_images(call, answer, err))
            return -1;
    }
    long long code = number_of(answer, "exit_code");
    if (strcmp(status, "success") == 0)
        return 0;
    if (strcmp(status, "timeout") == 0)
        return 124;
    return code > 0 && code < 256 ? (int)code : 1;
}
