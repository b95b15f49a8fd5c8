/*
 * The agent of a session: a program that lives inside the session's walls for as long as the
 * session is awake, and does there what callers ask for.
 *
 * Theory of operation.
 *
 *     runner ══ control socket ══▶ agent ──▶ bash "default"  ──▶ what commands start …
 *                                    ├─────▶ bash "other"
 *                                    └─────▶ workers: one for each work on files
 *
 * The control socket is the agent's descriptor 0 (SOCK_SEQPACKET, message.h): requests with an `id`
 * come in, answers with that id and events go out. Bytes never travel on it: output of commands
 * goes through pipes, files through descriptors, which are passed along.
 *
 * A shell reads the lines that the agent writes, one pipe each way. For a command they say
 *
 *     eval 'COMMAND' </proc/AGENT/fd/IN >/proc/AGENT/fd/OUT 2>/proc/AGENT/fd/ERR
 *     { printf the exit code; declare -p; declare -f; … } >/proc/AGENT/fd/REPORT
 *
 * so a command sees no descriptor that is not its own, its output holds no markers, and after each
 * one there is a script that makes another shell like this one. When a shell dies (exit, exec, a
 * signal, the time limit) the next command gets one that has read the script.
 *
 * What a command has started is known by a tag that processes inherit and nobody else looks at:
 * /proc/PID/coredump_filter (core dumps are off). So a time limit ends also what has called
 * setsid() and forked twice, and not what earlier commands have left running.
 *
 * Threads: none; the agent may fork.
 */
#ifndef BOX_BOX_H
#define BOX_BOX_H

/* The main function of `claude-runner box`; returns its exit status. */
int box_serve(void);

#endif
