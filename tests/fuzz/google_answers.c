/* Whatever Google's APIs answer: errors are one bounded line of text, and what is read from
 * objects, executions, times, checksums and Retry-After keeps its bounds. The first byte is the
 * status, a first line the head. */
#include "google/execution.h"
#include "google/object.h"

#include "base/clock.h"
#include "base/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_line(const char *text)
{
    must(str_is_utf8(text, strlen(text)));
    for (; *text; text++)
        must((unsigned char)*text >= ' ');
}

static void check_error(const struct wire_answer *answer)
{
    struct err err = ERR_INIT;
    struct google_answer told;
    must(answer_fail(GOOGLE_STORAGE, answer, &told, &err) == -1 && err.code != ERR_NONE);
    must(str_starts(err.msg, "Cloud Storage: "));
    check_line(err.msg);
    check_line(told.reason);
    check_line(told.detail);
    must(told.retry_after_ms >= -1);
}

static void check_texts(const char *text)
{
    int64_t ms;
    uint32_t crc;
    double value = 0;
    must(retry_after_value(text) >= -1);
    if (clock_parse(text, &ms) == 0)
        must(ms > INT64_C(-62200000000000) && ms < INT64_C(253500000000000));
    if (object_parse_crc(text, strlen(text), &crc)) {
        AUTO(buf) struct buf again = BUF_INIT(16);
        object_add_crc(&again, crc);
        must(strcmp(buf_str(&again), text) == 0);
    }
    if (jobs_quantity(text, &value) == 0)
        must(value >= 0);
}

static void check_json(const struct wire_answer *answer)
{
    struct err err = ERR_INIT;
    AUTO(json) struct json *json = NULL;
    AUTO(str) char *token = NULL;
    AUTO(storage_object) struct storage_object object = {0};
    struct jobs_execution execution;
    if (answer_json(GOOGLE_RUN, answer, &json, &err) || !json)
        return;
    if (object_read(json, &object, &err) == 0)
        must(object.name && object.size >= 0);
    if (execution_read(json, &execution, &err) == 0) {
        must(execution.memory_bytes >= 0);
        check_line(execution.reason);
        check_line(execution.message);
    }
    execution_has_env(json, "A", "b");
    must(answer_next_page(GOOGLE_RUN, json, &token, &err) == (token != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_answer answer = {.head = BUF_INIT(1 << 20), .body = BUF_INIT(1 << 20)};
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    const char *line = memchr(text, '\n', size - 1);
    size_t head = line ? (size_t)(line - text) + 1 : 0;
    answer.status = 300 + *data;
    buf_add(&answer.head, text, head);
    buf_add(&answer.body, text + head, size - 1 - head);
    check_error(&answer);
    check_json(&answer);
    check_texts(buf_str(&answer.body));
    wire_answer_done(&answer);
    return 0;
}
