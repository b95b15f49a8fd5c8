#include "git/program.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX (64u << 10) /* bytes of its stderr that are kept */

void program_done(struct program *program)
{
    strlist_done(&program->argv);
    strlist_done(&program->env);
}

void program_add_environment(struct strlist *env)
{
    static const char *const fixed[] = {
        "GIT_CONFIG_NOSYSTEM=1",  "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_TERMINAL_PROMPT=0",  "GIT_ASKPASS=/bin/false",
        "SSH_ASKPASS=/bin/false", "GIT_ATTR_NOSYSTEM=1",
        "HOME=/nonexistent",      "LC_ALL=C",
        "GIT_OPTIONAL_LOCKS=0",   "GIT_NO_REPLACE_OBJECTS=1",
    };
    const char *path = getenv("PATH");
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        strlist_add(env, fixed[i]);
    strlist_addf(env, "PATH=%s", path ? path : "/usr/local/bin:/usr/bin:/bin");
}

/* --- what its words mean ------------------------------------------------------------------- */

static const struct {
    const char *words;
    enum err_code code;
} meanings[] = {
    {"No space left on device", ERR_NO_SPACE},
    {"Disk quota exceeded", ERR_NO_SPACE},
    {"File too large", ERR_NO_SPACE},
    {"error: invalid path '", ERR_INVALID},
    {"Host key verification failed", ERR_FORBIDDEN},
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", ERR_FORBIDDEN},
    {"Permission denied", ERR_FORBIDDEN},
    {"Authentication failed", ERR_FORBIDDEN},
    {"could not read Username", ERR_FORBIDDEN},
    {"could not read Password", ERR_FORBIDDEN},
    {"returned error: 401", ERR_FORBIDDEN},
    {"returned error: 403", ERR_FORBIDDEN},
    {"Write access to repository not granted", ERR_FORBIDDEN},
    {"error in libcrypto", ERR_FORBIDDEN},
    {"[rejected]", ERR_CONFLICT},
    {"stale info", ERR_CONFLICT},
    {"[remote rejected]", ERR_CONFLICT},
    {"couldn't find remote ref", ERR_NOT_FOUND},
    {"Repository not found", ERR_NOT_FOUND},
    {"repository not found", ERR_NOT_FOUND},
    {"does not appear to be a git repository", ERR_NOT_FOUND},
    {"does not exist", ERR_NOT_FOUND},
    {"not found", ERR_NOT_FOUND},
    {"returned error: 404", ERR_NOT_FOUND},
    {"unable to update url base from redirection", ERR_FORBIDDEN},
    {"Could not resolve host", ERR_UPSTREAM},
    {"Could not resolve hostname", ERR_UPSTREAM},
    {"Failed to connect", ERR_UPSTREAM},
    {"Couldn't connect", ERR_UPSTREAM},
    {"Connection refused", ERR_UPSTREAM},
    {"Connection reset", ERR_UPSTREAM},
    {"Connection closed", ERR_UPSTREAM},
    {"Connection timed out", ERR_UPSTREAM},
    {"Operation timed out", ERR_UPSTREAM},
    {"Network is unreachable", ERR_UPSTREAM},
    {"certificate", ERR_UPSTREAM},
    {"early EOF", ERR_UPSTREAM},
    {"hung up", ERR_UPSTREAM},
    {"unexpected disconnect", ERR_UPSTREAM},
    {"RPC failed", ERR_UPSTREAM},
    {"invalid index-pack output", ERR_UPSTREAM},
    {"returned error: ", ERR_UPSTREAM},
    {"protocol error", ERR_UPSTREAM},
    {"bad object", ERR_MISMATCH},
    {"corrupt", ERR_MISMATCH},
    {"missing blob", ERR_MISMATCH},
    {"failed to unpack tree object", ERR_MISMATCH},
    {"unable to read", ERR_MISMATCH},
    {"not a git repository", ERR_MISMATCH},
    {"packfile", ERR_MISMATCH},
    {"bad signature", ERR_MISMATCH},
    {"did not send all necessary objects", ERR_MISMATCH},
    {"bad config", ERR_MISMATCH},
};

static enum err_code meaning_of(const char *words)
{
    for (size_t i = 0; i < COUNT_OF(meanings); i++)
        if (strstr(words, meanings[i].words))
            return meanings[i].code;
    return ERR_INTERNAL;
}

/* The most informative line: a fatal error, else an error, else the last. */
static const char *telling_line(const char *words)
{
    static const char *const marks[] = {"! [", "fatal: ", "ERROR: ", "error: "};
    if (strstr(words, "fatal: Could not read from remote repository"))
        return words; /* What ssh said comes first. */
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        const char *at = strstr(words, marks[i]);
        if (at)
            return at;
    }
    const char *last = strrchr(words, '\n');
    return last && last[1] ? last + 1 : words;
}

