#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/lines.h"
#include "base/str.h"
#include "runner/claude/stream_json.h"
#include "runner/task/events.h"
#include "runner/work/tail.h"
#include "json/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- lines --------------------------------------------------------------------------------- */

/* Each line as "<len/whole_len>text|". */
static void note_line(const char *line, size_t len, size_t whole_len, void *arg)
{
    buf_addf(arg, "<%zu/%zu>", len, whole_len);
    buf_add(arg, line, len);
    buf_addc(arg, '|');
}

static void lines_are_the_same_however_they_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *lines; /* with at most 8 bytes each */
    } cases[] = {
        {"", ""},
        {"a", "<1/1>a|"},
        {"a\n", "<1/1>a|"},
        {"\n", "<0/0>|"},
        {"\n\n", "<0/0>|<0/0>|"},
        {"a\nbc\n\nd", "<1/1>a|<2/2>bc|<0/0>|<1/1>d|"},
        {"a\r\nb\r\n", "<1/1>a|<1/1>b|"},
        {"a\rb\n\r\n", "<3/3>a\rb|<0/0>|"},
        {"12345678\n1\n", "<8/8>12345678|<1/1>1|"},
        {"123456789\n1\n", "<8/9>12345678|<1/1>1|"},
        {"1234567890123456789", "<8/19>12345678|"},
        {"1234567\r\n12345678\r\n", "<7/7>1234567|<8/9>12345678|"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t len = strlen(cases[i].text);
        for (size_t a = 0; a <= len; a++) {
            for (size_t b = a; b <= len; b++) {
                struct lines lines;
                AUTO(buf) struct buf out = BUF_INIT(1000);
                lines_init(&lines, 8, note_line, &out);
                lines_feed(&lines, cases[i].text, a);
                lines_feed(&lines, cases[i].text + a, b - a);
                lines_feed(&lines, cases[i].text + b, len - b);
                lines_finish(&lines);
                lines_finish(&lines); /* a second call changes nothing */
                lines_done(&lines);
                assert_string_equal(buf_str(&out), cases[i].lines);
            }
        }
    }
}

static void a_line_of_any_bytes_arrives_whole(void **state)
{
    (void)state;
    struct lines lines;
    AUTO(buf) struct buf out = BUF_INIT(1000);
    lines_init(&lines, 100, note_line, &out);
    lines_feed(&lines, "a\0b\xff\n", 5);
    lines_done(&lines);
    assert_int_equal(out.len, 10);
    assert_memory_equal(out.data, "<4/4>a\0b\xff|", 10);
}

static void a_large_buffer_is_given_back(void **state)
{
    (void)state;
    struct lines lines;
    AUTO(buf) struct buf out = BUF_INIT(4u << 20);
    AUTO(str) char *long_line = malloc(1u << 20);
    memset(long_line, 'x', 1u << 20);
    lines_init(&lines, 1u << 20, note_line, &out);
    lines_feed(&lines, long_line, 1u << 20);
    lines_feed(&lines, "\n", 1);
    assert_int_equal(lines.held.cap, 0);
    lines_done(&lines);
}

/* --- the stream ---------------------------------------------------------------------------- */

struct heard {
    struct redact_set *redact;
    struct claude_output stream;
    struct buf events; /* one event a line */
    size_t count;
    size_t longest;
};

static void on_event(const char *json, size_t len, void *arg)
{
    struct heard *heard = arg;
    struct err err;
    if (json_check(json, len, &err) || json[0] != '{' || memchr(json, '\n', len))
        fail_msg("%.200s: %s", json, err.msg);
    heard->count++;
    heard->longest = len > heard->longest ? len : heard->longest;
    buf_add(&heard->events, json, len);
    buf_addc(&heard->events, '\n');
}

static void heard_init(struct heard *heard)
{
    *heard = (struct heard){.redact = redact_new()};
    buf_init(&heard->events, 200u << 20);
    claude_output_init(&heard->stream, heard->redact, on_event, heard);
}

static void heard_done(struct heard *heard)
{
    claude_output_done(&heard->stream);
    redact_free(heard->redact);
    buf_done(&heard->events);
}

