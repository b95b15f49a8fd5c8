/* The environment of a shell's programs: see box_private.h. */
#include "runner/box/box_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Lists the variables that a shell with this state would export, by starting one. */
int box_shell_env(const struct work *work, struct err *err)
{
    static const char script[] = ". /dev/fd/100 >/dev/null 2>&1; \\builtin exec env -0";
    const char *name = json_text(json_get(work->ask, "shell"));
    int ends[2];
    AUTO(buf) struct buf out = BUF_INIT(4u << 20), answer = BUF_INIT(16u << 20);
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "environment");
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char[]){"bash"}, (char[]){"--noprofile"},   (char[]){"--norc"},
                        (char[]){"-c"},   (char *)(uintptr_t)script, NULL};
        int state = box_state_open(work->box, name ? name : "default");
        dup2(ends[1], 1);
        dup2(open("/dev/null", O_RDWR), 0);
        dup2(0, 2);
        if (state < 0)
            state = open("/dev/null", O_RDONLY);
        dup2(state, 100);
        execve("/bin/bash", argv, work->box->env.items);
        _exit(127);
    }
    close(ends[1]);
    int rc = pid < 0 ? err_sys(err, "environment") : fd_read_all(ends[0], &out, err);
    close(ends[0]);
    if (rc)
        return -1;
    struct json_writer w;
    json_write(&w, &answer);
    json_open_object(&w, NULL);
    for (size_t at = 0; at < out.len; at += strlen(out.data + at) + 1) {
        const char *equals = strchr(out.data + at, '=');
        char member[512];
        size_t len = equals ? (size_t)(equals - (out.data + at)) : 0;
        if (len == 0 || len >= sizeof(member) || out.data[at] == '_')
            continue;
        snprintf(member, sizeof(member), "%.*s", (int)len, out.data + at);
        json_add_text(&w, member, equals + 1);
    }
    json_close(&w);
    box_work_body(work, &answer);
    return 0;
}
