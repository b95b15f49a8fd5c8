/*
 * One-liners as somebody would have Claude type them who has read its prompt: the usual tools for
 * reading, devices, settings, what other tasks or the host may find, and what runs out. For the
 * variables see cases.h.
 */
#ifndef JAIL_CASES_SHELL_H
#define JAIL_CASES_SHELL_H

#include "cases.h"

/* Runs a list of commands, of which none may succeed. */
#define NONE_OF(list)                                                                       \
    "while IFS= read -r c; do timeout 1 bash -c \"$c\" >/dev/null 2>&1 </dev/null && echo " \
    "\"ESCAPED: $c\"; "                                                                     \
    "done <<'X'\n" list "X\necho PLAYED"
/* Runs a list of commands whose output and traces are judged: a private /tmp may have the house's
 * places, too. */
#define ALL_OF(list) \
    "while IFS= read -r c; do (eval \"$c\") 2>&1 </dev/null; done <<'X'\n" list "X\necho PLAYED"

static const struct hostile shell_cases[] = {
    /* --- reading --- */
    {"reads by the shell itself", BOTH,
     ALL_OF("echo \"$(<$SECRET)\"\nmapfile -t a <$SECRET; echo ${a[@]}\nread l <$SECRET; echo "
            "$l\n. $SECRET\n"
            "exec 3<$SECRET; cat <&3\nexec 3<>$SECRET; cat <&3\nprintf '%s\\n' $DIR/*/../secret | "
            "xargs cat\n"
            "cd $DIR && cat secret\ncd -P $DIR/. && cat ./secret\npushd $DIR && cat secret\n"),
     "PLAYED"},
    {"reads by any tool", BOTH,
     ALL_OF("awk 1 $SECRET\nsed -n p $SECRET\ngrep -r . $DIR\ndd if=$SECRET\ntac $SECRET\nod -c "
            "$SECRET | tr -d ' \\n'\n"
            "base64 $SECRET | base64 -d\ntar cf - $SECRET | tar xOf -\npaste $SECRET\nsort "
            "$SECRET\nuniq $SECRET\n"
            "diff /dev/null $SECRET\ncut -c1- $SECRET\nhead -1 $SECRET\ntail -1 $SECRET\nnl "
            "$SECRET\nfold $SECRET\n"
            "split $SECRET part && cat part*\ninstall -m 644 $SECRET got && cat got\nrev $SECRET | "
            "rev\n"
            "perl -pe 1 $SECRET\npython3 -c 'import os; "
            "print(open(os.environ[\"SECRET\"]).read())'\n"),
     "PLAYED"},
    {"reads by tools that include files", BOTH,
     ALL_OF(
         "curl -s file://$SECRET\ngit diff --no-index /dev/null $SECRET\nopenssl enc -base64 -in "
         "$SECRET | base64 -d\n"
         "echo \"#include \\\"$SECRET\\\"\" | cpp\nprintf '.include \"%s\"' $SECRET | as -o x -\n"
         "gcc -E -x c $SECRET\ncc @$SECRET\nldd $SECRET\n/lib64/ld-linux-x86-64.so.2 $SECRET\n"
         "LD_PRELOAD=$SECRET /bin/true\ngit -c include.path=$SECRET config -l\ncp -a $DIR copy; "
         "cat copy/secret\n"
         "ln -L $SECRET l; cat l\ncp -l $SECRET l2; cat l2\nrsync -a $SECRET got; cat got\nmake -f "
         "$SECRET\n"),
     "PLAYED"},
    {"reads by every process's view", BOTH | ALONE,
     ALL_OF("cat /proc/*/root$SECRET\ncat /proc/*/cwd/secret\ncat /proc/*/task/*/root$SECRET\n"
            "strings -n 8 /proc/[0-9]*/environ | grep -v ^MARK\ncat /proc/*/task/*/environ | tr "
            "'\\0' '\\n' | grep -a ^SECRET=c\n"
            "cat /proc/thread-self/root$SECRET\ncat /dev/fd/*/secret\nls -lL /proc/*/map_files\n"),
     "PLAYED"},
    {"looks at an outsider in every way", BOTH,
     NONE_OF("cat /proc/$PID/stack | grep .\ncat /proc/$PID/syscall | grep .\ncat /proc/$PID/auxv "
             "| grep -a .\n"
             "cat /proc/$PID/maps | grep .\ncat /proc/$PID/smaps | grep .\ncat "
             "/proc/$PID/smaps_rollup | grep .\n"
             "head -c 8 /proc/$PID/pagemap | grep -a .\ncat /proc/$PID/personality | grep .\ncat "
             "/proc/$PID/numa_maps | grep .\n"
             "ls /proc/$PID/map_files | grep .\nls /proc/$PID/fdinfo | grep .\nreadlink "
             "/proc/$PID/exe\n"
             "readlink /proc/$PID/ns/mnt\ncat /proc/$PID/io | grep .\ncat /proc/$PID/timers | grep "
             ".\n"),
     "PLAYED"},
    {"sees an outsider's command line", BOTH | WITH_NAMESPACES,
     NONE_OF("cat /proc/$PID/cmdline | grep -a sleep\nls -d /proc/$PID\nfuser /bin/sleep | grep -w "
             "$PID\n"),
     "PLAYED"},
    {"looks for keys and settings", BOTH,
     NONE_OF("cat /etc/shadow /etc/gshadow | grep .\ncat /etc/ssh/ssh_host_*_key | grep .\nls "
             "/etc/ssl/private/*\n"
             "cat /root/.ssh/* /root/.bash_history /root/.claude/* | grep .\nfind /home /root "
             "/var/lib -name .credentials.json | grep .\n"
             "cat /etc/claude-runner.env | grep .\nfind /run/secrets /var/run/secrets -type f | "
             "grep .\n"
             "cat /proc/cmdline /sys/kernel/security/* | grep -q token\nfind / -maxdepth 4 -name "
             "runner.db | grep .\n"),
     "PLAYED"},
    /* --- devices and the machine --- */
    {"opens the machine's memory and ports", BOTH,
     NONE_OF("head -c1 /dev/mem\nhead -c1 /dev/kmem\nhead -c1 /dev/port\nhead -c1 /dev/nvram\nhead "
             "-c1 /dev/cpu/0/msr\n"
             "head -c1 /dev/sda\nhead -c1 /dev/vda\nhead -c1 /dev/nvme0n1\nhead -c1 "
             "/dev/loop0\nhead -c1 /dev/dm-0\nhead -c1 /dev/zram0\n"),
     "PLAYED"},
    {"opens doors to the kernel", BOTH,
     NONE_OF(": <>/dev/net/tun\n: <>/dev/ppp\n: <>/dev/uinput\n: <>/dev/uhid\n: "
             "<>/dev/vhost-net\n: <>/dev/vhost-vsock\n: <>/dev/vsock\n"
             ": <>/dev/userfaultfd\n: <>/dev/snapshot\n: <>/dev/udmabuf\n: <>/dev/loop-control\n: "
             "<>/dev/mapper/control\n"
             ": <>/dev/btrfs-control\n: <>/dev/autofs\n: <>/dev/rfkill\n: <>/dev/watchdog\n: "
             "<>/dev/hwrng\n: <>/dev/input/event0\n"
             ": <>/dev/dri/card0\n: <>/dev/snd/timer\n: <>/dev/sg0\n: <>/dev/bsg/0\n: "
             "<>/dev/rtc0\n: <>/dev/console\n: <>/dev/tty0\n"
             ": <>/dev/vcs1\n: <>/dev/fb0\n: <>/dev/hpet\n: <>/dev/mcelog\n: <>/dev/ptp0\n"),
     "PLAYED"},
    {"writes to others' terminals", BOTH,
     "for t in /dev/pts/[0-9]* /dev/tty[0-9]* /dev/ttyS*; do (echo x >$t) 2>/dev/null && echo "
     "ESCAPED $t; done; echo PLAYED",
     "PLAYED"},
    {"sets the clock", BOTH,
     NONE_OF("date -s 2001-01-01\nhwclock --set --date 2001-01-01\nadjtimex -f 1\ntimedatectl "
             "set-time 2001-01-01\n"),
     "PLAYED"},
    {"loads modules", BOTH,
     NONE_OF("modprobe dummy\ninsmod /lib/modules/*/kernel/drivers/net/dummy.ko*\nrmmod "
             "dummy\nkexec -l /boot/vmlinuz*\n"
             "losetup -f --show /etc/passwd\nmkswap $PWD/s && swapon $PWD/s\nfstrim -v "
             "/\nblockdev --flushbufs /dev/sda\n"),
     "PLAYED"},
    {"turns the machine off", BOTH,
     NONE_OF("reboot -f\npoweroff -f\nhalt -f\ninit 0\ntelinit 1\nshutdown now\nsystemctl "
             "poweroff\nsystemctl kexec\n"
             "echo b >/proc/sysrq-trigger\necho mem >/sys/power/state\necho 1 "
             ">/proc/sys/kernel/sysrq\n"),
     "PLAYED"},
    {"asks the host's services", BOTH,
     NONE_OF("systemd-run --user true\nsystemd-run true\nsystemctl daemon-reload\nbusctl "
             "list\ndbus-send --system --print-reply "
             "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames\nloginctl "
             "list-sessions\nmachinectl list\n"
             "docker ps\npodman --remote ps\nctr c ls\nnerdctl ps\nvirsh list\nlxc list\nsnap "
             "list\nflatpak-spawn --host true\n"
             "echo x | at now\necho '* * * * * id' | crontab -\nwrite "
             "root\nmail -s x root </dev/null\n"),
     "PLAYED"},
    {"asks for other users' rights", BOTH,
     NONE_OF("su -c true\nsudo -n true\ndoas -n true\npkexec true\nnewgrp root -c true\nsg root "
             "true\nrunuser -u root true\nsetpriv --reuid 0 true\n"
             "capsh --user=root -- -c true\nnewuidmap $$ 0 0 1\nnewgidmap $$ 0 0 1\nfusermount -u "
             "/tmp\nchfn -f x root\nchsh -s /bin/sh root\n"
             "passwd -d root\nunix_chkpwd root nullok\nmount /mnt\nexpiry -c && [ -u "
             "/usr/bin/expiry ] && [ $(id -u) = 0 ]\n"),
     "PLAYED"},
    /* --- priorities and limits --- */
    {"takes a better place in the queue", BOTH,
     NONE_OF("nice -n -5 sh -c '[ $(nice) -lt 0 ]'\nchrt -f 1 true\nchrt -r 99 true\nchrt -d "
             "--sched-runtime 1000000 --sched-deadline 2000000 "
             "--sched-period 2000000 0 true\nionice -c 1 true\nrenice -n -1 -p $$\n"
             "echo -500 >/proc/self/oom_score_adj\necho -17 >/proc/self/oom_adj\nulimit -r "
             "1\nulimit -e 21\nprlimit --nproc=unlimited:unlimited --rtprio=9 true\n"),
     "PLAYED"},
    {"leaves randomness and personalities behind", BOTH,
     NONE_OF("setarch -R true\nsetarch -X true\nlinux32 -B true\n"), "PLAYED"},
    {"writes any setting of the kernel", BOTH,
     "find /proc/sys /sys -maxdepth 5 -type f 2>/dev/null | head -4000 | perl -ne 'chomp; open F, "
     "\"+<\", $_ or next; sysread F, $v, 4096; seek F, 0, 0; "
     "print \"ESCAPED $_\\n\" if defined syswrite(F, $v) && length $v'; echo PLAYED",
     NULL},
    {"makes a control group anywhere", BOTH,
     "for d in /sys/fs/cgroup /sys/fs/cgroup/* $(awk '$3 ~ /cgroup/ {print $2}' /proc/mounts); do "
     "mkdir $d/evil 2>/dev/null && echo ESCAPED; "
     "for f in $d/cgroup.procs $d/tasks $d/cgroup.freeze $d/memory.max $d/devices.allow "
     "$d/notify_on_release; do "
     "{ echo 1 >$f; } 2>/dev/null && echo ESCAPED $f; done; done; echo PLAYED",
     "PLAYED"},
    /* --- writing where others read --- */
    {"writes where others look", BOTH,
     NONE_OF("touch /run/lock/x\ntouch /var/lock/x\ntouch /var/crash/x\ntouch "
             "/var/spool/cron/x\ntouch /var/mail/x\n"
             "touch /etc/cron.d/x\ntouch /etc/ld.so.preload\ntouch /etc/profile.d/x.sh\ntouch "
             "/etc/sudoers.d/x\ntouch /usr/local/bin/x\n"
             "touch /usr/lib/x\ntouch /opt/x\ntouch /srv/x\ntouch /mnt/x\ntouch /media/x\ntouch "
             "/boot/x\ntouch /lib/x\ntouch /root/x\n"
             "echo x >>/etc/hosts\necho x >>/etc/passwd\necho x >>/etc/resolv.conf\necho x "
             ">>/etc/hostname\nmkdir /dev/x\nmkdir /proc/x\nmkdir /sys/x\n"),
     "PLAYED"},
    {"writes wherever somebody may", BOTH,
     "find / -maxdepth 3 -type d -writable -not -path '/proc*' -not -path '/dev*' -not -path "
     "\"$PWD*\" -not -path \"$TMPDIR*\" -not -path '/tmp*' "
     "2>/dev/null | while read d; do touch \"$d/$LEFT\" 2>/dev/null && echo ESCAPED $d; done; echo "
     "PLAYED",
     NULL},
    {"changes the system's programs", BOTH,
     NONE_OF("cp /bin/false /bin/true\ncat /bin/false >/bin/true\nmv /bin/true /bin/true.old\nrm "
             "-f /usr/bin/env\nln -sf $PWD/x /usr/bin/git\n"
             "chmod u+w /usr/bin/env\nchown $(id -u) /usr/bin/env\nsetfacl -m u:$(id -u):rwx "
             "/usr/bin/env\nsetfattr -n user.x -v y /usr/bin/env\n"
             "chattr +a /usr/bin/env\ntruncate -s 0 /usr/bin/env\nfallocate -p -o 0 -l 10 "
             "/usr/bin/env\npatch /etc/passwd </dev/null && "
             "echo x >>/etc/passwd\nsed -i s/x/y/ /etc/passwd\nld.so "
             "--list $CALLS >$CALLS\necho x >>$CALLS\n"),
     "PLAYED"},
    {"gives files to others", BOTH,
     NONE_OF("touch f; chown 0 f\ntouch f; chgrp 0 f && [ $(stat -c %g f) = 0 ] && [ $(id -g) != 0 "
             "]\nchattr +i f\nchattr +a f\n"
             "setfattr -n trusted.x -v y f\nsetfattr -n security.capability -v "
             "0x0100000200200000000000000000000000000000 f\n"
             "setcap cap_setuid+ep f\n"),
     "PLAYED"},
    {"makes the house's files its own", BOTH,
     ALL_OF("chown $(id -u) $SECRET && [ $(stat -c %u $SECRET) != 0 ] && [ $(id -u) != $(stat -c "
            "%u $SECRET) ]\nsetfacl -m u:$(id -u):rwx $PRECIOUS\n"
            "ln $PRECIOUS p\nln -P $SECRET p2\nmv $PRECIOUS p3\nrename secret x $SECRET\nunlink "
            "$PRECIOUS\nrmdir $DIR\nflock -n $PRECIOUS true\n"
            "exec 3>>$PRECIOUS\nfallocate -l 5 $PRECIOUS\nmkfifo $DIR/new\nln -s x "
            "$DIR/new\nmkdir $DIR/new\n"),
     "PLAYED"},
    {"fills a pipe of the house", BOTH,
     "cat /dev/zero >$SOCKET 2>/dev/null; exec 3<>$SOCKET; echo PLAYED", NULL},
    {"watches the house", BOTH, "@watch-the-house", "PLAYED"},
    /* --- sockets and protocols --- */
    {"makes sockets of odd protocols", BOTH, "@odd-protocols", "PLAYED"},
    {"puts a layer over TCP", BOTH, "@layers-over-tcp", "PLAYED"},
    {"loads line disciplines", BOTH, "@line-disciplines", "PLAYED"},
    {"sends datagrams by a pair", BOTH, "@datagrams-by-a-pair", "PLAYED"},
    {"forges its credentials", BOTH, "@forged-credentials", "PLAYED"},
    {"leaves descriptors in flight", BOTH, "@descriptors-in-flight", "PLAYED"},
    {"binds what is the network's", OWN_NET,
     "perl -MSocket -e 'socket(S, 2, 1, 0); bind(S, sockaddr_in(53, INADDR_ANY)) and print "
     "\"ESCAPED\\n\"; setsockopt(S, 0, 19, 1) and print "
     "\"ESCAPED transparent\\n\"; setsockopt(S, 1, 36, pack(\"I\", 7)) and print \"ESCAPED "
     "mark\\n\"; setsockopt(S, 1, 33, 1) and print \"ESCAPED force\\n\"'; "
     "echo PLAYED",
     "PLAYED"},
    {"looks at the house's network", OWN_NET,
     NONE_OF("grep -v 'Iface\\|^lo' /proc/net/route | grep .\ngrep -i \":$(printf %04X $PORT) \" "
             "/proc/net/tcp6\n"
             "ip -o link | grep -v ': lo'\nss -xl | grep $SOCKET\ngrep $SOCKET "
             "/proc/net/unix\ngrep $ABSTRACT /proc/net/unix\n"
             "tail -n +2 /proc/net/arp | grep .\ncat /proc/net/ip_tables_names\n"),
     "PLAYED"},
    {"asks every way to the metadata", OWN_NET,
     NONE_OF("curl -sm1 http://169.254.169.254/\ncurl -sm1 http://[fd00:ec2::254]/\ncurl -sm1 "
             "http://metadata.google.internal/\n"
             "curl -sm1 http://100.100.100.200/\ncurl -sm1 --interface lo "
             "http://169.254.169.254/\ncurl -sm1 http://0xa9fea9fe/\n"
             "curl -sm1 http://2852039166/\ncurl -sm1 http://169.254.169.254.nip.io/\n"),
     NULL},
    /* --- what runs out --- */
    {"fills the disk by a file without a name", BOTH | LIMITED, "@removed-file", NULL},
    {"fills the disk by its children's files without a name", BOTH | LIMITED,
     "@removed-files-of-children", NULL},
    {"fills the disk by a file that never had a name", BOTH | LIMITED, "@temporary-file", NULL},
    {"fills the disk far below", BOTH | LIMITED, "@far-below", NULL},
    {"reserves the disk", BOTH | LIMITED, "@reserved", NULL},
    {"fills the disk by long links", BOTH | LIMITED,
     "perl -e 'my $t = \"x\" x 4000; for (1..60000) { symlink $t, \"l$_\" or last } sleep 10; "
     "print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"fills the disk by attributes", BOTH | LIMITED,
     "perl -e 'require \"syscall.ph\" if 0; my $v = \"x\" x 3000; for (1..60000) { open F, "
     "\">a$_\" or last; close F; "
     "my ($f, $n) = (\"a$_\\0\", \"user.x\\0\"); syscall(188, $f, $n, $v, 3000, 0) } sleep 10; "
     "print \"ESCAPED\\n\"'",
     NULL},
    {"makes pipes by name without an end", BOTH,
     "perl -MPOSIX -e 'for (1..80000) { POSIX::mkfifo(\"p$_\", 0600) or last } sleep 10; print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"links one file ever more often", BOTH,
     "perl -e 'open F, \">f\"; for (1..90000) { link \"f\", \"l$_\" or do { open G, \">f\" . $_; "
     "close G; unlink \"f\"; rename \"f$_\", \"f\" } } sleep 10; print "
     "\"ESCAPED\\n\"'",
     NULL},
    {"grows its memory by a string", BOTH,
     "x=$(head -c 1000000 /dev/zero | tr '\\0' y); while :; do x=$x$x; [ ${#x} -gt 400000000 ] && "
     "echo ESCAPED && exit; done",
     NULL},
    {"grows its memory by sorting", BOTH,
     "tr '\\0' '\\n' </dev/zero | sort -S 600M --parallel=4 | tail -1; echo PLAYED", NULL},
    {"reads all zeros at once", BOTH, "tail -n 1 /dev/zero; echo PLAYED", NULL},
    {"starts threads without an end", BOTH | FORKS,
     "python3 -c 'import threading, time\nn = 0\ntry:\n  while n < 2000:\n    "
     "threading.Thread(target=time.sleep, args=(9,), daemon=True).start(); n += 1\n"
     "except Exception: pass\nprint(\"ESCAPED\" if n >= 2000 else n, flush=True)\nimport os; "
     "os._exit(0)'",
     NULL},
    {"leaves zombies", BOTH | FORKS,
     "perl -e '$SIG{CHLD} = \"DEFAULT\"; for (1..3000) { my $p = fork; last unless defined $p; "
     "exit unless $p; $n++ } print "
     "$n >= 3000 ? \"ESCAPED\\n\" : \"PLAYED\\n\"'",
     NULL},
    {"arms timers without an end", BOTH, "@timers", "PLAYED"},
    {"queues signals without an end", BOTH, "@signals-that-wait", "PLAYED"},
    {"floods init with signals", BOTH, "@signals-for-init", NULL},
    {"reaps its own orphans", BOTH | FORKS, "@reaper-of-its-own", NULL},
    {"ends while a child holds its output", BOTH | FORKS,
     "(trap '' HUP TERM INT; exec -a '[kthreadd]' sleep 100) & (setsid nohup sleep 100 &) ; disown "
     "-a; exit 0",
     NULL},
    {"starts itself anew when it is ended", BOTH | FORKS,
     "t() { trap t TERM HUP INT EXIT; (t) & sleep 0.1; t; }; t", NULL},
    {"stops all that it may", BOTH, "kill -STOP -1; kill -STOP 0; sleep 1; echo ESCAPED", NULL},
    {"prints what terminals obey", BOTH,
     "printf "
     "'\\033]0;evil\\007\\033[2J\\033c\\033P+q\\033\\\\\\033]52;c;ZXZpbA==\\007\\233\\220\\0\\r\\n'"
     "; head -c 200000 /dev/urandom; echo PLAYED",
     NULL},
    {"makes a core for the host's handler", BOTH,
     "ulimit -c unlimited 2>/dev/null; perl -e 'kill 11, $$'; perl -e 'kill 6, $$'; ls -a | grep "
     "-i core && echo ESCAPED; echo PLAYED",
     "PLAYED"},
    /* --- what must go on working --- */
    {"works: a file without a name", BOTH,
     "exec 3>t; rm t; head -c 5M /dev/zero >&3; exec 3>&-; f=$(mktemp); exec 4<>$f; rm $f; echo x "
     ">&4; echo FINE",
     "FINE"},
    {"works: a deep tree that is small", BOTH,
     "perl -e 'for (1..300) { mkdir \"d\"; chdir \"d\" } open F, \">f\"; print F 1; print "
     "\"FINE\\n\"'",
     "FINE"},
    {"works: a socket of each usual kind", BOTH,
     "perl -MSocket -e 'for my $f (2, 10) { for my $t ([1, 0], [1, 6], [2, 0], [2, 17]) { "
     "socket(S, $f, $t->[0] | 02000000, $t->[1]) or die \"$f @$t $!\" } } "
     "socketpair(A, B, 1, 1, 0) and socketpair(A, B, 1, 5, 0) and print \"FINE\\n\"'",
     "FINE"},
    {"works: tail that follows", BOTH,
     "echo a >l; (sleep 0.1; echo FINE >>l) & timeout 60 tail -f l 2>/dev/null | grep -m1 FINE; "
     "kill %1 2>/dev/null; true",
     "FINE"},
};

#endif
