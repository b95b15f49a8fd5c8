#include "runner/work/work.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)
#define READS_AT_ONCE 16
#define LAST_READ_MS 5000   /* for output that nobody needs, after the end */
#define LOOK_EVERY_MS 1000  /* for sizes of files, and without inotify */
#define TAIL_EVERY_MS 20    /* where inotify is missing */
#define INIT_SLACK_MS 15000 /* beyond the grace time; after it init itself counts as lost */
#define NEVER INT64_MAX

#define OUTPUTS 2

/* One of the program's outputs while it runs. */
struct output {
    const struct work_output *order;
    int pipe_fd;   /* our end of a pipe, else -1 */
    int64_t taken; /* bytes read from the pipe */
};

struct work {
    const struct work_order *order;
    struct plan plan; /* the order's plan, whose parts it borrows, with another user */
    bool lent;        /* plan.uid is order->as or a user of order->users */
    struct child *child;
    int in_fd; /* our end of its standard input, else -1 */
    struct output outputs[OUTPUTS];
    char *chunk;
    size_t used; /* bytes of the chunk that ever held output */
    bool began;
    bool dropped;
    enum work_cause cause;
    int64_t launched_ms;
    int64_t heard_ms;    /* when it last printed */
    int64_t answered_ms; /* 0: not yet */
    int64_t ending_ms;   /* since when it is being ended; 0: it is not */
};

/* --- causes -------------------------------------------------------------------------------- */

static const struct {
    const char *reason;
    bool named;
    const char *sentence;
} causes[] = {
#define WORK_CAUSE_ROW(name, reason, named, sentence) [name] = {reason, named, sentence},
    WORK_CAUSES(WORK_CAUSE_ROW)
#undef WORK_CAUSE_ROW
};

const char *work_cause_reason(enum work_cause cause)
{
    return causes[cause].reason;
}

void work_cause_say(enum work_cause cause, const char *program, char *text, size_t size)
{
    snprintf(text, size, "%s%s%s", causes[cause].named ? program : "",
             causes[cause].named ? " " : "", causes[cause].sentence);
}

static int64_t due_timeout(const struct work *work)
{
    int64_t until = work->order->limits.until_ms;
    return until == 0 || work->answered_ms ? NEVER : until;
}

static int64_t due_first(const struct work *work)
{
    int64_t first = work->order->limits.first_ms;
    return first == 0 || work->began ? NEVER : work->launched_ms + first;
}

static int64_t due_idle(const struct work *work)
{
    int64_t idle = work->order->limits.idle_ms;
    return idle == 0 || work->answered_ms ? NEVER : work->heard_ms + idle;
}

static int64_t due_grace(const struct work *work)
{
    return work->answered_ms ? work->answered_ms + work->order->limits.grace_ms : NEVER;
}

/* How many bytes an output has printed. */
static int64_t printed(const struct output *output)
{
    struct stat st;
    int fd = output->order->via == WORK_TAIL ? output->order->tail->read_fd
             : output->order->via == WORK_FD ? output->order->fd
                                             : -1;
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : output->taken;
}

static int64_t due_limit(const struct work *work)
{
    for (size_t i = 0; i < OUTPUTS; i++) {
        const struct output *output = &work->outputs[i];
        if (output->order->max_bytes > 0 && printed(output) > output->order->max_bytes)
            return 0;
    }
    return NEVER;
}

static int64_t due_flood(const struct work *work)
{
    int64_t backlog = 0, most = work->order->limits.backlog_bytes;
    for (size_t i = 0; most > 0 && i < OUTPUTS; i++) {
        const struct work_output *order = work->outputs[i].order;
        if (order->via == WORK_TAIL && order->take)
            backlog += tail_backlog(order->tail);
    }
    return backlog > most ? 0 : NEVER;
}

/* When each cause takes effect (mono ms, 0: now), in the order in which they are checked. */
static const struct {
    enum work_cause cause;
    int64_t (*due_ms)(const struct work *work);
} clocks[] = {
    {WORK_LIMIT, due_limit},  {WORK_FLOOD, due_flood}, {WORK_TIMEOUT, due_timeout},
    {WORK_SILENT, due_first}, {WORK_IDLE, due_idle},   {WORK_GRACE, due_grace},
};

/* Ends the program when a time limit has passed. Returns for how long none can pass. */
static int64_t heed_clocks(struct work *work)
{
    int64_t now = clock_mono_ms(), wait = LOOK_EVERY_MS;
    for (size_t i = 0; i < COUNT_OF(clocks) && !work->ending_ms; i++) {
        int64_t due = clocks[i].due_ms(work);
        if (due <= now)
            work_end(work, clocks[i].cause);
        else if (due - now < wait)
            wait = due - now;
    }
    return wait;
}