static void feed(struct heard *heard, const char *text)
{
    claude_output_feed(&heard->stream, text, strlen(text));
}

static void what_is_printed_becomes_events_of_strict_json(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t len;
        const char *event;
    } cases[] = {
#define LINE(text) text, sizeof(text) - 1
        {LINE("{\"type\":\"x\",\"n\":1.50}"), "{\"type\":\"x\",\"n\":1.50}"},
        {LINE("plain"), "{\"type\":\"text\",\"content\":\"plain\"}"},
        {LINE("  {\"a\":1}"), "{\"type\":\"text\",\"content\":\"  {\\\"a\\\":1}\"}"},
        {LINE("[1]"), "{\"type\":\"text\",\"content\":\"[1]\"}"},
        {LINE("{\"a\":1"), "{\"type\":\"text\",\"content\":\"{\\\"a\\\":1\"}"},
        {LINE("{\"a\":1} x"), "{\"type\":\"text\",\"content\":\"{\\\"a\\\":1} x\"}"},
        {LINE("{\"a\":\"\\ud83d\"}"), "{\"a\":\"\\ufffd\"}"},
        {LINE("{\"a\":\"\\udE00x\"}"), "{\"a\":\"\\ufffdx\"}"},
        {LINE("{\"a\":\"\\ud83d\\ude00\"}"), "{\"a\":\"\\ud83d\\ude00\"}"},
        {LINE("{\"a\":\"\\ud83d\\ud83d\\ude00\"}"), "{\"a\":\"\\ufffd\\ud83d\\ude00\"}"},
        {LINE("{\"a\":\"\\u0000b\"}"), "{\"a\":\"\\ufffdb\"}"},
        {LINE("{\"a\":\"\\\\u0000\\ud800\"}"), "{\"a\":\"\\\\u0000\\ufffd\"}"},
        {LINE("{\"a\":\"\\uzzzz\"}"), "{\"type\":\"text\",\"content\":\"{\\\"a\\\":\\\"\\\\uzzzz"
                                      "\\\"}\"}"},
        {LINE("{\"a\":\"\\u00\"}"), "{\"type\":\"text\",\"content\":\"{\\\"a\\\":\\\"\\\\u00\\\"}"
                                    "\"}"},
        {LINE("{\"a\":\"\xff\xe4\"}"), "{\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\"}"},
        {LINE("\xff"), "{\"type\":\"text\",\"content\":\"\xef\xbf\xbd\"}"},
        {LINE("a\0b"), "{\"type\":\"text\",\"content\":\"a\\ufffdb\"}"},
        {LINE("{\"a\":1,\"a\":2}"),
         "{\"type\":\"text\",\"content\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}"},
        {LINE("\x1b[31mred"), "{\"type\":\"text\",\"content\":\"\\u001b[31mred\"}"},
#undef LINE
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct heard heard;
        heard_init(&heard);
        claude_output_feed(&heard.stream, cases[i].line, cases[i].len);
        feed(&heard, "\n\n\n"); /* empty lines are none */
        claude_output_finish(&heard.stream);
        AUTO(buf) struct buf wanted = BUF_INIT(1000);
        buf_addf(&wanted, "%s\n", cases[i].event);
        assert_string_equal(buf_str(&heard.events), buf_str(&wanted));
        heard_done(&heard);
    }
}

#define RESULT_REST                                                                       \
    ",\"duration_ms\":5,\"duration_api_ms\":3,\"num_turns\":2,\"session_id\":\"s-1\","    \
    "\"total_cost_usd\":0.0125,\"usage\":{\"input_tokens\":3},\"modelUsage\":{\"m\":{}}," \
    "\"permission_denials\":[],\"terminal_reason\":\"completed\"}"

