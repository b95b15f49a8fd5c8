/*
 * The house around hostile programs: a directory with secrets, a process of the tasks' own user,
 * listeners, and shared memory. It stands outside of what a jail shows, and what is done to it is
 * found out by looking.
 */
#ifndef JAIL_HOUSE_H
#define JAIL_HOUSE_H

#include <stddef.h>
#include <sys/types.h>

#define TOKEN "canary-7f3a91c2"

struct house {
    char *dir, *secret, *mine, *precious, *socket, *datagrams, *shm_file;
    char abstract[32], queue[32], left[32], mark[48];
    int listeners[3]; /* unix, abstract, TCP */
    int mailbox;      /* unix, of datagrams */
    int port, shm, key;
    pid_t outsider;
    uid_t uid; /* whom tasks run as */
};
extern struct house house;

void build_house(void);
void leave_house(void);

/* Says what has happened to the house; NULL for nothing. */
const char *damage(char *room, size_t size);

#endif
