/* Crowds: ending what fills a session with processes. See box_private.h.
 *
 * Theory of operation. A process that forks all the time is not met by a list of processes and a
 * signal to each. Where the session has a pid namespace of its own, one call stops everybody at
 * once (the kernel lets no fork slip through kill(-1)); then there is time to look who is to end,
 * and the others go on; it comes first, because among a thousand busy processes the agent gets a
 * few milliseconds of the processor every second. Elsewhere whole process groups are stopped, again
 * and again: who is stopped keeps a place, so that those that fork run out of them. */
#include "runner/box/box_private.h"

#include "base/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define CROWD 48 /* processes that are met one by one */
#define STOP_ROUNDS 200
#define END_ROUNDS 1000
#define ROUND_MS 1
#define ROOM_ROUNDS 8
#define ROOM_MAX 16 /* processes for which there has to be room */
#define LOOK_MS 250
#define LOOK_SHARE 20 /* a look takes one part in so many of the time */

/* How many entries /proc has for processes, those that nobody has waited for included. */
static int count_entries(void)
{
    struct dirent *entry;
    int count = 0;
    DIR *proc = opendir("/proc");
    while (proc && (entry = readdir(proc)))
        count += isdigit((unsigned char)entry->d_name[0]) != 0;
    if (proc)
        closedir(proc);
    return count;
}

/* Stops everybody with the tag; how many were not stopped yet. */
static int stop_tagged(const struct box *box, int tag)
{
    size_t count;
    int found = 0;
    pid_t last = 0;
    struct process *list = box_processes_list(box, &count);
    for (size_t i = 0; i < count; i++) {
        if (list[i].tag != tag || list[i].stopped || list[i].pid <= 1)
            continue;
        found++;
        if (list[i].group > 1 && list[i].group != last && list[i].group != getpgrp())
            kill(-(last = list[i].group), SIGSTOP);
        kill(list[i].pid, SIGSTOP);
    }
    free(list);
    return found;
}

/* True when everybody has been stopped. */
static bool halt(const struct box *box, int tag)
{
    if (box->alone && (box->seen > CROWD || count_entries() > CROWD)) {
        kill(-1, SIGSTOP);
        return true;
    }
    for (int i = 0; i < STOP_ROUNDS && stop_tagged(box, tag) > 0; i++)
        poll(NULL, 0, ROUND_MS);
    return false;
}

/* Lets everybody go on, those too that have yet to see that they are stopped. */
static void go_on(void)
{
    kill(-1, SIGCONT);
}

void box_tag_end(struct box *box, int tag)
{
    bool halted = halt(box, tag);
    for (int i = 0; i < END_ROUNDS && box_tag_signal(box, tag, 0, SIGKILL) > 0; i++) {
        poll(NULL, 0, ROUND_MS);
        if (halted)
            kill(-1, SIGSTOP); /* one with several threads may have forked while it stopped */
    }
    if (halted)
        go_on();
    box->seen = 0;
}

/* --- room ---------------------------------------------------------------------------------- */

/* The tag whose processes have most threads, idle shells and the like apart; -1: nobody's. */
static int fullest(const struct box *box, const struct process *list, size_t count)
{
    int tally[TAG_COUNT] = {0}, most = -1;
    for (size_t i = 0; i < count; i++) {
        int tag = list[i].tag;
        if (tag < 0 || tag >= TAG_COUNT || (tag == TAG_NONE && box_is_ours(box, list[i].pid)))
            continue;
        tally[tag] += list[i].threads;
        if (most < 0 || tally[tag] > tally[most])
            most = tag;
    }
    return most;
}

/* True when there is no room for a few more processes. */
static bool is_full(const struct box *box, const struct process *list, size_t count)
{
    int used = box->alone ? box->seen : (int)count + 2; /* 2: the agent and its init */
    int room = box->pids_max / 16 < ROOM_MAX ? box->pids_max / 16 + 1 : ROOM_MAX;
    for (size_t i = 0; i < count; i++)
        used += list[i].threads - 1;
    return box->pids_max > 0 && used + room > box->pids_max;
}

/* Ends a tag; the command that has it, if one is running, is told so. */
static void end_crowd(struct box *box, int tag)
{
    for (size_t i = 0; i < box->shell_count; i++) {
        struct shell *shell = &box->shells[i];
        if (!shell->run || shell->run->tag != tag)
            continue;
        box_note_cwd(shell);
        shell->run->killed = shell->run->crowd = true;
    }
    if (tag != TAG_NONE) {
        box_tag_end(box, tag);
        return;
    }
    size_t count; /* those that have hidden their tag; shells and workers have this one, too */
    struct process *list = box_processes_list(box, &count);
    for (size_t i = 0; i < count; i++)
        if (list[i].tag == tag && !box_is_ours(box, list[i].pid))
            kill(list[i].pid, SIGKILL);
    free(list);
}

bool box_make_room(struct box *box, const struct run *spared, bool force)
{
    bool any = false, halted = false;
    for (int i = 0; i < ROOM_ROUNDS; i++) {
        size_t count;
        box->seen = box->alone ? count_entries() : 0;
        if (box->alone && box->pids_max > 0 && box->seen > box->pids_max / 2) {
            kill(-1, SIGSTOP);
            halted = true;
        }
        struct process *list = box_processes_list(box, &count);
        int tag = force || is_full(box, list, count) ? fullest(box, list, count) : -1;
        free(list);
        if (tag < 0 || (spared && spared->tag == tag))
            break;
        end_crowd(box, tag);
        box_reap(box);
        any = true;
        force = false;
    }
    if (halted)
        go_on();
    box->swept = box->swept || any;
    return any;
}

void box_crowd_look(struct box *box)
{
    const struct run *spared = NULL; /* a command that runs alone may fill the session */
    size_t running = 0;
    int64_t now = clock_mono_ms();
    if (now < box->crowd_ms)
        return;
    for (size_t i = 0; i < box->shell_count; i++) {
        if (!box->shells[i].run)
            continue;
        spared = box->shells[i].run;
        running++;
    }
    if (running == 1 && spared->first)
        box->seen = count_entries(); /* all that runs is its own */
    else
        box_make_room(box, running == 1 ? spared : NULL, false);
    int64_t took = clock_mono_ms() - now;
    box->crowd_ms = now + took + (took * LOOK_SHARE > LOOK_MS ? took * LOOK_SHARE : LOOK_MS);
}