int program_explain(const char *verb, struct buf *words, struct err *err)
{
    while (words->len > 0 && words->data[words->len - 1] == '\n')
        words->data[--words->len] = '\0';
    const char *text = buf_str(words), *line = telling_line(text);
    if (strstr(text, "REMOTE HOST IDENTIFICATION HAS CHANGED"))
        line = "the host's key is not the one that is known";
    if (strstr(text, "mismatched algorithms") || strstr(text, "this repository's hash algorithm"))
        line = PROGRAM_SHA256;
    return err_set(err, meaning_of(text), "git %s: %.*s", verb,
                   (int)(strcspn(line, "\r\n") < 190 ? strcspn(line, "\r\n") : 190), line);
}

/* --- running ------------------------------------------------------------------------------- */

struct pipes {
    int out[2];
    int words[2];
};

static int spawn(const struct program *program, const struct pipes *pipes, pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t all;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    if (program->input_fd > 0)
        posix_spawn_file_actions_adddup2(&files, program->input_fd, STDIN_FILENO);
    else
        posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, pipes->out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, pipes->words[1], STDERR_FILENO);
    if (program->secret_fd >= 0)
        posix_spawn_file_actions_adddup2(&files, program->secret_fd, PROGRAM_SECRET_FD);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    sigfillset(&all);
    posix_spawnattr_setsigdefault(&attr, &all);
    int sys = posix_spawnp(ret_pid, program->argv.items[0], &files, &attr, program->argv.items,
                           program->env.items);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return sys;
}

/* Reads what is there and drops what does not fit. False at the end of the stream. */
static bool drain(int fd, struct buf *to)
{
    char chunk[16384];
    ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n > 0 && to->len + (size_t)n < to->max)
        buf_add(to, chunk, (size_t)n);
    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Reads both outputs until their end. False when the deadline came first. */
static bool collect(const struct program *program, struct pipes *pipes, struct buf *out,
                    struct buf *words)
{
    while (pipes->out[0] >= 0 || pipes->words[0] >= 0) {
        struct pollfd fds[] = {{.fd = pipes->out[0], .events = POLLIN},
                               {.fd = pipes->words[0], .events = POLLIN}};
        int64_t left = program->deadline_ms - clock_mono_ms();
        if (left <= 0)
            return false;
        poll(fds, 2, left < 60000 ? (int)left : 60000);
        if (fds[0].revents && !drain(pipes->out[0], out))
            fd_close(&pipes->out[0]);
        if (fds[1].revents && !drain(pipes->words[0], words))
            fd_close(&pipes->words[0]);
    }
    return true;
}

static int wait_for(pid_t pid, bool in_time)
{
    int status = 0;
    siginfo_t info;
    if (!in_time)
        kill(-pid, SIGKILL);
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        continue;
    kill(-pid, SIGKILL); /* Kill the rest of its group, while the number still belongs to it. */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static const char *verb_of(const struct program *program)
{
    size_t i = 0;
    while (i + 1 < program->argv.count && strcmp(program->argv.items[i], "git") != 0)
        i++;
    for (i++; i < program->argv.count; i++) {
        const char *word = program->argv.items[i];
        if (strcmp(word, "-c") == 0 || strcmp(word, "-C") == 0)
            i++;
        else if (*word != '-')
            return word;
    }
    return program->argv.items[0];
}

static int run_with(const struct program *program, struct pipes *pipes, struct buf *out,
                    struct err *err)
{
    pid_t pid;
    AUTO(buf) struct buf words = BUF_INIT(WORDS_MAX);
    int sys = spawn(program, pipes, &pid);
    fd_close(&pipes->out[1]);
    fd_close(&pipes->words[1]);
    errno = sys;
    if (sys)
        return err_sys(err, "cannot start git");
    bool in_time = collect(program, pipes, out, &words);
    int status = wait_for(pid, in_time);
    if (program->words && words.len < program->words->max - program->words->len)
        buf_add(program->words, buf_str(&words), words.len);
    if (!in_time)
        return err_set(err, ERR_TIMEOUT, "git %s did not end in time", verb_of(program));
    if (status == 0)
        return 0;
    if (WIFSIGNALED(status) && words.len == 0)
        buf_addf(&words, "killed by signal %d", WTERMSIG(status));
    return program_explain(verb_of(program), &words, err);
}

int program_run(const struct program *program, struct buf *out, struct err *err)
{
    REQUIRE(program->argv.count > 0);
    struct pipes pipes = {{-1, -1}, {-1, -1}};
    if (program->argv.failed || program->env.failed)
        return err_set(err, ERR_TOO_LARGE, "too many arguments for git");
    int rc = pipe2(pipes.out, O_CLOEXEC) || pipe2(pipes.words, O_CLOEXEC)
                 ? err_sys(err, "cannot make a pipe")
                 : run_with(program, &pipes, out, err);
    for (int i = 0; i < 2; i++) {
        fd_close(&pipes.out[i]);
        fd_close(&pipes.words[i]);
    }
    return rc;
}