static const struct {
    const char *lines;
    bool have, is_error;
    const char *subtype, *output, *last_error;
    int64_t api_status, reset_ms;
} result_cases[] = {
    {"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"api_error_status\":"
     "null,"
     "\"result\":\"the answer\"" RESULT_REST,
     true, false, "success", "the answer", "", 0, 0},
    /* an answer that mentions errors is not an error */
    {"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,"
     "\"result\":\"API Error: 401 is_error:true\"" RESULT_REST,
     true, false, "success", "API Error: 401 is_error:true", "", 0, 0},
    {"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,"
     "\"result\":\"Not logged in \xc2\xb7 Please run /login\"" RESULT_REST,
     true, true, "success", "Not logged in \xc2\xb7 Please run /login", "", 0, 0},
    {"{\"type\":\"result\",\"subtype\":\"error_max_turns\",\"is_error\":true,"
     "\"errors\":[\"Reached maximum number of turns (1)\"]" RESULT_REST,
     true, true, "error_max_turns", "Reached maximum number of turns (1)", "", 0, 0},
    {"{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":false,"
     "\"errors\":[{\"message\":\"boom\"}]" RESULT_REST,
     true, false, "error_during_execution", "boom", "", 0, 0},
    {"{\"type\":\"assistant\",\"error\":\"authentication_failed\",\"message\":{}}\n"
     "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":401,"
     "\"result\":\"Failed to authenticate\"" RESULT_REST,
     true, true, "success", "Failed to authenticate", "authentication_failed", 401, 0},
    {"{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\","
     "\"resetsAt\":1795245960}}\n"
     "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":429,"
     "\"result\":\"limit\"" RESULT_REST,
     true, true, "success", "limit", "", 429, INT64_C(1795245960000)},
    {"{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"allowed_warning\","
     "\"resetsAt\":1795245960}}",
     false, false, "", "", "", 0, 0},
    {"{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\"}}", false, false,
     "", "", "", 0, 1},
    /* a text that only looks like a result is not one */
    {"{\"type\":\"user\",\"text\":\"{\\\"type\\\":\\\"result\\\"}\"}", false, false, "", "", "", 0,
     0},
    {"{\"nested\":{\"type\":\"result\"},\"type\":\"system\"}", false, false, "", "", "", 0, 0},
    {"result", false, false, "", "", "", 0, 0},
    {"{\"type\":\"result\"", false, false, "", "", "", 0, 0},
    {"{\"type\":\"result\"}", true, false, "", "", "", 0, 0},
    {"{\"type\":\"result\",\"is_error\":\"true\",\"subtype\":5,\"result\":{}}", true, true, "", "",
     "", 0, 0},
    /* the first one counts */
    {"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"result\":\"one\"}\n"
     "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"two\"}",
     true, true, "success", "one", "", 0, 0},
    /* half a surrogate pair and a NUL in the answer itself */
    {"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,"
     "\"result\":\"a\\ud800b\\u0000c\"}",
     true, false, "success",
     "a\xef\xbf\xbd"
     "b\xef\xbf\xbd"
     "c",
     "", 0, 0},
};

static void the_result_line_decides_by_its_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(result_cases); i++) {
        size_t len = strlen(result_cases[i].lines);
        for (size_t cut = 0; cut <= len; cut += cut < len && len - cut > 7 ? 7 : 1) {
            struct heard heard;
            const struct claude_output *stream = &heard.stream;
            heard_init(&heard);
            claude_output_feed(&heard.stream, result_cases[i].lines, cut);
            claude_output_feed(&heard.stream, result_cases[i].lines + cut, len - cut);
            claude_output_finish(&heard.stream);
            assert_int_equal(stream->have_result, result_cases[i].have);
            assert_int_equal(stream->is_error, result_cases[i].is_error);
            assert_string_equal(stream->subtype, result_cases[i].subtype);
            assert_string_equal(buf_str(&stream->output), result_cases[i].output);
            assert_string_equal(stream->last_error, result_cases[i].last_error);
            assert_int_equal(stream->api_status, result_cases[i].api_status);
            assert_int_equal(stream->limit_reset_ms, result_cases[i].reset_ms);
            assert_true(stream->began);
            assert_false(stream->truncated);
            heard_done(&heard);
        }
    }
}

