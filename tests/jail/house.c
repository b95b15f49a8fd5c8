#include "house.h"

#include "testbase.h"

#include "base/auto.h"
#include "base/fd.h"
#include "situation.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <mqueue.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRECIOUS "precious\n"

struct house house;

static int listen_at(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && bind(fd, address, len) == 0 && listen(fd, 16) == 0);
    return fd;
}

static void open_listeners(void)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(tcp);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", house.socket);
    memcpy(abstract.sun_path + 1, house.abstract, strlen(house.abstract));
    house.listeners[0] = listen_at((struct sockaddr *)&local, sizeof(local));
    assert_int_equal(chmod(house.socket, 0777), 0);
    house.listeners[1] =
        listen_at((struct sockaddr *)&abstract,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(house.abstract)));
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", house.datagrams);
    house.mailbox = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(house.mailbox, (struct sockaddr *)&local, sizeof(local)), 0);
    assert_int_equal(chmod(house.datagrams, 0777), 0);
    house.listeners[2] = listen_at((struct sockaddr *)&tcp, sizeof(tcp));
    assert_int_equal(getsockname(house.listeners[2], (struct sockaddr *)&tcp, &len), 0);
    house.port = ntohs(tcp.sin_port);
}

/* A process of the user that tasks run as, with a secret in its environment. */
static pid_t start_outsider(void)
{
    char *const argv[] = {(char[]){"sleep"}, (char[]){"10000"}, NULL};
    char *const env[] = {(char[]){"SECRET=" TOKEN}, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && (setgid(house.uid) || setuid(house.uid)))
            _exit(126);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* here: a change of the user takes it back */
        execve("/bin/sleep", argv, env);
        _exit(127);
    }
    return pid;
}

static void open_segment(void)
{
    house.shm = shmget(IPC_PRIVATE, 4096, 0666 | IPC_CREAT);
    char *memory = shmat(house.shm, NULL, 0);
    assert_true(memory != (char *)-1);
    snprintf(memory, 4096, "%s", TOKEN);
    shmdt(memory);
}

void build_house(void)
{
    int own = (int)getpid();
    house.uid = geteuid() == 0 ? NOBODY : geteuid();
    house.key = 0x51570000 + (own & 0xffff);
    house.dir = tmp_dir_new();
    assert_int_equal(chmod(house.dir, 0777), 0);
    house.secret = textf("%s/secret", house.dir);
    house.mine = textf("%s/mine", house.dir);
    house.precious = textf("%s/precious", house.dir);
    house.socket = textf("%s/socket", house.dir);
    house.datagrams = textf("%s/datagrams", house.dir);
    house.shm_file = textf("/dev/shm/hostile-%d", own);
    snprintf(house.abstract, sizeof(house.abstract), "hostile-%d", own);
    snprintf(house.queue, sizeof(house.queue), "/hostile-%d", own);
    snprintf(house.left, sizeof(house.left), "hostile-left-%d", own);
    snprintf(house.mark, sizeof(house.mark), "HOSTILE_MARK=%d", own);
    write_file(house.secret, TOKEN "\n", 0644);
    write_file(house.mine, TOKEN "\n", 0600);
    write_file(house.precious, PRECIOUS, 0666);
    write_file(house.shm_file, TOKEN "\n", 0666);
    assert_int_equal(chmod(house.precious, 0666) | chmod(house.shm_file, 0666), 0);
    open_listeners();
    open_segment();
    house.outsider = start_outsider();
}

void leave_house(void)
{
    kill(house.outsider, SIGKILL);
    waitpid(house.outsider, NULL, 0);
    shmctl(house.shm, IPC_RMID, NULL);
    unlink(house.shm_file);
    tmp_dir_free(house.dir);
    for (int i = 0; i < 3; i++)
        fd_close(&house.listeners[i]);
    fd_close(&house.mailbox);
    char *const owned[] = {house.secret, house.mine,      house.precious,
                           house.socket, house.datagrams, house.shm_file};
    for (size_t i = 0; i < COUNT(owned); i++)
        free(owned[i]);
}

/* --- the canaries -------------------------------------------------------------------------- */

static bool is_content(const char *path, const char *text)
{
    AUTO(str) char *now = read_file(path, NULL);
    return now && strcmp(now, text) == 0;
}

static bool somebody_came(int *ret_which)
{
    for (int i = 0; i < 3; i++) {
        AUTO(fd) int fd = accept4(house.listeners[i], NULL, NULL, SOCK_CLOEXEC);
        *ret_which = i;
        if (fd >= 0)
            return true;
    }
    return false;
}

static bool left_in(const char *dir)
{
    glob_t found;
    AUTO(str) char *pattern = textf("%s/%s*", dir, house.left);
    bool any = glob(pattern, 0, NULL, &found) == 0;
    globfree(&found);
    return any;
}

/* Segments and queues of the host that only a jail can have made. */
static bool left_in_memory(void)
{
    mqd_t queue = mq_open(house.queue, O_RDONLY);
    if (queue != (mqd_t)-1)
        mq_close(queue);
    return queue != (mqd_t)-1 || shmget(house.key, 0, 0) >= 0 || semget(house.key, 0, 0) >= 0 ||
           msgget(house.key, 0) >= 0;
}

static const char *damage_to_outsider(void)
{
    AUTO(str) char *path = textf("/proc/%d/oom_score_adj", (int)house.outsider);
    AUTO(str) char *mine = read_file("/proc/self/oom_score_adj", NULL);
    AUTO(str) char *adj = NULL;
    if (waitpid(house.outsider, NULL, WNOHANG) != 0)
        return "the outsider is dead";
    if (getpriority(PRIO_PROCESS, (id_t)house.outsider) != getpriority(PRIO_PROCESS, 0))
        return "the outsider's priority has changed";
    if (syscall(SYS_ioprio_get, 1, house.outsider) != syscall(SYS_ioprio_get, 1, 0))
        return "the outsider's priority of input and output has changed";
    adj = read_file(path, NULL);
    return adj && strcmp(adj, mine) == 0 ? NULL : "the outsider's badness has changed";
}

const char *damage(char *room, size_t size)
{
    struct stat st;
    struct shmid_ds segment;
    int which;
    if (!is_content(house.precious, PRECIOUS))
        return "the precious file has changed";
    if (stat(house.precious, &st) || (st.st_mode & 0777) != 0666)
        return "the precious file's mode has changed";
    if (!is_content(house.secret, TOKEN "\n") || !is_content(house.shm_file, TOKEN "\n"))
        return "a secret has changed";
    if (somebody_came(&which)) {
        snprintf(room, size, "listener %d was reached", which);
        return room;
    }
    if (recv(house.mailbox, &segment, sizeof(segment), MSG_DONTWAIT) >= 0)
        return "a datagram came";
    snprintf(room, size, "%s/new", house.dir);
    if (access(room, F_OK) == 0)
        return "there is a new file";
    if (left_in("/tmp") || left_in("/dev/shm") || left_in_memory())
        return "something was left";
    if (shmctl(house.shm, IPC_STAT, &segment))
        return "the segment is gone";
    return damage_to_outsider();
}
