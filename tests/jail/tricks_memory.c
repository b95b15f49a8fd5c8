/* Memory, and other things that run out. Each wants more than the jail's 256 MiB. */
#include "tricks.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)
#define WANTED_MIB 420
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

static char block[MIB];

/* Long enough for whoever polls. */
static void got_it(const char *what)
{
    sleep(10);
    escaped(what);
}

static void shared_map(void)
{
    char *map = mmap(NULL, (size_t)WANTED_MIB * MIB, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return;
    for (size_t i = 0; i < WANTED_MIB; i++)
        memset(map + i * MIB, 1, MIB);
    got_it("shared memory");
}

static void files_in_memory(void)
{
    for (int i = 0; i < WANTED_MIB / 20; i++) {
        int fd = memfd_create("x", 0);
        for (int k = 0; k < 20; k++)
            if (fd < 0 || write(fd, block, MIB) != MIB)
                return;
    }
    got_it("files in memory");
}

/* A file in memory that nobody has open: the mapping keeps it. */
static void mapped_file_in_memory(void)
{
    int fd = memfd_create("x", 0);
    for (int k = 0; k < WANTED_MIB; k++)
        if (fd < 0 || write(fd, block, MIB) != MIB)
            return;
    char *map = mmap(NULL, (size_t)WANTED_MIB * MIB, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        got_it("a mapped file in memory");
}

static void in_children(void)
{
    int ends[2];
    char all[8];
    size_t touched = 0;
    if (pipe(ends))
        return;
    for (int i = 0; i < 8; i++) {
        if (fork() != 0)
            continue;
        volatile char *room = malloc((size_t)60 * MIB);
        for (size_t k = 0; room && k < (size_t)60 * MIB; k += 4096)
            room[k] = 1;
        (void)!write(ends[1], "", 1);
        sleep(30);
        _exit(room == NULL);
    }
    close(ends[1]);
    for (ssize_t n; touched < 8 && (n = read(ends[0], all, 8)) > 0;)
        touched += (size_t)n;
    sleep(10);
    for (int i = 0; i < 8; i++)
        if (touched < 8 || waitpid(-1, NULL, WNOHANG) != 0)
            return;
    escaped("memory of children");
}

static void locked(void)
{
    char *map = mmap(NULL, 64u * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    never("locked memory", mlock(map, 64u * MIB));
    never("all memory locked", mlockall(MCL_CURRENT | MCL_FUTURE) == 0 &&
                                       mmap(NULL, 64u * MIB, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED
                                   ? 0
                                   : -1);
}

static void limits_up(void)
{
    static const int which[] = {RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_CORE,
                                RLIMIT_RTPRIO, RLIMIT_NICE,    RLIMIT_MSGQUEUE};
    for (size_t i = 0; i < sizeof(which) / sizeof(*which); i++) {
        struct rlimit now;
        getrlimit((__rlimit_resource_t)which[i], &now);
        if (now.rlim_max == RLIM_INFINITY)
            escaped("a limit is not there");
        now.rlim_cur = now.rlim_max = now.rlim_max + 1;
        never("a limit was raised", setrlimit((__rlimit_resource_t)which[i], &now));
    }
}

/* Prints for ever, also to what is not read. */
static void output(void)
{
    memset(block, 'x', sizeof(block));
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 400; i++)
        if (write(1, block, sizeof(block)) != (ssize_t)sizeof(block))
            return;
}

/* Directories that only differ in case, names of 255 bytes, paths longer than PATH_MAX, without
 * any permission at the end. */
static void tree_that_is_hard_to_remove(void)
{
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    for (int i = 0; i < 40; i++)
        if (mkdir(name, 0700) || chdir(name))
            return;
    close(open("f", O_CREAT | O_WRONLY, 0));
    (void)!mkdir("closed", 0);
    (void)!symlink("..", "loop");
    (void)!mkfifo("pipe", 0600);
    for (int i = 0; i < 40; i++) {
        (void)!chmod(".", i % 2 ? 0 : 0300);
        if (chdir(".."))
            return;
    }
}

/* What lies in a socket's queue, as the kernel counts it for the socket. */
static size_t queued(int fd)
{
    unsigned info[16] = {0};
    socklen_t len = sizeof(info);
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) ? 0 : info[0];
}

/* A datagram socket of the loopback that sends to itself until its queue is full. */
static size_t fill_datagrams(void)
{
    int room = (int)(8 * MIB), fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(own);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, len) ||
        getsockname(fd, (struct sockaddr *)&own, &len) || connect(fd, (struct sockaddr *)&own, len))
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    for (size_t before = 0, now = 1; now > before && send(fd, block, 60000, 0) > 0;) {
        before = now;
        now = queued(fd) + 1;
    }
    return queued(fd);
}

static void buffers_of_sockets(void)
{
    size_t sum = 0, more = 1;
    for (int i = 0; i < 4000 && more > 0 && sum < (size_t)WANTED_MIB * MIB; i++)
        sum += more = fill_datagrams();
    if (sum >= (size_t)WANTED_MIB * MIB)
        got_it("buffers of sockets");
}

/* Reads one byte of every two MiB: each is the same page of zeros, which is nobody's memory, but
 * each takes a page for its table. */
static void tables_of_pages(void)
{
    const size_t step = 2u * MIB, size = (size_t)WANTED_MIB * MIB / 4096 * step;
    volatile const char *map =
        mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || madvise((void *)map, size, MADV_NOHUGEPAGE))
        return;
    for (size_t at = 0; at < size; at += step)
        (void)map[at];
    got_it("tables of pages");
}

const struct trick memory_tricks[] = {
    {"buffers-of-sockets", buffers_of_sockets},
    {"tables-of-pages", tables_of_pages},
    {"shared-map", shared_map},
    {"files-in-memory", files_in_memory},
    {"mapped-file-in-memory", mapped_file_in_memory},
    {"in-children", in_children},
    {"locked", locked},
    {"limits-up", limits_up},
    {"output", output},
    {"tree-that-is-hard-to-remove", tree_that_is_hard_to_remove},
    {NULL, NULL},
};
