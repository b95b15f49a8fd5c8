/*
 * QR codes: their shape, and what another program reads from them (jsQR, where node and
 * tests/console have it).
 */
#include "qr/qr.h"

#include "testbase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct qr qr;

static void encode(const char *text)
{
    struct err err = ERR_INIT;
    OK(qr_encode(text, &qr, &err) == 0, &err);
}

/* The smallest version that holds that many bytes, by the standard's table. */
static void takes_the_smallest_that_fits(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        int version;
    } cases[] = {{0, 1},    {17, 1},   {18, 2},   {32, 2},   {33, 3},   {134, 6},
                 {135, 7},  {154, 7},  {192, 8},  {230, 9},  {231, 10}, {271, 10},
                 {272, 11}, {718, 18}, {792, 19}, {793, 20}, {858, 20}};
    char text[QR_TEXT_MAX + 2];
    for (size_t i = 0; i < COUNT(cases); i++) {
        memset(text, 'x', cases[i].len);
        text[cases[i].len] = '\0';
        encode(text);
        assert_int_equal(qr.side, 17 + 4 * cases[i].version);
    }
    struct err err = ERR_INIT;
    memset(text, 'x', QR_TEXT_MAX + 1);
    text[QR_TEXT_MAX + 1] = '\0';
    assert_int_equal(qr_encode(text, &qr, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void is_drawn_with_its_margin(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(1u << 20);
    encode("https://runner.example.org/#/enter?token=0123456789abcdef");
    qr_draw(&qr, &out);
    int lines = 0;
    for (const char *at = buf_str(&out); *at; at++)
        lines += *at == '\n';
    assert_int_equal(lines, (qr.side + 8 + 1) / 2);
    assert_int_equal(strncmp(buf_str(&out), "\033[38;5;16;48;5;231m      ", 25), 0);
}

/* Writes "TEXT-AS-HEX ROW ROW …" lines; a row is of 0 and 1. */
static void write_code(FILE *file, const char *text)
{
    encode(text);
    for (const char *at = text; *at; at++)
        fprintf(file, "%02x", (unsigned char)*at);
    for (int y = 0; y < qr.side; y++) {
        fputc(' ', file);
        for (int x = 0; x < qr.side; x++)
            fputc(qr.dark[y][x] ? '1' : '0', file);
    }
    fputc('\n', file);
}

static void is_read_by_another_program(void **state)
{
    (void)state;
    if (access("/usr/bin/node", X_OK) || access(TEST_QR_FOLDER "/node_modules/jsqr", R_OK))
        SKIP_BECAUSE("node or jsqr is missing (npm ci in tests/console)");
    char *dir = tmp_dir_new(), *path = textf("%s/codes", dir), text[QR_TEXT_MAX + 1];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    write_code(file, "https://runner.example.org/#/enter?token=AbCdEf-_0123456789");
    write_code(file, "Grüße aus Köln");
    for (size_t len = 1; len <= QR_TEXT_MAX; len += len < 60 ? 1 : 37) {
        for (size_t i = 0; i < len; i++)
            text[i] = (char)('!' + (i * 7 + len * 13) % 90);
        text[len] = '\0';
        write_code(file, text);
    }
    assert_int_equal(fclose(file), 0);
    char *out = textf("%s/said", dir);
    char *argv[] = {(char[]){"/usr/bin/node"}, (char[]){TEST_QR_FOLDER "/qr.mjs"}, path, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    int status = -1;
    bool ended = proc_wait(proc_start(argv, env, out, out), 120000, &status);
    char *said = read_file(out, NULL);
    print_message("%s", said ? said : "");
    assert_true(ended);
    assert_int_equal(status, 0);
    free(said);
    free(out);
    free(path);
    tmp_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_smallest_that_fits),
        cmocka_unit_test(is_drawn_with_its_margin),
        cmocka_unit_test(is_read_by_another_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
