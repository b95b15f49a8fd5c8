/* Frames of a WebSocket: whole, in pieces of any size, and invalid ones. */
#include "testbase.h"

#include "base/auto.h"
#include "base/buf.h"
#include "websocket/websocket.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 1000

/* Records what arrived: "T:hello;", "B:…;" (pieces joined), "P:…;", "O:…;", "C1000:why;". */
struct seen {
    struct buf text;
    bool binary;
};

static int note(enum websocket_kind kind, int code, const char *data, size_t len, void *arg)
{
    struct seen *seen = arg;
    if (kind == WEBSOCKET_BINARY && !seen->binary)
        buf_adds(&seen->text, "B:");
    seen->binary = kind == WEBSOCKET_BINARY || (seen->binary && kind > WEBSOCKET_CLOSE);
    if (kind == WEBSOCKET_CLOSE)
        buf_addf(&seen->text, "C%d:", code);
    else if (kind != WEBSOCKET_BINARY)
        buf_addf(&seen->text, "%c:",
                 kind == WEBSOCKET_TEXT   ? 'T'
                 : kind == WEBSOCKET_PING ? 'P'
                                          : 'O');
    buf_add(&seen->text, data, len);
    if (kind != WEBSOCKET_BINARY)
        buf_addc(&seen->text, ';');
    return 0;
}

/* Reads the bytes in pieces of `step`. Returns the code; *seen is what arrived. */
static int feed(const char *bytes, size_t len, size_t step, bool masked, struct seen *seen)
{
    struct websocket_reader reader;
    int code = 0;
    *seen = (struct seen){.text = BUF_INIT(1u << 20)};
    websocket_reader_init(&reader, masked, TEXT_MAX);
    for (size_t at = 0; at < len && code == 0; at += step) {
        size_t n = len - at < step ? len - at : step;
        char *copy = malloc(n); /* exactly as long, so that a sanitizer notices a step too far */
        assert_non_null(copy);
        memcpy(copy, bytes + at, n);
        code = websocket_read(&reader, copy, n, note, seen);
        free(copy);
    }
    websocket_reader_done(&reader);
    return code;
}

struct case_of {
    const char *name, *bytes;
    size_t len;
    int code;
    const char *seen;
};
#define CASE(name, bytes, code, seen)              \
    {                                              \
        name, bytes, sizeof(bytes) - 1, code, seen \
    }

static void check_cases(const struct case_of *cases, size_t count, bool masked)
{
    for (size_t i = 0; i < count; i++)
        for (size_t step = 1; step <= cases[i].len; step++) {
            struct seen seen;
            int code = feed(cases[i].bytes, cases[i].len, step, masked, &seen);
            if (code != cases[i].code || strcmp(buf_str(&seen.text), cases[i].seen) != 0)
                fail_msg("%s, by %zu: %d '%s'", cases[i].name, step, code, buf_str(&seen.text));
            buf_done(&seen.text);
        }
}

static void frames_are_read_however_they_are_cut(void **state)
{
    static const struct case_of cases[] = {
        CASE("text", "\x81\x05Hello", 0, "T:Hello;"),
        CASE("in two frames", "\x01\x03Hel\x80\x02lo", 0, "T:Hello;"),
        CASE("a ping between", "\x01\x03Hel\x89\x02xy\x80\x02lo", 0, "P:xy;T:Hello;"),
        CASE("empty text", "\x81\x00", 0, "T:;"),
        CASE("empty frames", "\x01\x00\x00\x00\x80\x00\x81\x01x", 0, "T:;T:x;"),
        CASE("binary", "\x82\x03\x01\x02\x03", 0, "B:\x01\x02\x03"),
        CASE("binary in two", "\x02\x02\x61\x62\x8a\x00\x80\x01\x63", 0, "B:abO:;c"),
        CASE("pong", "\x8a\x01z", 0, "O:z;"),
        CASE("a character in two frames", "\x01\x01\xc3\x80\x01\xa4", 0, "T:\xc3\xa4;"),
        CASE("close",
             "\x88\x05\x03\xe8"
             "bye\x81\x01x",
             0, "C1000:bye;"),
        CASE("close without a code", "\x88\x00", 0, "C1005:;"),
        CASE("close 4999", "\x88\x02\x13\x87", 0, "C4999:;"),
    };
    (void)state;
    check_cases(cases, COUNT_OF(cases), false);
}

static void a_clients_frames_are_unmasked(void **state)
{
    static const struct case_of cases[] = {
        CASE("RFC 6455, 5.7", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 0, "T:Hello;"),
        CASE("not masked", "\x81\x05Hello", 1002, ""),
        CASE("two", "\x81\x81\x01\x02\x03\x04\x60\x89\x80\x00\x00\x00\x00", 0, "T:a;P:;"),
    };
    (void)state;
    check_cases(cases, COUNT_OF(cases), true);
}