static void the_accounts_windows_are_taken_from_their_events(void **state)
{
    (void)state;
    struct heard heard;
    const struct usage_reading *windows = heard.stream.windows;
    heard_init(&heard);
    feed(&heard, "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"allowed\","
                 "\"unifiedWindows\":{\"five_hour\":{\"utilization\":0.42,\"resetsAt\":1795245960,"
                 "\"status\":\"allowed\"},\"seven_day\":{\"utilization\":\"much\","
                 "\"resetsAt\":1795245960},\"other\":{}}}}\n");
    assert_true(heard.stream.have_windows);
    assert_true(windows[USAGE_FIVE_HOUR].known);
    assert_true(windows[USAGE_FIVE_HOUR].ratio > 0.419 && windows[USAGE_FIVE_HOUR].ratio < 0.421);
    assert_int_equal(windows[USAGE_FIVE_HOUR].resets_ms, INT64_C(1795245960000));
    assert_false(windows[USAGE_SEVEN_DAY].known);
    assert_int_equal(heard.stream.limit_reset_ms, 0);
    heard.stream.have_windows = false;
    feed(&heard, "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"unifiedWindows\":[1]}}\n"
                 "{\"type\":\"rate_limit_event\",\"rate_limit_info\":7}\n"
                 "{\"type\":\"rate_limit_event\"}\n");
    assert_false(heard.stream.have_windows);
    heard_done(&heard);
}

static void members_of_the_result_are_taken_as_they_are(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard);
    feed(&heard, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"\","
                 "\"structured_output\":{\"big\":12345678901234567890}" RESULT_REST "\n");
    assert_string_equal(buf_str(&heard.stream.members),
                        ",\"sessionId\":\"s-1\",\"usage\":{\"input_tokens\":3},"
                        "\"modelUsage\":{\"m\":{}},\"total_cost_usd\":0.0125,\"num_turns\":2,"
                        "\"duration_api_ms\":3,\"permission_denials\":[],"
                        "\"structured_output\":{\"big\":12345678901234567890}");
    assert_int_equal(heard.stream.num_turns, 2);
    heard_done(&heard);
}

static void members_of_another_type_are_left_out(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard);
    feed(&heard, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":null,\"result\":7,"
                 "\"session_id\":5,\"usage\":null,\"modelUsage\":[],\"total_cost_usd\":\"free\","
                 "\"num_turns\":{},\"permission_denials\":\"none\",\"structured_output\":null}\n");
    assert_string_equal(buf_str(&heard.stream.members), ",\"structured_output\":null");
    assert_true(heard.stream.have_result && !heard.stream.is_error);
    assert_string_equal(buf_str(&heard.stream.output), "");
    assert_int_equal(heard.stream.num_turns, -1);
    heard_done(&heard);
}

static void what_is_no_clear_success_is_an_error(void **state)
{
    (void)state;
    static const char *const values[] = {"true", "\"false\"", "0", "1", "[]", "{}"};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char line[160];
        struct heard heard;
        heard_init(&heard);
        snprintf(line, sizeof(line),
                 "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":%s,\"result\":\"x\"}\n",
                 values[i]);
        feed(&heard, line);
        assert_true(heard.stream.have_result && heard.stream.is_error);
        assert_string_equal(buf_str(&heard.stream.output), "x");
        heard_done(&heard);
    }
}

static void members_that_are_too_large_are_left_out(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard);
    AUTO(str) char *large = malloc((2u << 20) + 1);
    memset(large, 'u', 2u << 20);
    large[2u << 20] = '\0';
    feed(&heard,
         "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"usage\":{\"a\":\"");
    feed(&heard, large);
    feed(&heard, "\"},\"result\":\"kept\"}\n");
    assert_true(heard.stream.have_result && heard.stream.truncated);
    assert_int_equal(heard.stream.members.len, 0);
    assert_string_equal(buf_str(&heard.stream.output), "kept");
    heard_done(&heard);
}

/* --- what is too long ---------------------------------------------------------------------- */

static void feed_many(struct heard *heard, const char *begin, char c, size_t count, const char *end)
{
    char block[65536];
    memset(block, c, sizeof(block));
    feed(heard, begin);
    for (; count > 0; count -= count < sizeof(block) ? count : sizeof(block))
        claude_output_feed(&heard->stream, block, count < sizeof(block) ? count : sizeof(block));
    feed(heard, end);
}

