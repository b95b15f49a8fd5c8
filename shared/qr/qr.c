#include "qr/qr.h"

#include "base/check.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CODEWORDS_MAX 1085 /* of the largest version, parity included */
#define PARITY_MAX 30
#define MARGIN 4

/* Per version, at the lowest level: bytes of parity in a block, and blocks. */
static const unsigned char parity_of[QR_VERSION_MAX + 1] = {
    0, 7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28};
static const unsigned char blocks_of[QR_VERSION_MAX + 1] = {0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4,
                                                            4, 4, 4, 4, 6, 6, 6, 6, 7, 8};

struct canvas {
    struct qr *qr;
    int version;
    bool fixed[QR_SIDE_MAX][QR_SIDE_MAX]; /* part of a pattern: carries no data and is not masked */
};

/* --- bytes and their parity ---------------------------------------------------------------- */

/* How many bytes a version has for data and parity between its patterns. */
static int codewords_of(int version)
{
    int bits = (16 * version + 128) * version + 64;
    if (version >= 2) {
        int align = version / 7 + 2;
        bits -= (25 * align - 10) * align - 55;
        if (version >= 7)
            bits -= 36;
    }
    return bits / 8;
}

static int data_bytes_of(int version)
{
    return codewords_of(version) - parity_of[version] * blocks_of[version];
}

/* Multiplies in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1. */
static unsigned char multiply(unsigned char a, unsigned char b)
{
    unsigned product = 0;
    for (int bit = 7; bit >= 0; bit--) {
        product = (product << 1) ^ (product >> 7) * 0x11d;
        product ^= (b >> bit & 1u) * a;
    }
    return (unsigned char)product;
}

static void make_divisor(int degree, unsigned char divisor[PARITY_MAX])
{
    unsigned char root = 1;
    memset(divisor, 0, PARITY_MAX);
    divisor[degree - 1] = 1;
    for (int i = 0; i < degree; i++) {
        for (int j = 0; j < degree; j++)
            divisor[j] =
                (unsigned char)(multiply(divisor[j], root) ^ (j + 1 < degree ? divisor[j + 1] : 0));
        root = multiply(root, 2);
    }
}

static void make_parity(const unsigned char *data, int len, const unsigned char *divisor,
                        int degree, unsigned char parity[PARITY_MAX])
{
    memset(parity, 0, PARITY_MAX);
    for (int i = 0; i < len; i++) {
        unsigned char factor = data[i] ^ parity[0];
        memmove(parity, parity + 1, (size_t)degree - 1);
        parity[degree - 1] = 0;
        for (int j = 0; j < degree; j++)
            parity[j] ^= multiply(divisor[j], factor);
    }
}

struct bits {
    unsigned char bytes[CODEWORDS_MAX];
    int count;
};

static void add_bits(struct bits *bits, unsigned value, int count)
{
    for (int i = count - 1; i >= 0; i--, bits->count++)
        bits->bytes[bits->count / 8] |= (unsigned char)((value >> i & 1u) << (7 - bits->count % 8));
}

/* Writes mode, length, text, end mark and padding up to the version's capacity. */
static void write_text(const char *text, int len, int version, struct bits *bits)
{
    int capacity = data_bytes_of(version) * 8;
    memset(bits, 0, sizeof(*bits));
    add_bits(bits, 4, 4);
    add_bits(bits, (unsigned)len, version < 10 ? 8 : 16);
    for (int i = 0; i < len; i++)
        add_bits(bits, (unsigned char)text[i], 8);
    add_bits(bits, 0, capacity - bits->count < 4 ? capacity - bits->count : 4);
    add_bits(bits, 0, (8 - bits->count % 8) % 8);
    for (unsigned fill = 0xec; bits->count < capacity; fill ^= 0xec ^ 0x11)
        add_bits(bits, fill, 8);
}

/* Interleaves blocks of data and their parity, one byte of each in turn. The first blocks are one
 * byte shorter when the data does not divide evenly. */
static void interleave(const struct bits *data, int version, unsigned char out[CODEWORDS_MAX])
{
    int blocks = blocks_of[version], degree = parity_of[version], at = 0;
    int all = codewords_of(version), shorter = blocks - all % blocks;
    int len = all / blocks - degree; /* data bytes of a short block */
    unsigned char divisor[PARITY_MAX], parity[PARITY_MAX];
    make_divisor(degree, divisor);
    for (int b = 0; b < blocks; b++) {
        int mine = len + (b >= shorter);
        make_parity(data->bytes + at, mine, divisor, degree, parity);
        for (int i = 0; i < mine; i++)
            out[i < len ? i * blocks + b : len * blocks + b - shorter] = data->bytes[at + i];
        for (int i = 0; i < degree; i++)
            out[data_bytes_of(version) + i * blocks + b] = parity[i];
        at += mine;
    }
}