/* True when init has not answered long after it must have sent the last signal. */
static bool is_lost(const struct work *work)
{
    int64_t grace = work->order->at_once ? 0 : work->order->plan->kill_grace_ms;
    return work->ending_ms && clock_mono_ms() - work->ending_ms > grace + INIT_SLACK_MS;
}

/* --- for the callbacks --------------------------------------------------------------------- */

void work_began(struct work *work)
{
    work->began = true;
}

void work_answered(struct work *work)
{
    work->began = true;
    if (!work->answered_ms)
        work->answered_ms = clock_mono_ms();
}

void work_end(struct work *work, enum work_cause cause)
{
    REQUIRE(cause != WORK_ENDED);
    if (work->ending_ms)
        return;
    work->cause = cause;
    work->ending_ms = clock_mono_ms();
    child_end(work->child, work->order->at_once || cause == WORK_ABORT);
}

bool work_is_ending(const struct work *work)
{
    return work->ending_ms != 0;
}

ssize_t work_write(struct work *work, const char *data, size_t len)
{
    REQUIRE(work->in_fd >= 0);
    return write(work->in_fd, data, len);
}

pid_t work_pid(const struct work *work)
{
    return child_pid(work->child);
}

/* --- output -------------------------------------------------------------------------------- */

static size_t read_pipe(struct output *output, char *to)
{
    ssize_t n;
    if (output->pipe_fd < 0)
        return 0;
    while ((n = read(output->pipe_fd, to, READ_BYTES)) < 0 && errno == EINTR)
        continue;
    if (n == 0 || (n < 0 && errno != EAGAIN))
        fd_close(&output->pipe_fd); /* Otherwise poll() would report its end again and again. */
    output->taken += n > 0 ? n : 0;
    return n > 0 ? (size_t)n : 0;
}

/* Passes on output, up to READS_AT_ONCE: a program may print faster than this reads, and time
 * limits and callers are checked in between. False when there was none. */
static bool drain_one(struct work *work, struct output *output)
{
    const struct work_output *order = output->order;
    int reads = 0;
    for (; reads < READS_AT_ONCE; reads++) {
        size_t n = order->via == WORK_PIPE   ? read_pipe(output, work->chunk)
                   : order->via == WORK_TAIL ? tail_read(order->tail, work->chunk, READ_BYTES)
                                             : 0;
        if (n == 0)
            break;
        work->used = n > work->used ? n : work->used;
        if (order->take)
            order->take(work, work->chunk, n, work->order->arg);
    }
    return reads > 0;
}

static bool drain(struct work *work)
{
    bool any = false;
    for (size_t i = 0; i < OUTPUTS; i++) {
        struct output *output = &work->outputs[i];
        if (output->order->take || output->order->via == WORK_PIPE)
            any |= drain_one(work, output);
        else if (output->order->via == WORK_TAIL && output->order->keep_bytes > 0)
            tail_trim(output->order->tail, output->order->keep_bytes);
    }
    if (any)
        work->heard_ms = clock_mono_ms();
    return any;
}

/* Reads the rest after the program's end. What was asked for may be at its end; but when the
 * program was ended before it had answered, nobody waits for that. */
static void drain_rest(struct work *work)
{
    int64_t deadline = clock_mono_ms() + LAST_READ_MS;
    while (drain(work)) {
        bool wanted = !work->ending_ms || work->answered_ms;
        if (!wanted && clock_mono_ms() >= deadline) {
            for (size_t i = 0; i < OUTPUTS; i++)
                work->dropped |= work->outputs[i].pipe_fd >= 0 ||
                                 (work->outputs[i].order->via == WORK_TAIL &&
                                  tail_backlog(work->outputs[i].order->tail) > 0);
            return;
        }
        if (work->order->look)
            (void)work->order->look(work, work->order->arg);
    }
}

/* --- following ----------------------------------------------------------------------------- */

/* Asks what the caller wants. Returns how long the caller is content to wait. */
static int64_t heed_caller(struct work *work)
{
    const struct work_order *order = work->order;
    int64_t wait = LOOK_EVERY_MS;
    enum work_cause asked = order->stop.asked && !work->ending_ms
                                ? order->stop.asked(work, order->stop.arg)
                                : WORK_ENDED;
    if (asked != WORK_ENDED)
        work_end(work, asked);
    if (order->look) {
        int64_t again = order->look(work, order->arg);
        wait = again >= 0 && again < wait ? again : wait;
    }
    return wait;
}