static void a_line_up_to_the_limit_is_whole_and_a_longer_one_is_cut(void **state)
{
    (void)state;
    const size_t frame = strlen("{\"a\":\"\"}");
    static const struct {
        size_t beyond;
        bool cut;
    } cases[] = {{0, false}, {1, true}, {5u << 20, true}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct heard heard;
        heard_init(&heard);
        size_t count = LINE_BYTES_MAX - frame + cases[i].beyond;
        feed_many(&heard, "{\"a\":\"", 'x', count, "\"}\n{\"next\":1}\n");
        assert_int_equal(heard.count, 2);
        assert_int_equal(heard.stream.truncated, cases[i].cut);
        assert_int_equal(heard.longest > 100000, !cases[i].cut);
        assert_non_null(strstr(heard.events.data + heard.events.len - 13, "{\"next\":1}\n"));
        AUTO(str) char *told = textf("\"truncated\":true,\"bytes\":%zu}", count + frame);
        assert_int_equal(strstr(buf_str(&heard.events), told) != NULL, cases[i].cut);
        assert_true(heard.stream.lines.held.cap < 1u << 20 && heard.stream.scratch.cap < 2u << 20);
        heard_done(&heard);
    }
}

static void a_line_that_grows_too_long_by_escaping_is_cut(void **state)
{
    (void)state;
    static const struct {
        const char *begin;
        char c;
    } cases[] = {{"", '\x01'}, {"", '\xff'}, {"{\"a\":\"", '\xff'}, {"", '"'}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct heard heard;
        heard_init(&heard);
        feed_many(&heard, cases[i].begin, cases[i].c, 15u << 20, "\n");
        assert_int_equal(heard.count, 1);
        assert_true(heard.longest <= EVENT_JSON_BYTES_MAX);
        heard_done(&heard);
    }
}

static void a_result_that_is_too_long_is_no_result(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard);
    feed_many(&heard, "{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"", 'x',
              LINE_BYTES_MAX, "\"}\n");
    assert_false(heard.stream.have_result);
    assert_true(heard.stream.truncated);
    heard_done(&heard);
}

/* --- secrets ------------------------------------------------------------------------------- */

