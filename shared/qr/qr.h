/*
 * QR codes (ISO/IEC 18004) of short texts, shown on a terminal for a phone's camera.
 *
 * Theory of operation. The text becomes bytes with parity (Reed-Solomon over GF(256)), in blocks
 * that are interleaved. Their bits fill a square in a zigzag, between the patterns by which a
 * reader finds the square. Then one of eight masks is applied: the one that leaves the fewest
 * shapes which a reader could mistake for a pattern. Only byte mode and the lowest level of
 * correction are used: a screen has no scratches, and a small code fits a small terminal.
 *
 * Threads: no shared state.
 */
#ifndef QR_QR_H
#define QR_QR_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

#define QR_VERSION_MAX 20
#define QR_SIDE_MAX (17 + 4 * QR_VERSION_MAX)
#define QR_TEXT_MAX 858 /* bytes */

struct qr {
    int side;                            /* modules */
    bool dark[QR_SIDE_MAX][QR_SIDE_MAX]; /* [row][column] */
};

/* The smallest code that holds the text (UTF-8). ERR_TOO_LARGE past QR_TEXT_MAX. */
int qr_encode(const char *text, struct qr *ret_qr, struct err *err);

/* Appends lines for a terminal that shows UTF-8 and colours: two modules a character, black on
 * white whatever the terminal's own colours are, with the margin that readers want. */
void qr_draw(const struct qr *qr, struct buf *out);

#endif
