/*
 * What programs try that want out. Each script runs in a jail as a task would, with these in its
 * environment: DIR (a directory of the house), SECRET (a file in it, readable for all), MINE (one
 * of the launcher's user only), PRECIOUS (one that all may write), SOCKET, DGRAM, ABSTRACT and PORT
 * (where somebody listens), PID (a process of the task's own user, outside), SHM and SHMFILE
 * (memory that all may read), KEY, QUEUE and LEFT (names for what might be left), INIT (the
 * launcher's parent), CALLS (calls.c). A script "@NAME" is a trick of tricks.c.
 *
 * A script that gets somewhere prints ESCAPED, or the token that is the secret. What a canary sees
 * is looked at after each, so a script need not know that it has won.
 */
#ifndef JAIL_CASES_H
#define JAIL_CASES_H

enum {
    IN_FULL = 1,
    IN_RESTRICTED = 2,
    WITH_NAMESPACES = 4, /* tier restricted of a host that has none does not hold this */
    APART = 16,          /* nor does it where tasks are the launcher's own user */
    OWN_NET = 8,         /* of a network namespace of its own */
    FORKS = 32,          /* as often as it can: nobody else runs beside it */
    AFTER = 64,          /* begins when all before have ended */
    ALONE = 128,         /* the others' scripts, which it may read, hold what it must not say */
    LIMITED = 256,       /* it is ended by a limit that is looked at now and then, however late */
    GROUPED = 512,       /* only a control group counts this memory */
    BOTH = IN_FULL | IN_RESTRICTED,
};

struct hostile {
    const char *name;
    unsigned where;
    const char *script;
    const char *expect; /* must be printed; NULL: nothing certain */
};

