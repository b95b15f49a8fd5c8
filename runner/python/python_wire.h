/*
 * What the daemon and the Python processes say to each other. Private to runner/python.
 *
 *     daemon ══control══▶ zygote "bare" ─fork─▶ "numpy" ─fork─▶ "pandas" ─fork─▶ "all"
 *        ║                     └─clone─▶ child, jailed, on standby
 *        ╚════════ child's control, stdout, stderr ═══════╝
 *
 * With a zygote: one SOCK_SEQPACKET message each, fixed size, descriptors beside it. With a child:
 * frames on a stream socket, described in inside/run.py.
 *
 * Threads: no shared state.
 */
#ifndef PYTHON_WIRE_H
#define PYTHON_WIRE_H

#include <stdint.h>

/* How much a zygote has imported; each level is forked from the one before it. */
enum python_level { LEVEL_BARE, LEVEL_NUMPY, LEVEL_PANDAS, LEVEL_ALL, LEVEL_COUNT };

/* The zygote's control socket is its standard input. */
#define ZYGOTE_FD 0

/* Descriptors that come with ZYGOTE_CHILD; ZYGOTE_GROW has only the first. */
enum zygote_fd { CHILD_CONTROL, CHILD_STDOUT, CHILD_STDERR, CHILD_FDS };

enum zygote_type {
    /* From the daemon: */
    ZYGOTE_NAME = 'N',      /* pid of the tree's first process, as it is known outside */
    ZYGOTE_GROW = 'G',      /* fork the zygote of the next level: `value` */
    ZYGOTE_CHILD = 'C',     /* put a child on standby, limited to `value` MB */
    ZYGOTE_LIMIT = 'M',     /* limit a child's memory to `value` MB; the answer has the same type */
    ZYGOTE_STOP = 'T',      /* SIGTERM for a child, which then prints its rest */
    ZYGOTE_KILL = 'K',      /* end a child */
    ZYGOTE_INTERRUPT = 'I', /* SIGINT for a child */
    /* From a zygote: */
    ZYGOTE_HELLO = 'H',   /* first message: `value` is its level, `text` what it could not import */
    ZYGOTE_STARTED = 'S', /* a child was started */
    ZYGOTE_FAILED = 'F',  /* a child, or (id 0) a zygote, could not be started: `text` */
    ZYGOTE_ENDED = 'E',   /* a child has ended: its wait status and usage */
};

struct zygote_wire {
    uint32_t type;
    uint32_t id; /* of the child, numbered by the daemon */
    int32_t value;
    uint32_t exceeded; /* enum jail_exceeded, as bits */
    int64_t peak_kib;  /* most resident memory at one time */
    char text[200];
};

#define FRAME_HEAD 5           /* four bytes of length, and a letter, which the length includes */
#define FRAME_MAX (24u << 20)  /* an image */
#define FRAMES_MAX (48u << 20) /* sum of one run */
#define FRAME_REQUEST_MAX (64u << 20)

#endif