/* --- patterns ------------------------------------------------------------------------------ */

static void set(struct canvas *canvas, int row, int column, bool dark)
{
    canvas->qr->dark[row][column] = dark;
    canvas->fixed[row][column] = true;
}

static void draw_finder(struct canvas *canvas, int row, int column)
{
    int side = canvas->qr->side;
    for (int y = -4; y <= 4; y++)
        for (int x = -4; x <= 4; x++) {
            int ring = abs(x) > abs(y) ? abs(x) : abs(y);
            if (row + y >= 0 && row + y < side && column + x >= 0 && column + x < side)
                set(canvas, row + y, column + x, ring != 2 && ring != 4);
        }
}

static void draw_alignments(struct canvas *canvas)
{
    int side = canvas->qr->side, version = canvas->version, places[8];
    if (version == 1)
        return;
    int count = version / 7 + 2;
    int step = (version * 4 + count * 2 + 1) / (count * 2 - 2) * 2;
    places[0] = 6;
    for (int i = count - 1, at = side - 7; i >= 1; i--, at -= step)
        places[i] = at;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) {
            bool corner = (i == 0 && (j == 0 || j == count - 1)) || (i == count - 1 && j == 0);
            for (int y = -2; !corner && y <= 2; y++)
                for (int x = -2; x <= 2; x++)
                    set(canvas, places[i] + y, places[j] + x,
                        (abs(x) > abs(y) ? abs(x) : abs(y)) != 1);
        }
}

/* The remainder of value * x^degree by the polynomial. */
static unsigned remainder_of(unsigned value, unsigned polynomial, int degree)
{
    unsigned rest = value;
    for (int i = 0; i < degree; i++)
        rest = (rest << 1) ^ (rest >> (degree - 1) & 1u) * polynomial;
    return rest;
}

static void draw_format(struct canvas *canvas, int mask)
{
    int side = canvas->qr->side;
    unsigned data = 1u << 3 | (unsigned)mask; /* level L */
    unsigned bits = (data << 10 | remainder_of(data, 0x537, 10)) ^ 0x5412;
    for (int i = 0; i < 15; i++) {
        bool dark = bits >> i & 1u;
        int first = i < 6   ? i
                    : i < 8 ? i + 1
                            : 0; /* down the column, skipping the timing
                                  * pattern */
        if (i < 8)
            set(canvas, first, 8, dark);
        else
            set(canvas, 8, i == 8 ? 7 : 14 - i, dark);
        if (i < 8)
            set(canvas, 8, side - 1 - i, dark);
        else
            set(canvas, side - 15 + i, 8, dark);
    }
    set(canvas, side - 8, 8, true);
}

static void draw_version(struct canvas *canvas)
{
    int side = canvas->qr->side;
    if (canvas->version < 7)
        return;
    unsigned bits =
        (unsigned)canvas->version << 12 | remainder_of((unsigned)canvas->version, 0x1f25, 12);
    for (int i = 0; i < 18; i++) {
        bool dark = bits >> i & 1u;
        set(canvas, side - 11 + i % 3, i / 3, dark);
        set(canvas, i / 3, side - 11 + i % 3, dark);
    }
}

static void draw_patterns(struct canvas *canvas)
{
    int side = canvas->qr->side;
    for (int i = 0; i < side; i++) {
        set(canvas, 6, i, i % 2 == 0);
        set(canvas, i, 6, i % 2 == 0);
    }
    draw_finder(canvas, 3, 3);
    draw_finder(canvas, 3, side - 4);
    draw_finder(canvas, side - 4, 3);
    draw_alignments(canvas);
    draw_format(canvas, 0); /* Reserves the places; the mask number is written later. */
    draw_version(canvas);
}

/* --- data and masks ------------------------------------------------------------------------ */

/* Goes up and down in pairs of columns, from the right, and leaves out the column of the timing
 * pattern. */
static void draw_data(struct canvas *canvas, const unsigned char *bytes, int len)
{
    int side = canvas->qr->side, at = 0;
    for (int right = side - 1; right >= 1; right -= 2) {
        right -= right == 6;
        bool up = ((right + 1) & 2) == 0;
        for (int i = 0; i < side; i++)
            for (int j = 0; j < 2; j++) {
                int row = up ? side - 1 - i : i, column = right - j;
                if (canvas->fixed[row][column] || at >= len * 8)
                    continue;
                canvas->qr->dark[row][column] = bytes[at / 8] >> (7 - at % 8) & 1;
                at++;
            }
    }
}

