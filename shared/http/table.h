/*
 * The guard's table, for the two files that work on it: guard.c judges, conn.c fills.
 *
 * Threads: as each field says. Ownership: the table owns its connections, each from accept() until
 * its worker forgets it.
 */
#ifndef HTTP_TABLE_H
#define HTTP_TABLE_H

#include "base/lock.h"
#include "base/thread.h"
#include "http/guard.h"

#include <pthread.h>

struct guard {
    struct guard_config config;
    int reserve; /* workers that should be free */
    _Atomic int held;
    _Atomic bool pressed;
    _Atomic bool draining;
    _Atomic uint64_t cut_count;

    struct lock lock; /* guards the fields below; held for no I/O except shutdown and ioctl */
    pthread_cond_t wake;
    struct conn **table; /* by descriptor */
    size_t table_size;
    size_t count;
    bool asleep; /* the thread waits without a time limit */
    bool quit;
    struct thread thread;
};

/* Makes the guard's thread look now. */
void guard_wake(struct guard *guard);
int guard_free_workers(const struct guard *guard);

int64_t conn_waited_us(const struct conn *conn, int64_t now_us);
bool conn_has_unread(const struct conn *conn);
void conn_free(struct conn *conn);

#endif
