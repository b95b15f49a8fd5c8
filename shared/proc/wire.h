/*
 * Messages between the daemon, the launcher and a task's init: one SOCK_SEQPACKET message each, of
 * fixed size. Private to shared/proc.
 *
 * Threads: no shared state.
 */
#ifndef PROC_WIRE_H
#define PROC_WIRE_H

#include "jail/jail.h"

#include <stdint.h>

/* The launcher's socket is inherited as this descriptor. */
#define LAUNCH_FD 3

/* Descriptors that come with a launch request. */
enum wire_fd { WIRE_PLAN, WIRE_STDIN, WIRE_STDOUT, WIRE_STDERR, WIRE_CONTROL, WIRE_FDS };

enum wire_type {
    WIRE_HELLO = 'H',  /* launcher -> daemon, first, followed by a struct jail_host */
    WIRE_LAUNCH = 'L', /* daemon -> launcher, with WIRE_FDS descriptors */
    WIRE_STARTED =
        'S',         /* launcher -> daemon, on the control socket: there is an init; at any time */
    WIRE_GATE = 'G', /* init -> daemon, before it: with the jail's JAIL_GATE_SOCKETS */
    WIRE_RUNNING = 'R', /* init -> daemon, its first word: the program has been executed */
    WIRE_FAILED = 'F',  /* init or launcher -> daemon: value is errno, text the step */
    WIRE_EXITED = 'X',  /* init -> daemon: value is the program's wait status */
    WIRE_ENDED = 'E',   /* init -> daemon, last: value is how many processes outlived the program,
                           extra the limits met (enum jail_exceeded) */
    WIRE_TERM = 'T',    /* daemon -> init: TERM, grace, KILL for the whole tree */
    WIRE_KILL = 'K',    /* daemon -> init: KILL now; so is the end of the control socket */
};

struct wire {
    uint32_t type;
    int32_t value;
    int64_t extra; /* WIRE_EXITED: peak resident set in KiB */
    char text[104];
};

struct wire_hello {
    struct wire wire;
    struct jail_host host;
};

#endif
