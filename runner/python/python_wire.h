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

/* How much a zygote has imported; each is forked from the one before it. */
enum python_level { LEVEL_BARE, LEVEL_NUMPY, LEVEL_PANDAS, LEVEL_ALL, LEVEL_COUNT };

/* The zygote's control socket is its standard input. */
#define ZYGOTE_FD 0

/* Descriptors that come with ZYGOTE_CHILD; ZYGOTE_GROW has the first only. */
enum zygote_fd { CHILD_CONTROL, CHILD_STDOUT, CHILD_STDERR, CHILD_FDS };

enum zygote_type {
    /* from the daemon */
    ZYGOTE_NAME = 'N',      /* the tree's first process, as those outside know it */
    ZYGOTE_GROW = 'G',      /* fork the zygote of the next level: `value` */
    ZYGOTE_CHILD = 'C',     /* put a child on standby, limited to `value` MB */
    ZYGOTE_LIMIT = 'M',     /* limit a child's memory to `value` MB; answered by the same */
    ZYGOTE_STOP = 'T',      /* SIGTERM for a child: it gives what it has still to print */
    ZYGOTE_KILL = 'K',      /* end a child */
    ZYGOTE_INTERRUPT = 'I', /* SIGINT for a child */
    /* from a zygote */
    ZYGOTE_HELLO = 'H',   /* first: `value` is its level, `text` what it could not import */
    ZYGOTE_STARTED = 'S', /* there is a child */
    ZYGOTE_FAILED = 'F',  /* there is no child, or no zygote (id 0): `text` */
    ZYGOTE_ENDED = 'E',   /* a child has ended: its wait status, what it has used */
};

struct zygote_wire {
    uint32_t type;
    uint32_t id; /* the child, numbered by the daemon */
    int32_t value;
    uint32_t exceeded; /* enum jail_exceeded, as bits */
    int64_t peak_kib;  /* most that was resident at once */
    char text[200];
};

#define FRAME_HEAD 5           /* four bytes of length, and the letter that it counts */
#define FRAME_MAX (24u << 20)  /* an image */
#define FRAMES_MAX (48u << 20) /* of one run together */
#define FRAME_REQUEST_MAX (64u << 20)

#endif