static int notify_fd(const struct output *output)
{
    const struct work_output *order = output->order;
    return order->via == WORK_PIPE                  ? output->pipe_fd
           : order->via == WORK_TAIL && order->take ? order->tail->notify_fd
                                                    : -1;
}

static void wait_for_something(struct work *work, int64_t timeout_ms)
{
    const struct work_stop *stop = &work->order->stop;
    struct pollfd fds[2 + OUTPUTS] = {
        {.fd = child_fd(work->child), .events = POLLIN},
        /* Once the program is being ended the caller is not asked any more. */
        {.fd = stop->asked && !work->ending_ms ? stop->wake_fd : -1, .events = POLLIN},
    };
    for (size_t i = 0; i < OUTPUTS; i++) {
        const struct work_output *order = work->outputs[i].order;
        fds[2 + i] = (struct pollfd){.fd = notify_fd(&work->outputs[i]), .events = POLLIN};
        bool blind = order->via == WORK_TAIL && order->take && order->tail->notify_fd < 0;
        if (blind && timeout_ms > TAIL_EVERY_MS)
            timeout_ms = TAIL_EVERY_MS;
    }
    poll(fds, COUNT_OF(fds), (int)timeout_ms);
    for (size_t i = 0; i < OUTPUTS; i++)
        if (fds[2 + i].revents && work->outputs[i].order->via == WORK_TAIL)
            tail_heed(work->outputs[i].order->tail);
}

/* Follows the program until its tree has ended (true) or is given up. */
static bool follow(struct work *work)
{
    for (;;) {
        /* Look at the child first, then read, so that no output before its end is missed. */
        enum child_event event = child_read(work->child);
        bool any = drain(work);
        if (event == CHILD_ENDED || is_lost(work))
            return event == CHILD_ENDED;
        int64_t content = heed_caller(work), wait = heed_clocks(work);
        if (!any && event == CHILD_NOTHING)
            wait_for_something(work, content < wait ? content : wait);
    }
}

/* --- launching ----------------------------------------------------------------------------- */

/* The program's ends of its three streams. */
struct ends {
    int fds[3];
    bool ours[3]; /* made here: closed once the program was launched */
};

static void close_ends(struct ends *ends)
{
    for (size_t i = 0; i < COUNT_OF(ends->fds); i++)
        if (ends->ours[i])
            fd_close(&ends->fds[i]);
}

/* Makes a pipe whose end `mine` (0 reads, 1 writes) stays here and never blocks. */
static int open_pipe(struct ends *ends, size_t stream, int mine, int *ret_mine, struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return err_sys(err, "cannot make a pipe");
    fcntl(fds[mine], F_SETFL, O_NONBLOCK);
    *ret_mine = fds[mine];
    ends->fds[stream] = fds[!mine];
    ends->ours[stream] = true;
    return 0;
}

static int open_null(struct ends *ends, size_t stream, struct err *err)
{
    ends->fds[stream] = open("/dev/null", O_RDWR | O_CLOEXEC);
    ends->ours[stream] = true;
    return ends->fds[stream] < 0 ? err_sys(err, "cannot open /dev/null") : 0;
}

static int open_input(struct work *work, struct ends *ends, struct err *err)
{
    const struct work_input *in = &work->order->in;
    REQUIRE(in->via != WORK_TAIL);
    if (in->via == WORK_PIPE)
        return open_pipe(ends, 0, 1, &work->in_fd, err);
    if (in->via == WORK_NULL)
        return open_null(ends, 0, err);
    ends->fds[0] = in->fd;
    return 0;
}

static int open_output(struct work *work, struct ends *ends, size_t stream, struct err *err)
{
    struct output *output = &work->outputs[stream - 1];
    switch (output->order->via) {
    case WORK_NULL:
        return open_null(ends, stream, err);
    case WORK_FD:
        ends->fds[stream] = output->order->fd;
        return 0;
    case WORK_TAIL:
        ends->fds[stream] = output->order->tail->write_fd;
        return 0;
    case WORK_PIPE:
        return open_pipe(ends, stream, 0, &output->pipe_fd, err);
    }
    return err_set(err, ERR_INTERNAL, "no such kind of output");
}

static void serve_network(struct work *work)
{
    int sockets[JAIL_GATE_SOCKETS];
    if (work->order->gate && child_take_gate(work->child, sockets))
        egress_gate_serve(work->order->gate, sockets);
}

static struct owner owner_of(const struct plan *plan)
{
    return (struct owner){plan->uid, plan->gid};
}

