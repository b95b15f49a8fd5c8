/*
 * What google-api was started with, and the settings that a test changes while it runs.
 *
 * Threads: the options are fixed before serving; settings are kept in the store, under its lock.
 */
#ifndef DOUBLES_GOOGLE_WORLD_H
#define DOUBLES_GOOGLE_WORLD_H

#include "google_call.h"

enum { WORLD_LIST_MAX = 64 };

extern struct world_options {
    int port;
    char base[64]; /* http://127.0.0.1:PORT */
    const char *state;
    const char *project;
    long long project_number;
    const char *account;   /* whose key file is written */
    const char *key_file;  /* or NULL */
    const char *user_file; /* or NULL */
    const char *metadata_account;
    const char *job_program; /* or NULL: executions fail to start */
    const char *job_args[WORLD_LIST_MAX];
    const char *job_env[WORLD_LIST_MAX];         /* NAME=VALUE */
    const char *accepted_tokens[WORLD_LIST_MAX]; /* fixed ones, of the account */
    int owner;                                   /* process with whose end all ends; 0: none */
} world;

/* A setting; 0 for one that there is not. */
int64_t world_setting(const char *name);
/* False when there is none of that name. */
bool world_set(const char *name, int64_t value);
cJSON *world_settings(void); /* a copy */

/* The token of the page after this name. */
char *call_page_token(const char *name);

#endif