static void secrets_are_redacted_in_every_form_however_lines_are_split(void **state)
{
    (void)state;
    static const char secret[] = "sk-\"quoted\"/and\\slashed-0123456789";
    AUTO(buf) struct buf text = BUF_INIT(10000);
    AUTO(buf) struct buf coded = BUF_INIT(1000);
    buf_addf(&text, "raw %s end\n{\"type\":\"x\",\"escaped\":\"<", secret);
    str_add_json(&text, secret, strlen(secret));
    buf_adds(&text, ">\"}\n");
    for (size_t shift = 0; shift < 3; shift++) {
        buf_clear(&coded);
        buf_add(&coded, "xyz", shift);
        buf_adds(&coded, secret);
        buf_adds(&coded, "tail");
        buf_adds(&text, "{\"b64\":\"");
        str_add_base64(&text, BASE64_STD, coded.data, coded.len);
        buf_adds(&text, "\"}\n");
    }
    buf_addf(&text,
             "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"");
    str_add_json(&text, secret, strlen(secret));
    buf_adds(&text, "\"}\n");
    for (size_t cut = 0; cut <= text.len; cut++) {
        struct heard heard;
        heard_init(&heard);
        assert_int_equal(redact_add(heard.redact, secret), 0);
        claude_output_feed(&heard.stream, text.data, cut);
        claude_output_feed(&heard.stream, text.data + cut, text.len - cut);
        assert_int_equal(heard.count, 6);
        assert_null(strstr(buf_str(&heard.events), "0123456789"));
        assert_null(strstr(buf_str(&heard.events), "quoted"));
        assert_null(strstr(buf_str(&heard.events), "c2xhc2hlZC")); /* "slashed" in base64 */
        assert_non_null(strstr(buf_str(&heard.events), "\"escaped\":\"<" REDACT_MARK ">\""));
        assert_string_equal(buf_str(&heard.stream.output), REDACT_MARK);
        heard_done(&heard);
    }
}

static void a_cut_line_shows_no_half_of_a_secret(void **state)
{
    (void)state;
    static const char secret[] = "secret-of-forty-bytes-0123456789abcdefgh";
    for (size_t before = 65536 - 60; before <= 65536; before += 3) {
        struct heard heard;
        heard_init(&heard);
        assert_int_equal(redact_add(heard.redact, secret), 0);
        feed_many(&heard, "", 'x', before, secret);
        feed_many(&heard, "", 'y', LINE_BYTES_MAX, "\n");
        assert_int_equal(heard.count, 1);
        assert_null(strstr(buf_str(&heard.events), "secret"));
        heard_done(&heard);
    }
}

/* --- following a file ---------------------------------------------------------------------- */

static void a_tail_reads_what_is_appended_and_gives_the_disk_back(void **state)
{
    (void)state;
    struct err err;
    struct tail tail;
    struct stat st;
    char *dir = tmp_dir_new();
    AUTO(str) char *path = textf("%s/out", dir);
    AUTO(str) char *block = malloc(1u << 20);
    OK(tail_open(&tail, path, true, &err) == 0, &err);
    assert_int_equal(tail_read(&tail, block, 100), 0);
    for (int i = 0; i < 26; i++) {
        memset(block, 'a' + i, 1u << 20);
        assert_int_equal(write(tail.write_fd, block, 1u << 20), 1u << 20);
        for (size_t got = 0, n; got < 1u << 20; got += n) {
            n = tail_read(&tail, block, 300000);
            assert_true(n > 0 && block[0] == 'a' + i && block[n - 1] == 'a' + i);
        }
    }
    tail_heed(&tail);
    assert_int_equal(fstat(tail.read_fd, &st), 0);
    assert_int_equal(st.st_size, 26u << 20);
    if (st.st_blocks * 512 > 16 << 20)
        print_message("this file system makes no holes\n");
    struct tail second;
    assert_int_equal(tail_open(&second, path, true, &err), -1); /* a file that exists is refused */
    tail_done(&tail);
    tmp_dir_free(dir);
}

static void the_end_of_a_file_shows_no_half_of_a_secret(void **state)
{
    (void)state;
    static const char secret[] = "secret-4711-0815-secret";
    char text[100] = "";
    struct redact_set *set = redact_new();
    assert_int_equal(redact_add(set, secret), 0);
    AUTO(fd) int fd = memfd_create("shown", MFD_CLOEXEC);
    memset(text, '.', sizeof(text));
    memcpy(text + 50, secret, strlen(secret));
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    for (size_t bytes = 1; bytes < 120; bytes++) {
        AUTO(buf) struct buf out = BUF_INIT(200);
        tail_show(fd, bytes, set, &out);
        assert_true(out.len <= bytes && buf_ok(&out));
        assert_null(strstr(buf_str(&out), "secret"));
        assert_null(strstr(buf_str(&out), "0815"));
        if (bytes >= 100 - strlen(secret) + strlen(REDACT_MARK))
            assert_non_null(strstr(buf_str(&out), "." REDACT_MARK "."));
    }
    redact_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_the_same_however_they_are_split),
        cmocka_unit_test(a_line_of_any_bytes_arrives_whole),
        cmocka_unit_test(a_large_buffer_is_given_back),
        cmocka_unit_test(what_is_printed_becomes_events_of_strict_json),
        cmocka_unit_test(the_result_line_decides_by_its_fields),
        cmocka_unit_test(the_accounts_windows_are_taken_from_their_events),
        cmocka_unit_test(members_of_the_result_are_taken_as_they_are),
        cmocka_unit_test(members_of_another_type_are_left_out),
        cmocka_unit_test(what_is_no_clear_success_is_an_error),
        cmocka_unit_test(members_that_are_too_large_are_left_out),
        cmocka_unit_test(a_line_up_to_the_limit_is_whole_and_a_longer_one_is_cut),
        cmocka_unit_test(a_line_that_grows_too_long_by_escaping_is_cut),
        cmocka_unit_test(a_result_that_is_too_long_is_no_result),
        cmocka_unit_test(secrets_are_redacted_in_every_form_however_lines_are_split),
        cmocka_unit_test(a_cut_line_shows_no_half_of_a_secret),
        cmocka_unit_test(the_end_of_a_file_shows_no_half_of_a_secret),
        cmocka_unit_test(a_tail_reads_what_is_appended_and_gives_the_disk_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
