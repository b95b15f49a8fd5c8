/*
 * An instance of the service, as the files of this room see it. Private to runner/replica.
 *
 * Threads: any. Ownership: the texts of a request are borrowed.
 */
#ifndef REPLICA_PRIVATE_H
#define REPLICA_PRIVATE_H

#include "base/cond.h"
#include "base/lock.h"
#include "base/thread.h"
#include "runner/replica/replica.h"

#define REPLICA_NAME_SIZE 256

struct adopted {
    char id[ID_SIZE];
    bool secrets; /* it was submitted with some, which are not here */
    int64_t created_ms;
};

struct replica {
    struct replica_config config;
    struct overflow_shared shared;
    struct thread thread;
    struct lock adopting; /* held across I/O: one task is adopted at a time */
    struct lock lock;     /* of what follows */
    pthread_cond_t wake;
    bool stop;
    bool woken;              /* there is a new webhook to look after */
    struct adopted *adopted; /* a ring */
    size_t count;            /* ever */
};

/* tasks/ID/WHAT */
void replica_name(const char *id, const char *what, char ret_name[REPLICA_NAME_SIZE]);
/* PLACE/ID */
void replica_name_in(const char *place, const char *id, char ret_name[REPLICA_NAME_SIZE]);

/* Writes an object that must not exist: else ERR_MISMATCH. */
int replica_put(const struct cloud *cloud, const char *name, const char *type, const void *data,
                size_t len, struct err *err);
bool replica_has(const struct cloud *cloud, const char *name);

/* A task with a webhook was taken. */
void replica_wake(struct replica *service);

/* True when all tasks of a group are in the bucket (taken.c). */
bool replica_group_is_whole(const struct cloud *cloud, const char *group, int *ret_count,
                            struct err *err);

#endif