/* Gives the program a user of its own, where the order asks for one. */
static int lend_user(struct work *work, struct err *err)
{
    const struct work_order *order = work->order;
    work->plan = *order->plan;
    if (!order->users || !order->given || order->plan->mounts.count > 0)
        return 0;
    uid_t uid = order->as ? order->as : users_take(order->users);
    if (uid == 0)
        return err_set(err, ERR_BUSY, "every user of RUNNER_UIDS runs a program already");
    work->lent = true;
    work->plan.uid = uid;
    work->plan.gid = uid;
    return users_hand_over(order->given, owner_of(order->plan), owner_of(&work->plan), err);
}

/* Gives the user back. Keeps a user whose files could not be taken back, or whose program may still
 * run: the next program would have access to them. */
static void take_user_back(struct work *work, bool ended)
{
    struct err ignored;
    const struct work_order *order = work->order;
    if (work->lent && ended &&
        users_hand_over(order->given, owner_of(&work->plan), owner_of(order->plan), &ignored) ==
            0 &&
        !order->as)
        users_give(order->users, work->plan.uid);
}

static int launch(struct work *work, struct err *err)
{
    struct ends ends = {.fds = {-1, -1, -1}};
    int rc = open_input(work, &ends, err) || open_output(work, &ends, 1, err) ||
             open_output(work, &ends, 2, err);
    work->launched_ms = work->heard_ms = clock_mono_ms();
    if (rc == 0)
        work->child = launcher_spawn(work->order->launcher, &work->plan, ends.fds, err);
    if (work->child)
        serve_network(work);
    close_ends(&ends);
    for (size_t i = 0; i < OUTPUTS; i++)
        if (work->outputs[i].order->via == WORK_TAIL)
            fd_close(&work->outputs[i].order->tail->write_fd);
    return work->child ? 0 : -1;
}

static void work_done(struct work *work)
{
    child_free(work->child);
    fd_close(&work->in_fd);
    for (size_t i = 0; i < OUTPUTS; i++)
        fd_close(&work->outputs[i].pipe_fd);
    if (work->chunk)
        explicit_bzero(work->chunk, work->used); /* Programs print secrets. */
    free(work->chunk);
}

static void check_order(const struct work_order *order)
{
    const struct work_output *outputs[] = {&order->out, &order->errors};
    REQUIRE(order->launcher && order->plan && order->plan->argv.count > 0);
    for (size_t i = 0; i < COUNT_OF(outputs); i++) {
        REQUIRE(outputs[i]->via != WORK_TAIL ||
                (outputs[i]->tail && outputs[i]->tail->write_fd >= 0));
        REQUIRE(!outputs[i]->take || outputs[i]->via == WORK_TAIL || outputs[i]->via == WORK_PIPE);
    }
}

int work_run(const struct work_order *order, struct work_result *ret_result, struct err *err)
{
    check_order(order);
    struct work work = {.order = order,
                        .in_fd = -1,
                        .outputs = {{.order = &order->out, .pipe_fd = -1},
                                    {.order = &order->errors, .pipe_fd = -1}}};
    bool reads = order->out.take || order->errors.take || order->out.via == WORK_PIPE ||
                 order->errors.via == WORK_PIPE;
    if (reads && !(work.chunk = malloc(READ_BYTES)))
        return err_sys(err, "cannot follow a program");
    if (lend_user(&work, err) || launch(&work, err)) {
        take_user_back(&work, true);
        work_done(&work);
        return -1;
    }
    bool ended = follow(&work);
    drain_rest(&work);
    *ret_result = (struct work_result){
        .cause = work.cause == WORK_ENDED
                     ? work_cause_of_limits(child_exceeded(work.child), child_status(work.child))
                     : work.cause,
        .status = child_status(work.child),
        .answered = work.answered_ms && (!work.ending_ms || work.answered_ms <= work.ending_ms),
        .lost = !ended,
        .dropped = work.dropped,
        .peak_kib = child_peak_kib(work.child),
        .leftover = child_leftover(work.child)};
    take_user_back(&work, ended);
    work_done(&work);
    return 0;
}

bool work_cause_is_limit(enum work_cause cause)
{
    return cause == WORK_MEMORY || cause == WORK_DISK || cause == WORK_PIDS;
}

enum work_cause work_cause_of_limits(unsigned exceeded, int status)
{
    return exceeded & JAIL_MEMORY                  ? WORK_MEMORY
           : exceeded & JAIL_DISK                  ? WORK_DISK
           : (exceeded & JAIL_PIDS) && status != 0 ? WORK_PIDS
                                                   : WORK_ENDED;
}

int work_exit_code(int status)
{
    if (status < 0)
        return 128 + SIGKILL;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int work_memory_file(const char *name, const void *data, size_t len, struct err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && fd_write_all(fd, data, len) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    err_sys(err, "cannot pass on the %s", name);
    fd_close(&fd);
    return -1;
}