static const struct hostile cases[] = {
    /* --- files of the house --- */
    {"reads a readable secret", BOTH, "cat $SECRET", NULL},
    {"reads the launcher's own secret", BOTH, "cat $MINE", NULL},
    {"lists the house", BOTH, "ls $DIR | grep secret && echo ESCAPED", NULL},
    {"reads by a link in the workspace", BOTH, "ln -s $SECRET link; cat link", NULL},
    {"reads by a link in tmp", BOTH, "ln -s $SECRET $TMPDIR/link; cat $TMPDIR/link", NULL},
    {"reads by a hard link", BOTH, "ln $SECRET hard && cat hard", NULL},
    {"reads by dot-dot", BOTH, "cat ../../../../../..$SECRET", NULL},
    {"reads by the root of init", BOTH, "cat /proc/1/root$SECRET", NULL},
    {"reads by its own root", BOTH, "cat /proc/self/root$SECRET", NULL},
    {"reads by the directory of init", BOTH, "cat /proc/1/cwd/$SECRET; cat /proc/$PPID/cwd/$SECRET",
     NULL},
    {"reads by an outsider's root", BOTH, "cat /proc/$PID/root$SECRET", NULL},
    {"copies the secret", BOTH, "cp $SECRET here && cat here", NULL},
    {"mounts over a link", BOTH, "mkdir m; mount --bind / m && echo ESCAPED", NULL},
    {"overwrites what all may write", BOTH, "echo gone >$PRECIOUS", NULL},
    {"appends to what all may write", BOTH, "echo more >>$PRECIOUS", NULL},
    {"truncates what all may write", BOTH, "truncate -s 0 $PRECIOUS", NULL},
    {"removes what all may write", BOTH, "rm -f $PRECIOUS", NULL},
    {"renames what all may write", BOTH, "mv $PRECIOUS $PRECIOUS.old", NULL},
    {"changes its mode", BOTH | APART, "chmod 000 $PRECIOUS", NULL},
    {"makes a file in the house", BOTH, "touch $DIR/new", NULL},
    {"writes by a link in the workspace", BOTH, "ln -s $PRECIOUS l; echo gone >l", NULL},
    {"writes by a rename of the workspace", BOTH, "mv ../work ../away && echo moved", NULL},
    {"swaps a directory for a link and writes", BOTH,
     "mkdir d; rmdir d; ln -s $DIR d; echo gone >d/precious", NULL},
    {"reads etc/shadow", BOTH, "cat /etc/shadow && echo ESCAPED", NULL},
    {"reads root's home", BOTH, "ls -A /root && echo ESCAPED", NULL},
    {"reads other homes", BOTH,
     "ls -A /home/* 2>/dev/null | grep -v '^$' | grep -v : | grep . && "
     "[ ! -e /home/user ] && echo ESCAPED",
     NULL},
    {"writes to usr", BOTH, "touch /usr/new && echo ESCAPED", NULL},
    {"writes to etc", BOTH, "touch /etc/new && echo ESCAPED", NULL},
    {"writes to the root", BOTH, "touch /new && echo ESCAPED", NULL},
    {"writes to opt", BOTH, "touch /opt/new && echo ESCAPED", NULL},
    {"writes to var", BOTH, "touch /var/new /var/log/new /var/lib/new && echo ESCAPED", NULL},
    {"writes to run", BOTH, "touch /run/new && echo ESCAPED", NULL},
    {"writes a program that others run", BOTH, "echo evil >/bin/true && echo ESCAPED", NULL},
    {"makes the system writable", BOTH, "mount -o remount,rw /usr && echo ESCAPED", NULL},
    {"reads the journal", BOTH, "ls /var/log/journal /var/log/syslog && echo ESCAPED", NULL},
    {"reaches a docker socket", BOTH,
     "for s in /var/run/docker.sock /run/docker.sock /run/dbus/system_bus_socket; do perl "
     "-MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => $ARGV[0]) and print \"ESCAPED\\n\"' $s; "
     "done",
     NULL},
    {"lists the devices", BOTH,
     "cat /dev/mem /dev/kmem /dev/port /dev/sda /dev/vda 2>/dev/null | "
     "head -c1 | grep -q . && echo ESCAPED",
     NULL},
    {"reads the kernel's log", BOTH, "dmesg && echo ESCAPED; head -c1 /dev/kmsg && echo ESCAPED",
     NULL},
    {"opens kvm and fuse", BOTH,
     "[ -r /dev/kvm ] && echo ESCAPED; [ -r /dev/fuse ] && echo ESCAPED; [ -r /dev/net/tun ] && "
     "echo ESCAPED",
     NULL},
    {"leaves something in tmp", BOTH, "echo x >/tmp/$LEFT.$$; true", NULL},
    {"finds what was left in tmp", BOTH | AFTER, "cat /tmp/$LEFT* && echo ESCAPED", NULL},
    {"finds what was left in shared memory", BOTH, "cat $SHMFILE", NULL},
    {"leaves something in shared memory", BOTH, "echo x >/dev/shm/$LEFT.$$; true", NULL},
    {"writes to the house's shared memory", BOTH, "echo gone >$SHMFILE && cat $SHMFILE", NULL},
    /* --- set-user-ID and capabilities --- */
    {"makes a set-user-ID shell", BOTH,
     "cp /bin/sh s; chmod 6755 s; ./s -p -c 'id -u' | grep -qx 0 && echo ESCAPED", NULL},
    {"uses a set-user-ID program", BOTH,
     "for p in mount su passwd newgrp chsh; do f=$(command -v $p) && [ -u $f ] && $f --version "
     ">/dev/null 2>&1; done; [ $(id -u) = 0 ] && echo ESCAPED; grep -q 'CapEff:.*[1-9a-f]' "
     "/proc/self/status && echo ESCAPED",
     NULL},
    {"has capabilities", BOTH,
     "grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status | grep -qv '0000000000000000' && echo "
     "ESCAPED",
     NULL},
    {"could have capabilities", BOTH | APART,
     "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb):' /proc/self/status | grep -qv '0000000000000000' && echo "
     "ESCAPED",
     NULL},
    {"may gain privileges", BOTH, "grep -q 'NoNewPrivs:.*1' /proc/self/status || echo ESCAPED",
     NULL},
    {"has no filter", BOTH, "grep -q 'Seccomp:.*2' /proc/self/status || echo ESCAPED", NULL},
    {"has groups of root", BOTH, "id -G | grep -wq 0 && echo ESCAPED", NULL},
    {"is root", BOTH, "[ $(id -u) = 0 ] && echo ESCAPED", NULL},
    {"sets file capabilities", BOTH, "cp /bin/true t; setcap cap_sys_admin+ep t && echo ESCAPED",
     NULL},
    /* --- namespaces --- */
    {"unshare as user", BOTH, "unshare -Ur true && echo ESCAPED", NULL},
    {"unshare everything", BOTH, "unshare -Urmpfn --mount-proc true && echo ESCAPED", NULL},
    {"joins init's namespaces", BOTH, "nsenter -t 1 -a true && echo ESCAPED", NULL},
    {"joins an outsider's namespaces", BOTH, "nsenter -t $PID -m -p cat $SECRET", NULL},
    {"changes its root", BOTH, "chroot / true && echo ESCAPED", NULL},
    {"mounts a file system in memory", BOTH, "mount -t tmpfs none /tmp && echo ESCAPED", NULL},
    {"mounts proc", BOTH, "mkdir p; mount -t proc proc p && echo ESCAPED", NULL},
    {"unmounts tmp", BOTH, "umount /tmp && echo ESCAPED; umount -l /proc && echo ESCAPED", NULL},
    {"mounts an overlay", BOTH,
     "mkdir u w m; mount -t overlay -o lowerdir=/,upperdir=u,workdir=w o m && echo ESCAPED", NULL},
    {"mounts a control group", BOTH,
     "mkdir c; mount -t cgroup2 none c && echo ESCAPED; mount -t cgroup -o memory none c && echo "
     "ESCAPED",
     NULL},
    {"renames the host", BOTH, "hostname evil && echo ESCAPED", NULL},
    {"writes its own id maps", BOTH, "echo '0 0 1' >/proc/self/uid_map && echo ESCAPED", NULL},
    /* --- proc and sys --- */
    {"writes core_pattern", BOTH, "echo '|/bin/x' >/proc/sys/kernel/core_pattern && echo ESCAPED",
     NULL},
    {"writes modprobe", BOTH, "echo /tmp/x >/proc/sys/kernel/modprobe && echo ESCAPED", NULL},
    {"writes sysrq-trigger", BOTH, "echo h >/proc/sysrq-trigger && echo ESCAPED", NULL},
    {"writes sysctls", BOTH,
     "for f in kernel/hostname vm/overcommit_memory net/ipv4/ip_forward kernel/ns_last_pid; do "
     "echo 1 "
     ">/proc/sys/$f && echo ESCAPED; done; true",
     NULL},
    {"writes release_agent", BOTH,
     "find /sys/fs/cgroup -name release_agent 2>/dev/null | while read f; do echo /tmp/x >$f && "
     "echo "
     "ESCAPED; done; true",
     NULL},
    {"leaves its control group", BOTH,
     "find /sys/fs/cgroup -name cgroup.procs 2>/dev/null | while read f; do echo $$ 2>/dev/null "
     ">$f "
     "&& echo ESCAPED; done; true",
     NULL},
    {"raises its memory limit", BOTH,
     "find /sys/fs/cgroup -name memory.max -o -name memory.limit_in_bytes 2>/dev/null | while read "
     "f; "
     "do echo 9999999999 2>/dev/null >$f && echo ESCAPED; done; true",
     NULL},
    {"sees where its control group is", IN_FULL,
     "grep -E 'jail-|\\.\\.' /proc/self/cgroup && echo ESCAPED", NULL},
    {"reads kcore", BOTH, "head -c1 /proc/kcore && echo ESCAPED", NULL},
    {"reads the kernel's addresses", BOTH,
     "grep -v '^0000000000000000' /proc/kallsyms | head -1 | grep . && echo ESCAPED", NULL},
    {"reads sys", BOTH, "ls /sys/kernel/debug /sys/firmware && echo ESCAPED", NULL},
    {"writes sys", BOTH, "echo 1 >/sys/power/state && echo ESCAPED; true", NULL},
    {"lowers its own badness", BOTH, "echo -1000 >/proc/self/oom_score_adj && echo ESCAPED", NULL},
    {"sees host mounts", IN_FULL,
     "cut -d' ' -f5 /proc/self/mountinfo | grep \"$DIR\" && echo ESCAPED", NULL},
    /* --- processes --- */
    {"sees an outsider", BOTH | WITH_NAMESPACES, "kill -0 $PID 2>/dev/null && echo ESCAPED", NULL},
    {"kills an outsider", BOTH, "kill -9 $PID", NULL},
    {"kills everybody", BOTH, "kill -9 -1", NULL},
    {"kills the launcher", BOTH, "kill -9 $INIT", NULL},
    {"kills init", BOTH, "kill -9 1; kill -9 $PPID; sleep 0.05", NULL},
    {"stops init", BOTH, "kill -STOP 1; kill -STOP $PPID; true", NULL},
    {"reads an outsider's environment", BOTH, "tr '\\0' '\\n' </proc/$PID/environ", NULL},
    {"reads an outsider's memory", BOTH,
     "head -c1 /proc/$PID/mem && echo ESCAPED; cat "
     "/proc/$PID/maps | grep -q . && echo ESCAPED",
     NULL},
    {"reads init's environment", BOTH, "cat /proc/1/environ /proc/$PPID/environ | tr '\\0' '\\n'",
     NULL},
    {"reads init's memory", BOTH, "cat /proc/1/maps /proc/$PPID/maps | grep -q . && echo ESCAPED",
     NULL},
    {"opens init's descriptors", BOTH,
     "ls /proc/1/fd/ /proc/$PPID/fd/ 2>/dev/null | grep -q '[0-9]' && echo ESCAPED", NULL},
    {"opens an outsider's descriptors", BOTH,
     "readlink /proc/$PID/fd/0 && echo ESCAPED; cat /proc/$PID/fd/0 && echo ESCAPED", NULL},
    {"finds the token among all processes", BOTH | ALONE,
     "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'", NULL},
    {"changes an outsider's limits", BOTH, "prlimit --pid $PID --nofile=1 && echo ESCAPED", NULL},
    {"changes an outsider's priority", BOTH | WITH_NAMESPACES, "renice 19 -p $PID && echo ESCAPED",
     NULL},
    {"has inherited descriptors", BOTH,
     "ls -l /proc/self/fd | grep -vE ' [0-3] -> |total' | grep -q . && echo ESCAPED", NULL},
    {"traces a neighbour", BOTH, "command -v strace >/dev/null && strace -p $PID && echo ESCAPED",
     NULL},
    /* --- sockets and IPC --- */
    {"connects to a socket in the house", BOTH,
     "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => $ENV{SOCKET}) and print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"connects to an abstract socket", BOTH,
     "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack(\"S a*\", AF_UNIX, "
     "\"\\0$ENV{ABSTRACT}\")) and print \"ESCAPED\\n\"'",
     NULL},
    {"connects to the house's port", OWN_NET,
     "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(\"127.0.0.1:$ENV{PORT}\") and print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"connects to it by other names", OWN_NET,
     "for h in localhost 0.0.0.0 127.1 2130706433 0x7f000001 127.0.0.2; do perl -MIO::Socket::INET "
     "-e "
     "'IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ENV{PORT}, Timeout => 1) and print "
     "\"ESCAPED\\n\"' $h; done",
     NULL},
    {"connects by IPv6", OWN_NET,
     "perl -MSocket -e 'socket(S, AF_INET6, SOCK_STREAM, 0); for (\"::1\", \"::ffff:127.0.0.1\") { "
     "connect(S, pack_sockaddr_in6($ENV{PORT}, inet_pton(AF_INET6, $_))) and print \"ESCAPED\\n\" "
     "}'",
     NULL},
    {"reaches the metadata server", OWN_NET,
     "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => \"169.254.169.254\", PeerPort "
     "=> "
     "80, Timeout => 1) and print \"ESCAPED\\n\"'",
     NULL},
    {"sends a datagram", OWN_NET,
     "perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0); send(S, \"x\", 0, pack_sockaddr_in(53, "
     "inet_aton(\"1.1.1.1\"))) and print \"ESCAPED\\n\"'",
     NULL},
    {"reads a shared segment", BOTH,
     "perl -e 'shmread($ENV{SHM}, $b, 0, 64) and print $b, \"\\nESCAPED\\n\"'", NULL},
    {"leaves a shared segment", BOTH,
     "perl -e 'defined shmget($ENV{KEY}, 4096, 01666) and print \"made\\n\"'", NULL},
    {"finds a shared segment that was left", BOTH | AFTER,
     "perl -e 'defined shmget($ENV{KEY}, 0, 0) and print \"ESCAPED\\n\"'", NULL},
    {"leaves a semaphore", BOTH,
     "perl -e 'defined semget($ENV{KEY}, 1, 01666) and print \"made\\n\"'", NULL},
    {"finds a semaphore that was left", BOTH | AFTER,
     "perl -e 'defined semget($ENV{KEY}, 0, 0) and print \"ESCAPED\\n\"'", NULL},
    {"leaves a message queue", BOTH,
     "perl -e 'defined msgget($ENV{KEY}, 01666) and print \"made\\n\"'", NULL},
    {"finds a message queue that was left", BOTH | AFTER,
     "perl -e 'defined msgget($ENV{KEY}, 0) and print \"ESCAPED\\n\"'", NULL},
    {"types into the terminal", BOTH,
     "perl -e 'ioctl(STDIN, 0x5412, \"x\") and print \"ESCAPED\\n\"; open T, \"+</dev/tty\" and "
     "print "
     "\"ESCAPED\\n\"'",
     NULL},
    /* --- bombs --- */
    {"forks", BOTH | FORKS, "f() { f | f & }; f; sleep 0.2; echo >&2", NULL},
    {"forks for ever", BOTH | FORKS, "while :; do sleep 100 & done 2>/dev/null", NULL},
    {"starts daemons", BOTH | FORKS,
     "for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM HUP; (sleep 100 &) & sleep 100' & done; "
     "sleep 0.1",
     NULL},
    {"allocates", BOTH,
     "perl -e '$x = \"x\" x 200_000_000; $y = \"y\" x 200_000_000; print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"allocates in many", BOTH,
     "for i in 1 2 3 4 5 6 7 8; do perl -e '$x = \"x\" x 60_000_000; sleep 5' & done; wait; echo "
     "ESCAPED",
     NULL},
    {"fills the disk", BOTH | LIMITED,
     "head -c 100M /dev/zero >big; head -c 100M /dev/zero >big2; sleep 10; "
     "echo ESCAPED",
     NULL},
    {"fills tmp", BOTH | LIMITED,
     "head -c 100M /dev/zero >$TMPDIR/big && head -c 100M /dev/zero >$TMPDIR/b2 && "
     "sleep 10 && echo ESCAPED",
     NULL},
    {"fills shared memory", IN_FULL, "head -c 900M /dev/zero >/dev/shm/big && echo ESCAPED", NULL},
    {"makes many files", BOTH,
     "perl -e 'for (1..20000) { open F, \">f$_\" or last } sleep 1; print \"PLAYED\\n\"'", NULL},
    {"opens many files", BOTH,
     "perl -e 'for (1..100000) { open $f[$_], \"<\", \"/dev/null\" or exit } print \"ESCAPED\\n\"'",
     NULL},
    {"makes a deep tree", BOTH,
     "perl -e 'for (1..1500) { mkdir \"d\"; chdir \"d\" or last }'; true", NULL},
    {"locks memory", BOTH, "ulimit -l unlimited && echo ESCAPED; true", NULL},
    {"wants a core", BOTH,
     "ulimit -c unlimited && echo ESCAPED; sh -c 'kill -SEGV $$'; ls core* && "
     "echo ESCAPED; true",
     NULL},
    /* --- all of the system calls --- */
    {"makes every denied call", BOTH, "$CALLS", ", 0 open"},
    /* --- what must go on working --- */
    {"works: tools", BOTH,
     "printf 'b\\na\\n' | sort | tr a-z A-Z | head -1 | grep -qx A && date +%Y | grep -q 20 && "
     "echo "
     "FINE",
     "FINE"},
    {"works: files", BOTH,
     "mkdir -p a/b && echo x >a/b/c && mv a/b/c d && ln d e && ln -s e f && chmod 600 d && cat f "
     "&& "
     "mkfifo p && rm -r a d e f p && echo FINE",
     "FINE"},
    {"works: temporary files", BOTH, "f=$(mktemp) && echo x >$f && rm $f && echo FINE", "FINE"},
    {"works: pipes by name", BOTH, "bash -c 'cat <(echo FINE)'", "FINE"},
    {"works: threads", BOTH,
     "python3 -c 'import threading; t = threading.Thread(target=print, args=(\"FINE\",)); "
     "t.start(); "
     "t.join()' || echo FINE",
     "FINE"},
    {"works: git", BOTH,
     "command -v git >/dev/null || { echo FINE; exit; }; export HOME=$TMPDIR; git init -q r && cd "
     "r && git -c user.name=x -c user.email=x@x commit -q "
     "--allow-empty -m x && git log --oneline | grep -q x && echo FINE",
     "FINE"},
    {"works: sockets of its own", BOTH,
     "perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) and print \"FINE\\n\"'", "FINE"},
    {"works: loopback", OWN_NET,
     "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "
     "\"127.0.0.1\") and print \"FINE\\n\"'",
     NULL},
    {"works: ps", BOTH, "command -v ps >/dev/null || echo FINE; ps >/dev/null && echo FINE",
     "FINE"},
    {"works: who one is", BOTH, "id >/dev/null && id -u | grep -q . && echo FINE", "FINE"},
    {"works: random numbers", BOTH, "head -c 8 /dev/urandom | od | grep -q . && echo FINE", "FINE"},
    {"works: shell jobs", BOTH, "sleep 0.01 & wait $! && echo FINE", "FINE"},
};

#endif
