/*
 * More of what cases.h begins: what takes system calls of its own (tricks.c), other forms of
 * addresses, and what is done to the runner by way of what a task leaves.
 */
#ifndef JAIL_CASES_CALLS_H
#define JAIL_CASES_CALLS_H

#include "cases.h"

static const struct hostile call_cases[] = {
    /* --- files and descriptors --- */
    {"opens init's descriptors before init goes on", BOTH, "@look-at-init-at-once", "PLAYED"},
    {"opens all that its parent has", BOTH, "@init-by-parent", "PLAYED"},
    {"has any descriptor", BOTH, "@open-descriptors", "PLAYED"},
    {"opens a path's descriptor anew", BOTH, "@reopen-for-writing", "PLAYED"},
    {"links to files by descriptors", BOTH, "@link-by-descriptor", "PLAYED"},
    {"links a hidden file out", BOTH, "@hidden-file-linked-out", "PLAYED"},
    {"moves files out", BOTH, "@rename-out", "PLAYED"},
    {"sets attributes", BOTH, "@attributes", "PLAYED"},
    {"makes devices", BOTH, "@devices-of-its-own", "PLAYED"},
    {"opens all devices", BOTH, "@all-devices", "PLAYED"},
    {"writes through the page cache", BOTH, "@write-through-the-page-cache", "PLAYED"},
    {"joins namespaces by descriptors", BOTH, "@namespaces-by-descriptor", "PLAYED"},
    {"reads by anybody's root", BOTH, "@roots-of-others", "PLAYED"},
    {"opens the kernel's files", BOTH, "@kernel-files", "PLAYED"},
    {"runs a program from memory", BOTH, "@program-in-memory", "PLAYED"},
    /* --- processes --- */
    {"signals an outsider in every way", BOTH, "@signal-an-outsider", "PLAYED"},
    {"has the kernel signal an outsider", BOTH, "@signal-by-descriptor-owner", "PLAYED"},
    {"changes everybody's priority", BOTH, "@priority-of-all", "PLAYED"},
    {"changes an outsider's settings", BOTH, "@settings-of-an-outsider", "PLAYED"},
    {"opens an outsider's memory", BOTH, "@memory-of-an-outsider", "PLAYED"},
    {"becomes somebody else", BOTH, "@somebody-else", "PLAYED"},
    {"looks for keys", BOTH, "@keys", "PLAYED"},
    {"makes calls of 32 bits", BOTH, "@calls-of-32-bits", NULL},
    {"makes calls of x32", BOTH, "@calls-of-x32", NULL},
    {"is never there for long", BOTH | FORKS, "@runaway", NULL},
    {"hides as daemons", BOTH | FORKS, "@daemons", NULL},
    /* --- sockets and IPC --- */
    {"connects to every abstract socket", BOTH, "@every-abstract-socket", "PLAYED"},
    {"sends datagrams to the house", BOTH, "@datagram-to-the-house", "PLAYED"},
    {"makes sockets of every family", BOTH, "@every-family", "PLAYED"},
    {"manages the house's segment", BOTH, "@house-segments", "PLAYED"},
    {"leaves a queue", BOTH, "@leave-a-queue", "PLAYED"},
    {"finds a queue that was left", BOTH | AFTER, "@find-a-queue", "PLAYED"},
    /* --- the network --- */
    {"connects by octal and short addresses", OWN_NET,
     "for h in 0177.0.0.1 0x7f.1 127.0.1 017700000001 127.255.255.254 '[::ffff:7f00:1]' "
     "ip6-localhost; do "
     "(exec 3<>/dev/tcp/$h/$PORT) 2>/dev/null && echo ESCAPED; done; echo PLAYED",
     "PLAYED"},
    {"connects to private networks", OWN_NET,
     "for h in 10.0.0.1 172.17.0.1 192.168.0.1 192.168.1.1 100.64.0.1 169.254.169.254 1.1.1.1 "
     "fd00::1 "
     "fe80::1 64:ff9b::7f00:1 2002:7f00:1::; do (exec 3<>/dev/tcp/$h/80) 2>/dev/null && echo "
     "ESCAPED; done; echo PLAYED",
     "PLAYED"},
    {"sends datagrams by IPv6", OWN_NET,
     "for h in ::1 fe80::1 2606:4700:4700::1111 255.255.255.255 224.0.0.1; do (echo x "
     ">/dev/udp/$h/53) 2>/dev/null && [ $h != ::1 ] && echo ESCAPED; done; echo PLAYED",
     "PLAYED"},
    {"has other interfaces", OWN_NET,
     "tail -n +3 /proc/net/dev | grep -v ' *lo:' && echo ESCAPED; echo PLAYED", "PLAYED"},
    {"sees the house's listeners", OWN_NET,
     "grep -i \":$(printf %04X $PORT) \" /proc/net/tcp && echo ESCAPED; echo PLAYED", "PLAYED"},
    {"listens at a port of the house", OWN_NET,
     "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(Listen => 1, LocalAddr => "
     "\"127.0.0.1:$ENV{PORT}\") and print \"mine\\n\"'",
     NULL},
    {"changes its network", OWN_NET,
     "ip link add x type dummy 2>/dev/null && echo ESCAPED; ip addr add 10.0.0.2/8 dev lo "
     "2>/dev/null && echo ESCAPED; nft flush ruleset 2>/dev/null && echo ESCAPED; iptables -F "
     "2>/dev/null && echo ESCAPED; echo PLAYED",
     "PLAYED"},
    /* --- what runs out --- */
    {"maps shared memory", BOTH | LIMITED, "@shared-map", NULL},
    {"writes files in memory", BOTH | LIMITED, "@files-in-memory", NULL},
    {"maps a file in memory", BOTH | LIMITED, "@mapped-file-in-memory", NULL},
    {"has children with memory", BOTH | LIMITED, "@in-children", NULL},
    {"fills the queues of sockets", BOTH | GROUPED, "@buffers-of-sockets", NULL},
    {"has many tables of pages", BOTH | LIMITED, "@tables-of-pages", NULL},
    {"locks its memory", BOTH, "@locked", "PLAYED"},
    {"raises its limits", BOTH, "@limits-up", "PLAYED"},
    {"prints for ever", BOTH, "@output", NULL},
    {"makes many directories", BOTH,
     "for i in $(seq 60); do mkdir -p d$i/{a,b,c,d,e,f,g,h,i,j}{1,2,3,4,5,6,7,8,9} || exit; done "
     "2>/dev/null; echo PLAYED",
     NULL},
    {"leaves a tree that is hard to remove", BOTH, "@tree-that-is-hard-to-remove", "PLAYED"},
    {"leaves names that are no text", BOTH,
     "touch $'a\\nb' $'\\xff\\xfe' -- -rf ' ' $'\\e[2J' && mkdir $'c\\n' && ln -s / $'c\\n/all' && "
     "chmod 0 $'c\\n'; echo PLAYED",
     "PLAYED"},
    {"leaves a link to the house in place of its workspace", BOTH,
     "rm -rf ../work 2>/dev/null; ln -s $DIR ../work 2>/dev/null; rm -rf \"$TMPDIR\"/* ; ln -s "
     "$DIR "
     "$TMPDIR/all; echo PLAYED",
     "PLAYED"},
    /* --- what must go on working --- */
    {"works: a program in memory", BOTH, "@program-in-memory", "PLAYED"},
    {"works: its own settings", BOTH,
     "python3 -c 'import ctypes; print(\"FINE\")' || echo FINE; nice -n 5 true && renice 5 -p $$ "
     ">/dev/null; echo x >/dev/null && cat /proc/self/status >/dev/null && echo FINE",
     "FINE"},
    {"works: a big output", BOTH, "head -c 3000000 /dev/zero | tr '\\0' x | tail -c 1000 | wc -c",
     "1000"},
    {"works: sub-processes by the hundred", BOTH,
     "for i in $(seq 100); do /bin/true; done && echo FINE", "FINE"},
};

#endif