static bool mask_at(int mask, int y, int x)
{
    switch (mask) {
    case 0:
        return (x + y) % 2 == 0;
    case 1:
        return y % 2 == 0;
    case 2:
        return x % 3 == 0;
    case 3:
        return (x + y) % 3 == 0;
    case 4:
        return (x / 3 + y / 2) % 2 == 0;
    case 5:
        return x * y % 2 + x * y % 3 == 0;
    case 6:
        return (x * y % 2 + x * y % 3) % 2 == 0;
    default:
        return ((x + y) % 2 + x * y % 3) % 2 == 0;
    }
}

/* Applies a mask to the data; a second call removes it. */
static void lay_mask(struct canvas *canvas, int mask)
{
    for (int y = 0; y < canvas->qr->side; y++)
        for (int x = 0; x < canvas->qr->side; x++)
            canvas->qr->dark[y][x] ^= !canvas->fixed[y][x] && mask_at(mask, y, x);
}

/* Scores one row or (across) one column: long runs of one colour, and shapes that look like a
 * finder pattern. */
static int judge_line(const struct qr *qr, int line, bool across)
{
    int bad = 0, run = 0;
    unsigned last = 0; /* the last eleven */
    for (int i = 0; i < qr->side; i++) {
        bool dark = across ? qr->dark[i][line] : qr->dark[line][i];
        run = i > 0 && (last & 1u) == dark ? run + 1 : 1;
        bad += run == 5 ? 3 : run > 5;
        last = (last << 1 | dark) & 0x7ff;
        bad += i >= 10 && (last == 0x5d0 || last == 0x05d) ? 40 : 0;
    }
    return bad;
}

/* The penalty of a code: how much in it could mislead a reader. */
static int judge(const struct qr *qr)
{
    int bad = 0, dark = 0, side = qr->side;
    for (int i = 0; i < side; i++)
        bad += judge_line(qr, i, false) + judge_line(qr, i, true);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            bool here = qr->dark[y][x];
            dark += here;
            bad += y > 0 && x > 0 && here == qr->dark[y - 1][x] && here == qr->dark[y][x - 1] &&
                           here == qr->dark[y - 1][x - 1]
                       ? 3
                       : 0;
        }
    return bad + abs(dark * 20 - side * side * 10) / (side * side) * 10;
}

static void choose_mask(struct canvas *canvas)
{
    int best = 0, least = INT32_MAX;
    for (int mask = 0; mask < 8; mask++) {
        lay_mask(canvas, mask);
        draw_format(canvas, mask);
        int bad = judge(canvas->qr);
        if (bad < least) {
            least = bad;
            best = mask;
        }
        lay_mask(canvas, mask);
    }
    lay_mask(canvas, best);
    draw_format(canvas, best);
}

int qr_encode(const char *text, struct qr *ret_qr, struct err *err)
{
    struct bits bits;
    struct canvas canvas = {.qr = ret_qr, .version = 1};
    unsigned char bytes[CODEWORDS_MAX];
    size_t len = strlen(text);
    if (len > QR_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes are too many for a QR code", len);
    while ((int)len * 8 + (canvas.version < 10 ? 12 : 20) > data_bytes_of(canvas.version) * 8)
        canvas.version++;
    memset(ret_qr, 0, sizeof(*ret_qr));
    ret_qr->side = 17 + 4 * canvas.version;
    write_text(text, (int)len, canvas.version, &bits);
    interleave(&bits, canvas.version, bytes);
    draw_patterns(&canvas);
    draw_data(&canvas, bytes, codewords_of(canvas.version));
    choose_mask(&canvas);
    return 0;
}

/* --- drawing ------------------------------------------------------------------------------- */

static bool is_dark(const struct qr *qr, int row, int column)
{
    return row >= 0 && row < qr->side && column >= 0 && column < qr->side && qr->dark[row][column];
}

void qr_draw(const struct qr *qr, struct buf *out)
{
    REQUIRE(qr->side > 0 && qr->side <= QR_SIDE_MAX);
    static const char *const halves[] = {" ", "\u2584", "\u2580", "\u2588"};
    for (int row = -MARGIN; row < qr->side + MARGIN; row += 2) {
        buf_adds(out, "\033[38;5;16;48;5;231m");
        for (int column = -MARGIN; column < qr->side + MARGIN; column++)
            buf_adds(out, halves[is_dark(qr, row, column) * 2 + is_dark(qr, row + 1, column)]);
        buf_adds(out, "\033[0m\n");
    }
}