static void wrong_frames_are_refused_with_their_code(void **state)
{
    static const struct case_of cases[] = {
        CASE("masked by a server", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 1002, ""),
        CASE("reserved bit 1", "\xc1\x01x", 1002, ""),
        CASE("reserved bit 2", "\xa1\x01x", 1002, ""),
        CASE("reserved bit 3", "\x91\x01x", 1002, ""),
        CASE("kind 3", "\x83\x00", 1002, ""),
        CASE("kind 11", "\x8b\x00", 1002, ""),
        CASE("a long ping", "\x89\x7e\x00\x7e", 1002, ""),
        CASE("a ping in pieces", "\x09\x00", 1002, ""),
        CASE("a close in pieces", "\x08\x00", 1002, ""),
        CASE("goes on without a beginning", "\x80\x01x", 1002, ""),
        CASE("begins twice", "\x01\x01x\x81\x01y", 1002, ""),
        CASE("not the shortest length, 2", "\x82\x7e\x00\x05Hello", 1002, ""),
        CASE("not the shortest length, 8", "\x82\x7f\x00\x00\x00\x00\x00\x00\x01\x00", 1002, ""),
        CASE("a length of 64 bits", "\x82\x7f\x80\x00\x00\x00\x00\x01\x00\x00", 1002, ""),
        CASE("no UTF-8", "\x81\x02\xc3\x28", 1007, ""),
        CASE("a surrogate", "\x81\x03\xed\xa0\x80", 1007, ""),
        CASE("half a character", "\x81\x01\xc3", 1007, ""),
        CASE("a text that is too long", "\x81\x7e\x03\xe9", 1009, ""),
        CASE("a text that gets too long", "\x01\x01x\x80\x7e\x03\xe8", 1009, ""),
        CASE("close of one byte", "\x88\x01x", 1002, ""),
        CASE("close 1005", "\x88\x02\x03\xed", 1002, ""),
        CASE("close 1006", "\x88\x02\x03\xee", 1002, ""),
        CASE("close 999", "\x88\x02\x03\xe7", 1002, ""),
        CASE("close 2999", "\x88\x02\x0b\xb7", 1002, ""),
        CASE("close 5000", "\x88\x02\x13\x88", 1002, ""),
        CASE("close with a wrong reason", "\x88\x04\x03\xe8\xc3\x28", 1007, ""),
    };
    (void)state;
    check_cases(cases, COUNT_OF(cases), false);
}

static void what_is_written_is_read(void **state)
{
    static const size_t lens[] = {0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 200000};
    static const unsigned char mask[] = {0x12, 0xff, 0x00, 0x80};
    static char bytes[200000];
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 31 >> 3);
    for (size_t i = 0; i < COUNT_OF(lens); i++)
        for (int masked = 0; masked < 2; masked++) {
            struct seen seen;
            AUTO(buf) struct buf frame = BUF_INIT(1u << 20);
            websocket_add(&frame, WEBSOCKET_BINARY, bytes, lens[i], masked ? mask : NULL);
            assert_int_equal(feed(frame.data, frame.len, 1000, masked, &seen), 0);
            size_t head = lens[i] > 0 ? 2 : 0; /* "B:" */
            assert_int_equal(seen.text.len, lens[i] + head);
            assert_memory_equal(buf_str(&seen.text) + head, bytes, lens[i]);
            buf_done(&seen.text);
        }
}

static void a_long_reason_is_cut_between_characters(void **state)
{
    struct seen seen;
    char reason[401];
    (void)state;
    for (size_t i = 0; i < sizeof(reason); i++)
        reason[i] = i % 2 ? '\xa4' : '\xc3';
    reason[sizeof(reason) - 1] = '\0';
    AUTO(buf) struct buf frame = BUF_INIT(4096);
    websocket_add_close(&frame, WEBSOCKET_TOO_LONG, reason, NULL);
    assert_int_equal(feed(frame.data, frame.len, 7, false, &seen), 0);
    assert_int_equal(seen.text.len, strlen("C1009:;") + 122);
    buf_done(&seen.text);
}

static void the_handshake_is_that_of_the_standard(void **state)
{
    static const char *const wrong[] = {"",
                                        "x",
                                        "dGhlIHNhbXBsZSBub25jZQ=",
                                        "dGhlIHNhbXBsZSBub25j",
                                        "dGhlIHNhbXBsZSBub25jZQ==x",
                                        "dGhlIHNhbXBsZSBub25jZQ!!"};
    char accept[WEBSOCKET_ACCEPT_SIZE], key[WEBSOCKET_KEY_SIZE];
    (void)state;
    assert_int_equal(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept), 0);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    websocket_key((const unsigned char *)"the sample nonce", key);
    assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_int_equal(websocket_accept(wrong[i], accept), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_read_however_they_are_cut),
        cmocka_unit_test(a_clients_frames_are_unmasked),
        cmocka_unit_test(wrong_frames_are_refused_with_their_code),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_long_reason_is_cut_between_characters),
        cmocka_unit_test(the_handshake_is_that_of_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
