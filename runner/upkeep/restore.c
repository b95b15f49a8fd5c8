/*
 * `claude-runner restore FILE`: a backup becomes the state of a runner that has none yet.
 *
 * All is unpacked beside and looked at first; the database, without which nothing counts, is put
 * in its place last.
 */
#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "db/db.h"
#include "runner/upkeep/copies.h"
#include "runner/upkeep/gnutar.h"
#include "runner/upkeep/machine.h"
#include "runner/upkeep/upkeep.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIALS_MAX (1u << 20)

static const char usage[] =
    "usage: claude-runner restore [--env-file FILE] FILE\n"
    "\n"
    "Puts back what `claude-runner backup` has copied; - is standard input, not packed. The "
    "runner\n"
    "must not run, and its state folder must hold no state yet. The login that a backup has is "
    "taken\n"
    "where there is none.\n"
    "\n"
    "  --env-file FILE   the service's settings; default: /etc/claude-runner.env, else ./.env\n";

struct restore {
    const struct config *config;
    char *place; /* where the backup is unpacked */
    int lock;
};

static void auto_restore(struct restore *restore)
{
    struct err ignored;
    if (restore->place)
        path_remove_tree(restore->place, &ignored);
    free(restore->place);
    fd_close(&restore->lock);
}

/* No runner may use the folder, and no state may be there. */
static int take_folder(struct restore *restore, struct err *err)
{
    const char *dir = restore->config->state_dir;
    AUTO(str) char *lock = path_join(dir, "lock");
    AUTO(str) char *database = path_join(dir, "runner.db");
    AUTO(str) char *place = path_join(dir, "restore.XXXXXX");
    if (!lock || !database || !place)
        return err_sys(err, "restore");
    if (path_make_dirs(dir, 0711, err))
        return -1;
    restore->lock = file_lock(lock, err);
    if (restore->lock < 0)
        return err->code == ERR_CONFLICT
                   ? err_set(err, ERR_CONFLICT, "a runner uses '%s': stop it first", dir)
                   : -1;
    if (access(database, F_OK) == 0)
        return err_set(err, ERR_CONFLICT, "'%s' holds a state already: move it away first", dir);
    if (!mkdtemp(place))
        return err_sys(err, "cannot make a folder in '%s'", dir);
    restore->place = STEAL_PTR(place);
    return 0;
}

static int unpack(const struct restore *restore, const char *file, struct err *err)
{
    AUTO(strlist) struct strlist words = STRLIST_INIT;
    static const char *const always[] = {"--extract",          "--xattrs",
                                         "--xattrs-include=*", "--preserve-permissions",
                                         "--numeric-owner",    "--force-local"};
    for (size_t i = 0; i < COUNT_OF(always); i++)
        strlist_add(&words, always[i]);
    strlist_addf(&words, "--file=%s", file);
    strlist_addf(&words, "--directory=%s", restore->place);
    return gnutar_run(&words, err);
}

static int check_database(const struct restore *restore, struct err *err)
{
    AUTO(str) char *path = path_join(restore->place, BACKUP_DATABASE);
    if (!path || access(path, F_OK))
        return err_set(err, ERR_INVALID, "this is no backup of a runner: it has no database");
    AUTO(db) struct db *db = db_open(path, DB_WRITE, err);
    if (!db)
        return err_wrap(err, "the database");
    AUTO(db_stmt) struct db_stmt *row = db_query(db, err, "PRAGMA integrity_check", "");
    if (!row || db_step(row, err) < 0)
        return err_wrap(err, "the database");
    const char *verdict = db_text(row, 0);
    if (!verdict || strcmp(verdict, "ok") != 0)
        return err_set(err, ERR_INVALID, "the backup's database is damaged: %s",
                       verdict ? verdict : "it says nothing");
    return 0;
}

static int move(const char *from_dir, const char *from, const char *to_dir, const char *to,
                struct err *err)
{
    AUTO(str) char *old = path_join(from_dir, from);
    AUTO(str) char *new = path_join(to_dir, to);
    if (!old || !new)
        return err_sys(err, "restore");
    return rename(old, new) ? err_sys(err, "cannot put '%s' in its place", new) : 0;
}

static int move_all(const struct restore *restore, struct err *err)
{
    int rc = 0;
    struct dirent *entry;
    REQUIRE(restore->place);
    DIR *dir = opendir(restore->place);
    if (!dir)
        return err_sys(err, "restore");
    while (rc == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, BACKUP_COPIES) != 0)
            rc =
                move(restore->place, entry->d_name, restore->config->state_dir, entry->d_name, err);
    closedir(dir);
    return rc;
}

/* 1 when the backup's login was taken. */
static int take_login(const struct restore *restore, struct err *err)
{
    struct stat st;
    AUTO(buf_wipe) struct buf text = BUF_INIT(CREDENTIALS_MAX);
    AUTO(str) char *from = path_join(restore->place, BACKUP_CREDENTIALS);
    AUTO(str) char *to = path_join(restore->config->claude_config_dir, ".credentials.json");
    if (!from || !to)
        return err_sys(err, "restore");
    if (access(from, F_OK))
        return 0;
    if (lstat(to, &st) == 0) {
        fprintf(stderr, "the login that is there already stays: '%s'\n", to);
        return 0;
    }
    if (file_read(from, &text, err) ||
        path_make_dirs(restore->config->claude_config_dir, 0700, err) ||
        file_replace(to, text.data, text.len, 0600, err))
        return err_wrap(err, "the login");
    return 1;
}

static int put_back(struct restore *restore, const char *file, struct err *err)
{
    if (take_folder(restore, err) || unpack(restore, file, err) || check_database(restore, err) ||
        move_all(restore, err))
        return -1;
    int login = take_login(restore, err);
    if (login < 0 ||
        move(restore->place, BACKUP_DATABASE, restore->config->state_dir, "runner.db", err))
        return -1;
    AUTO(str) char *database = path_join(restore->config->state_dir, "runner.db");
    AUTO(str) char *key = path_join(restore->config->state_dir, "secret.key");
    if (!database || !key)
        return err_sys(err, "restore");
    if (file_sync_directory(database, err))
        return -1;
    fprintf(stderr, "restored into '%s'%s\n", restore->config->state_dir,
            login ? ", with the login" : "");
    if (access(key, F_OK))
        fputs("without secrets: tasks that wait and were given some will fail as secrets_lost\n",
              stderr);
    return 0;
}

int upkeep_restore(int argc, char **argv)
{
    struct err err;
    int status;
    struct upkeep_options options = {.usage = usage};
    AUTO(config) struct config *config = upkeep_settings(argc, argv, &options, &status);
    if (!config)
        return status;
    if (!options.argument || options.test || options.with_secrets) {
        fputs(usage, stderr);
        return 2;
    }
    __attribute__((cleanup(auto_restore))) struct restore restore = {.config = config, .lock = -1};
    return put_back(&restore, options.argument, &err) ? upkeep_failed("restore", &err) : 0;
}
